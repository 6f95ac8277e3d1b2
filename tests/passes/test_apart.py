"""A graph in two halves computes what the whole one does, however the samples are cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fml.engine.ir.graph import Graph
from fml.engine.ops.verify import verify
from fml.engine.passes.apart import cut_apart
from tests.engine.evaluate import evaluate
from tests.passes.graphs import SIZES, RandomGraph


def without_effects(graph: Graph) -> Graph:
    outputs = {name: n for name, n in graph.outputs.items() if name != "w"}
    return Graph(graph.name, [*graph], outputs).restricted_to(outputs.values())


@given(st.integers(0, 10_000))
def test_halves_compute_what_the_whole_does(seed: int) -> None:
    made = RandomGraph(seed)
    graph = without_effects(made.graph)
    whole = evaluate(graph, made.given, SIZES)
    halves = cut_apart(graph, "N")
    if halves is None:
        return
    verify(halves.each)
    verify(halves.all)
    pieces = [
        evaluate(
            halves.each,
            {k: v[i : i + 1] if v.shape == (3, 2) else v for k, v in made.given.items()},
            {"N": 1},
        )
        for i in range(SIZES["N"])
    ]
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    found = evaluate(halves.all, {**made.given, **joined}, SIZES)
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value)


def test_most_of_the_random_graphs_are_cut() -> None:
    graphs = [without_effects(RandomGraph(seed).graph) for seed in range(50)]
    assert sum(cut_apart(graph, "N") is not None for graph in graphs) > 15
