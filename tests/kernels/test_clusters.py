"""Whole training steps as a few kernels: each computes what numpy computes node by node."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compiled import built

import fml
from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH
from fml.engine.ir.types import F32, Element, Label, tensor
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel
from fml.engine.kernels.text import show
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of, recipes_of

EXAMPLES = Path(__file__).parents[2] / "examples"
HOST = Host.native()

NETWORK = """
data d = given { x: f32[8, 8, 3]; y: label[5]; split train 80%, test 20% }
model net(x: f32[N, 8, 8, 3]) -> f32[N, 5] =
  x |> conv(7, 3, stride = 2) |> batch_norm |> relu |> max_pool(2) |> flatten
    |> dense(20) |> layer_norm |> tanh |> dropout(0.3) |> dense(5)
train {
  n = net()
  feed x, y from d.train |> shuffle |> batch(6)
  minimize loss = cross_entropy(n(x), y, smoothing = 0.1) + 1e-3 * l2(n.**.W)
  using OPTIMIZER
  stop after 3 epochs
}
"""
OPTIMIZERS = (
    "sgd(0.1)", "momentum(0.1)", "nesterov(0.1)", "adam(0.01)", "clip_norm(1.0) |> adamw(0.01)",
    "rmsprop(0.01)", "adagrad(0.01)",
)  # fmt: skip


def step_of(program: fml.Program, batch: int, plan: str | None = None) -> Graph:
    """The graph of a training step, for batches of a size."""
    training = program.lower(plan)
    sizes = {str(STEPS_PER_EPOCH): 100, str(LEARNERS): 1} | {f.dim: batch for f in training.feeds}
    return optimise(training.step, sizes)


def provided(node: Node, rng: np.random.Generator) -> Array:
    """Something for what the runtime provides."""
    type = node.type
    if isinstance(type.element, Label):
        return rng.integers(0, type.element.classes.size, type.sizes).astype(np.int32)
    assert isinstance(type.element, Element)
    if type.element is Element.BOOL:
        return np.asarray(True)
    if not type.element.is_float:
        return rng.integers(0, 9, type.sizes).astype(type.dtype)
    # Slots that are squares must not be negative.
    made = rng.uniform(0.1, 1.0, type.sizes)
    return stored(made if node.attributes.get("role") == "slot" else made - 0.5, type)


def by_nodes(
    graph: Graph, given_by: Callable[[Node, np.random.Generator], Array] = provided
) -> dict[int, Array]:
    """Every value, as numpy computes it, where something else is given by the runtime."""
    rng = np.random.default_rng(3)
    values: dict[int, Array] = {}
    for node in graph:
        if OPS[node.op].runtime:
            values[node.id] = given_by(node, rng)
        else:
            given = [values[value] for value in node.inputs]
            values[node.id] = np.ascontiguousarray(
                computed(OPS[node.op], given, node.attributes, node.type)
            )
    return values


def run(kernel: Kernel, arrays: list[Array]) -> None:
    """Call it with scratch memory full of what is no number, in two parts if it has parts."""
    scratch = [np.full(size, np.nan) for size in kernel.scratch]
    call, parts = built(kernel, HOST), kernel.parts
    for sizes in ([0, parts // 2], [parts // 2, parts]) if parts else ([],):
        call([*arrays, *scratch], sizes)


def _rounding(node: Node, values: dict[int, Array]) -> float:
    """How far a sum may be from the exact one: its terms may cancel out."""
    if node.op != "sum":
        return 0.0
    (x,) = (values[value].astype(np.float64) for value in node.inputs)
    terms = x.size / max(values[node.id].size, 1)
    sizes = computed(OPS["sum"], [np.abs(x)], node.attributes, node.type)
    return 4 * (terms**0.5 + 1) * 2.0**-24 * float(sizes.max(initial=0))


def check(graph: Graph) -> None:
    """Each cluster on numpy's inputs, its results beside numpy's."""
    values = by_nodes(graph)
    ready = {node.id for node in graph if OPS[node.op].runtime or node.op == "constant"}
    for cluster in clusters(graph):
        assert set(cluster.inputs) <= ready, "a cluster reads what is not computed yet"
        ready |= set(cluster.nodes)
        results = [np.zeros_like(values[value]) for value in cluster.results]
        arrays = [*(np.array(values[value]) for value in cluster.inputs), *results]
        kernel = kernel_of(graph, cluster, "kernel", HOST)
        for read, written in kernel.shared:
            arrays[written] = arrays[read]
        run(kernel, arrays)
        for value, found in zip(cluster.results, arrays[len(cluster.inputs) :], strict=True):
            wanted = values[value]
            size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3)
            least = max(2e-5 * size, _rounding(graph[value], values))
            what = f"{graph[value].op} of {[graph[n].op for n in cluster.nodes]}"
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=least, err_msg=what)
    assert all(value in ready for value in graph.outputs.values())
    assert all(node.id in ready for node in graph if OPS[node.op].effect)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_of_a_network(optimizer: str) -> None:
    program = fml.loads(NETWORK.replace("OPTIMIZER", optimizer))
    check(step_of(program, 6))


@pytest.mark.parametrize(
    ("file", "batch"),
    [("lenet_fashion", 3), ("resnet_fashion", 2), ("mlp_regularised", 5), ("perceptron", 4)],
)
def test_steps_of_the_examples(file: str, batch: int) -> None:
    program = fml.load(EXAMPLES / f"{file}.fml")
    check(step_of(program, batch))


def test_clusters_that_are_alike_have_one_kernel() -> None:
    """Layers of the same sizes differ in the names of their parameters alone."""
    graph = step_of(fml.load(EXAMPLES / "resnet_fashion.fml"), 2)
    found = clusters(graph)
    recipes = recipes_of(graph, found)
    first: dict[str, str] = {}
    for recipe in recipes:
        shown = show(recipe.make("k", HOST))
        assert first.setdefault(recipe.key, shown) == shown
    assert len(first) < len(found) * 3 / 4


def test_clusters_that_differ_in_the_bits_of_a_number_are_not_alike() -> None:
    keys: set[str] = set()
    for value in (0.0, -0.0, 1.0, 1, True):
        builder = GraphBuilder("step")
        x = builder.add("feed", tensor(F32, 4), (), {"name": "x"})
        number = builder.add("constant", tensor(F32), (), {"value": value})
        y = builder.add("multiply", tensor(F32, 4), (x, number))
        graph = builder.finish({"y": y})
        (recipe,) = recipes_of(graph, clusters(graph))
        keys.add(recipe.key)
    assert len(keys) == 5


def test_what_belongs_together_is_one_kernel() -> None:
    """Of LeNet's step: softmax, its loss and its gradient; an update; a pool's gradient."""
    graph = step_of(fml.load(EXAMPLES / "lenet_fashion.fml"), 16)
    found = [{graph[n].op for n in cluster.nodes} for cluster in clusters(graph)]
    assert any({"max", "exp", "sum", "log"} <= ops for ops in found)
    assert any({"assign", "multiply", "subtract"} <= ops for ops in found)
    assert any({"max_pool_gradient", "select", "sum"} <= ops for ops in found)
    assert any({"conv", "add", "maximum"} <= ops for ops in found)
    assert any({"matmul", "add"} <= ops for ops in found)
    assert any({"sum", "add", "maximum"} <= ops for ops in found)  # of a product in parts
    assert len(found) < len(graph) / 4
