"""Tiles fetch the lines that the next ones write, and compute what they did."""

import numpy as np
import pytest
from compiled import built

from fml.engine.ir.graph import Graph
from fml.engine.ir.types import F32, tensor
from fml.engine.kernels.independence import all_of
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Store
from fml.engine.ops.build import Builder
from fml.engine.plan.cluster import Cluster
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of

HOST = Host.native()


def product(rows: int, terms: int, columns: int, *, updates: bool) -> tuple[Graph, Cluster, Kernel]:
    """The kernel of the gradient of weights, and with `updates` what follows from it."""
    b = Builder("gradient")
    x = b.add("feed", tensor(F32, terms, rows), (), {"name": "x"})
    g = b.add("feed", tensor(F32, terms, columns), (), {"name": "g"})
    gradient = x.call("transpose", order=(1, 0)) @ g
    outputs = {"gradient": gradient}
    if updates:
        w = b.add("variable", gradient.type, (), {"name": "w", "role": "param"})
        outputs |= {"new": b.call("assign", w, w - gradient, name="w")}
    graph = b.finish(outputs)
    (cluster,) = clusters(graph)
    return graph, cluster, kernel_of(graph, cluster, "kernel", HOST)


def fetching(kernel: Kernel) -> dict[str, set[int]]:
    """How far ahead the stores of each buffer fetch."""
    found: dict[str, set[int]] = {}
    for statement in all_of(kernel.body):
        if isinstance(statement, Store):
            found.setdefault(statement.buffer.name, set()).add(statement.ahead)
    return found


@pytest.mark.parametrize("updates", [False, True])
@pytest.mark.parametrize("columns", [512, 509])
def test_what_is_written_and_not_read_is_fetched_ahead(columns: int, updates: bool) -> None:
    rows, terms = 200, 16
    _, cluster, kernel = product(rows, terms, columns, updates=updates)
    found = fetching(kernel)
    ahead_of_out = found.pop("out")
    assert max(ahead_of_out) > 0
    # The last tile of a row, narrower than the others, has none beside it.
    assert columns % 16 or 0 not in ahead_of_out
    assert all(ahead == {0} for ahead in found.values()), "what is read is there already"

    rng = np.random.default_rng(0)
    x = rng.normal(size=(terms, rows)).astype(np.float32)
    g = rng.normal(size=(terms, columns)).astype(np.float32)
    w = rng.normal(size=(rows, columns)).astype(np.float32)
    gradient, old = np.zeros_like(w), w.copy()
    arrays = [x, g, w, gradient, w] if updates else [x, g, gradient]
    assert len(cluster.results) == 1 + updates
    scratch = [np.full(size, np.nan, np.float32) for size in kernel.scratch]
    built(kernel, HOST)([*arrays, *scratch], [0, kernel.parts] if kernel.parts else [])
    np.testing.assert_allclose(gradient, x.T @ g, rtol=1e-5, atol=1e-5)
    if updates:
        np.testing.assert_array_equal(w, old - gradient)


def test_sums_in_several_parts_are_read_again_and_not_fetched() -> None:
    _, _, kernel = product(256, 4096, 256, updates=False)
    assert fetching(kernel)["out"] == {0}
