"""Passes that learners need, on the steps of all strategies: each pass changes no result.

Sums across devices are made in another order, hence the 1e-12; all else is in float64, too.
"""

import zlib

import numpy as np
import pytest

from fml.engine.autodiff.expand import expand_gradients
from fml.engine.ir.graph import Graph, Node
from fml.engine.ops.record import Array
from fml.engine.ops.verify import verify
from fml.engine.passes.pipeline import passes
from tests.engine.evaluate import evaluate
from tests.runtime.test_strategies import STRATEGIES, plan

LEARNERS, BATCH = 4, 4
SIZES = {"N": BATCH, "learners": LEARNERS, "devices": 2}


def step(by: str) -> Graph:
    return expand_gradients(plan(by, LEARNERS).step)


class Moment:
    """What the run provides in a step in which everything, or only what always is, is due."""

    def __init__(self, *, everything: bool) -> None:
        self.everything = everything

    def __call__(self, node: Node) -> Array:
        value = self._one(node)
        if not node.mapped:
            return value
        if node.op in {"variable", "feed"}:
            return np.stack([value + learner for learner in range(LEARNERS)])
        return np.stack([value] * LEARNERS)

    def _one(self, node: Node) -> Array:
        if node.op == "fires":
            is_always = (node.attributes["amount"], node.attributes["unit"]) == (1, "steps")
            return np.asarray(is_always or self.everything)
        if node.op == "counter":
            return np.asarray(7.0)
        sizes = node.type.substitute(SIZES).sizes
        rng = np.random.default_rng(zlib.crc32(repr(sorted(node.attributes.items())).encode()))
        return np.asarray(rng.normal(size=sizes))


@pytest.mark.parametrize("everything", [True, False], ids=["due", "not due"])
@pytest.mark.parametrize("by", STRATEGIES)
def test_passes_leave_a_strategy_what_it_computes(by: str, everything: bool) -> None:
    graph = step(by)
    moment = Moment(everything=everything)
    wanted = evaluate(graph, moment, SIZES, LEARNERS)
    for one in passes(SIZES):
        graph = one.run(graph)
        verify(graph)
        found = evaluate(graph, moment, SIZES, LEARNERS)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=f"{one}: {name}")


@pytest.mark.parametrize("by", STRATEGIES)
def test_learners_read_no_central_clock(by: str) -> None:
    """So no learner waits for a task that all share, only to know the time."""
    graph = step(by)
    for one in passes(SIZES):
        graph = one.run(graph)
    clocks = {n.id for n in graph if n.op in {"counter", "fires"} and not n.mapped}
    read = {value for node in graph if node.mapped for value in node.needs}
    assert not clocks & read
    assert not graph.of_op("learners_reduce")
    assert not graph.of_op("learners_roll")


def test_every_pass_finds_something_to_do_in_a_strategy() -> None:
    done: set[str] = set()
    for by in STRATEGIES:
        graph = step(by)
        for one in passes(SIZES):
            after = one.run(graph)
            if after != graph:
                done.add(type(one).__name__)
            graph = after
    assert {"Localise", "LearnersAxis", "LastAssignments", "DecidedGuards"} <= done
