"""Each pass: its golden text, and that what it makes is valid and computes the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.text import dump, read
from fml.engine.ir.types import TensorType
from fml.engine.ops.verify import verify
from fml.engine.passes.decided_guards import DecidedGuards
from fml.engine.passes.fold_constants import FoldConstants
from fml.engine.passes.last_assignments import LastAssignments
from fml.engine.passes.learners_axis import LearnersAxis
from fml.engine.passes.localise import Localise
from fml.engine.passes.merge_duplicates import MergeDuplicates
from fml.engine.passes.pipeline import Pass, optimise
from fml.engine.passes.products_in_parts import ProductsInParts
from fml.engine.passes.remove_dead import RemoveDead
from fml.engine.passes.simplify import Simplify
from fml.engine.passes.specialise import Specialise
from fml.engine.passes.sums_in_parts import SumsInParts
from tests.engine.evaluate import evaluate
from tests.passes.graphs import SIZES, RandomGraph

HERE = Path(__file__).parent
PASSES: dict[str, Pass] = {
    "decided_guards": DecidedGuards(),
    "fold_constants": FoldConstants(limit=64),
    "last_assignments": LastAssignments(),
    "learners_axis": LearnersAxis(learners=6, devices=2),
    "localise": Localise(),
    "merge_duplicates": MergeDuplicates(),
    "products_in_parts": ProductsInParts(most_rows=4, least_entries=48),
    "remove_dead": RemoveDead(),
    "simplify": Simplify(),
    "specialise": Specialise({"N": 5, "H": 8, "classes": 3}),
    "sums_in_parts": SumsInParts(least_entries=100),
}
OF_LEARNERS = {"decided_guards", "last_assignments", "learners_axis", "localise"}
# What adds up in another order, which is tested on graphs of its own.
IN_PARTS = {"products_in_parts", "sums_in_parts"}
CASES = sorted(HERE.glob("*/*.before.txt"))


@pytest.mark.parametrize("before", CASES, ids=lambda p: f"{p.parent.name}-{p.name.split('.')[0]}")
def test_golden(before: Path, golden: Callable[[Path, str], None]) -> None:
    graph = read(before.read_text(encoding="utf-8"))
    verify(graph)
    after = PASSES[before.parent.name].run(graph)
    verify(after)
    golden(before.with_name(before.name.replace("before", "after")), dump(after))


def test_every_pass_has_golden_text() -> None:
    assert {path.parent.name for path in CASES} == PASSES.keys()


def assert_same_results(before: Graph, after: Graph, given: dict[str, np.ndarray]) -> None:
    verify(after)
    with np.errstate(all="ignore"):
        wanted, found = evaluate(before, given, SIZES), evaluate(after, given, SIZES)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", sorted(PASSES.keys() - IN_PARTS))
def test_a_pass_changes_no_result(name: str, seed: int) -> None:
    made = RandomGraph(seed)
    bind = Specialise(SIZES)
    graph = made.graph if name == "specialise" else bind.run(made.graph)
    one = bind if name == "specialise" else PASSES[name]
    assert_same_results(graph, one.run(graph), made.given)


def of_each(node: Node) -> tuple[int, ...]:
    """The sizes of a value, or of one of each of two learners."""
    return (2, *node.type.sizes) if node.mapped else node.type.sizes


@pytest.mark.parametrize("name", sorted(IN_PARTS))
def test_what_is_added_up_in_parts_comes_to_the_same(name: str) -> None:
    """Within 4 (sqrt(K) + 1) eps of at most 40 terms, which are positive here."""
    for before in HERE.glob(f"{name}/*.before.txt"):
        graph = read(before.read_text(encoding="utf-8"))
        after = PASSES[name].run(graph)
        rng = np.random.default_rng(0)
        given = {
            str(node.attributes["name"]): rng.random(of_each(node)).astype(node.type.dtype)
            for node in graph.of_op("argument", "variable")
        }
        wanted, found = evaluate(graph, given, SIZES), evaluate(after, given, SIZES)
        assert found.keys() == wanted.keys()
        for output, value in wanted.items():
            np.testing.assert_allclose(found[output], value, rtol=4 * 8 * 2**-23)


@pytest.mark.parametrize("seed", range(40))
def test_all_passes_together_change_no_result(seed: int) -> None:
    made = RandomGraph(seed, nodes=50)
    after = optimise(made.graph, SIZES, check=True)
    assert_same_results(made.graph, after, made.given)
    assert len(after) < len(made.graph)


def test_the_random_graphs_give_every_pass_something_to_do() -> None:
    graphs = [Specialise(SIZES).run(RandomGraph(seed).graph) for seed in range(40)]
    # Those of learners: test_learner_passes.py
    for name in PASSES.keys() - {"specialise"} - OF_LEARNERS - IN_PARTS:
        changed = [graph for graph in graphs if PASSES[name].run(graph) != graph]
        assert len(changed) > 20, name


def test_passes_leave_nothing_more_to_do() -> None:
    for seed in range(20):
        once = optimise(RandomGraph(seed).graph, SIZES)
        for name in ("merge_duplicates", "remove_dead", "simplify"):
            assert PASSES[name].run(once) == once, name


# --- faults of sizes ---------------------------------------------------------------------------

FAULTS = [
    ("a name without a size", '%0 = argument() {name = "x"} : f32[M]', "E0329.*`M`"),
    ("of dim_value", "%0 = dim_value() {dim = dim(M)} : f32", "E0329.*`M`"),
    ("below 0", '%0 = argument() {name = "x"} : f32[N - 9]', "E0330.*-4"),
    ("not whole", '%0 = argument() {name = "x"} : f32[N/2]', "E0330.*5/2"),
]


@pytest.mark.parametrize(("what", "line", "message"), FAULTS)
def test_sizes_that_cannot_be_are_diagnostics(what: str, line: str, message: str) -> None:
    graph = read(f'graph "g"\n{line}\nreturn x = %0\n')
    with pytest.raises(FmlError, match=message):
        Specialise({"N": 5}).run(graph)


def test_sizes_are_definite_afterwards() -> None:
    graph = Specialise(SIZES).run(RandomGraph(1).graph)
    assert graph.names() == frozenset()
    assert all(isinstance(node.type, TensorType) and node.type.sizes is not None for node in graph)
