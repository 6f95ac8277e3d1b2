"""What is said to be made sample by sample is: no entry changes when another sample does."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import F32, tensor
from fml.engine.ops.build import Builder
from fml.engine.ops.by_sample import Reach, reaches
from fml.engine.ops.record import Op, Sample
from fml.engine.ops.table import OPS

RULED = [op for op in OPS.values() if op.by_sample or op.scalar]


def _followed(op: Op, given: Sample) -> Iterator[frozenset[int]]:
    """The choices of inputs whose first axis counts samples, and that are said to stay apart."""
    result = op.infer(given.types, given.attributes)
    long = [n for n, array in enumerate(given.arrays) if array.ndim and len(array) > 1]
    for count in range(1, len(long) + 1):
        for places in combinations(long, count):
            lengths = {len(given.arrays[place]) for place in places}
            if len(lengths) > 1 or not result.rank or result.sizes[0] not in lengths:
                continue
            if op.scalar is not None:
                if all(given.types[place].rank == result.rank for place in places):
                    yield frozenset(places)
            elif op.by_sample is not None and op.by_sample(
                given.types, given.attributes, result, frozenset(places)
            ):
                yield frozenset(places)


@pytest.mark.parametrize("op", RULED, ids=lambda op: op.name)
def test_a_sample_changes_its_own_entry_alone(op: Op) -> None:
    assert op.compute is not None
    for given in op.samples(np.random.default_rng(0)):
        result = op.infer(given.types, given.attributes)
        arrays = [a.astype(t.dtype) for a, t in zip(given.arrays, given.types, strict=True)]
        before = op.compute(arrays, given.attributes, result).copy()
        for follow in _followed(op, given):
            changed = [a.copy() if n in follow else a for n, a in enumerate(arrays)]
            for place in follow:
                changed[place][0] = arrays[place][-1]
            after = op.compute(changed, given.attributes, result)
            np.testing.assert_array_equal(after[1:], before[1:])


def test_the_rules_are_tried() -> None:
    tried = {
        op.name
        for op in RULED
        for given in op.samples(np.random.default_rng(0))
        for _ in _followed(op, given)
    }
    assert tried == {op.name for op in RULED}


# --- graphs -------------------------------------------------------------------------------------


def reach_of(make: str) -> Reach:
    """What the last node of a small graph depends on; x: f32[N, 3], W: f32[3, 2], v: f32[3]."""
    b = Builder("g")
    x = b.add("argument", tensor(F32, "N", 3), (), {"name": "x"})
    w = b.add("variable", tensor(F32, 3, 2), (), {"name": "W", "role": "param"})
    v = b.add("variable", tensor(F32, 3), (), {"name": "v", "role": "param"})
    n = x.type.shape[0]
    made = {
        "dense": lambda: (x @ w).call("exp"),
        "normal equations": lambda: x.call("transpose", order=(1, 0)) @ x,
        "pairs": lambda: x @ x.call("transpose", order=(1, 0)),
        "of samples": lambda: x.call("sum", axes=(1,), keep=False),
        "kept": lambda: x.call("max", axes=(1,), keep=True),
        "over samples": lambda: x.call("sum", axes=(0,), keep=False),
        "centred": lambda: x - x.call("sum", axes=(0,), keep=True),
        "count": lambda: x / b.call("dim_value", dim=n),
        "numbers of samples": lambda: b.call("iota", size=n, element=F32),
        "repeated": lambda: x * v.call("broadcast", shape=x.type.shape),
        "filled": lambda: x + b.constant(1.0, x.type),
        "turned over": lambda: x.call("flip", axis=0),
        "parameters": lambda: (v @ w).call("tanh"),
        "flat": lambda: x.call("reshape", shape=(n * 3,)),
        "apart again": lambda: x.call("reshape", shape=(n, x.type.shape[1] / 3, 3)),
        "longer": lambda: x.call("concat", x, axis=0),
        "wider": lambda: x.call("concat", x, axis=1),
    }[make]()
    graph = b.finish({"y": made})
    return reaches(graph, "N")[graph.outputs["y"]]


@pytest.mark.parametrize(
    ("make", "reach"),
    [
        ("dense", Reach.SAMPLE),
        ("normal equations", Reach.BATCH),
        ("pairs", Reach.BATCH),
        ("of samples", Reach.SAMPLE),
        ("kept", Reach.SAMPLE),
        ("over samples", Reach.BATCH),
        ("centred", Reach.BATCH),
        ("count", Reach.BATCH),
        ("numbers of samples", Reach.BATCH),
        ("repeated", Reach.SAMPLE),
        ("filled", Reach.SAMPLE),
        ("turned over", Reach.BATCH),
        ("parameters", Reach.NOTHING),
        ("flat", Reach.BATCH),
        ("apart again", Reach.SAMPLE),
        ("longer", Reach.BATCH),
        ("wider", Reach.SAMPLE),
    ],
)
def test_values_are_told_apart_by_what_they_depend_on(make: str, reach: Reach) -> None:
    assert reach_of(make) is reach


def test_a_guarded_value_is_in_doubt() -> None:
    b = Builder("g")
    x = b.add("argument", tensor(F32, "N"), (), {"name": "x"})
    fires = b.call("fires", amount=1, unit="steps")
    graph = b.finish({"y": x.call("exp")})
    nodes = [*graph]
    guarded = Node(9, "exp", nodes[-1].type, nodes[-1].inputs, guard=fires.id)
    graph = Graph("g", [*nodes, guarded], {"y": 9})
    assert reaches(graph, "N")[9] is Reach.BATCH
