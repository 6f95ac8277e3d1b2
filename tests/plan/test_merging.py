"""What averaging does to a parameter is one kernel of its learner and one of the central model."""

from collections import Counter

import numpy as np
import pytest

import fml
from fml.engine.backends.interface import Backend
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH
from fml.engine.ir.types import F32, tensor
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.cluster import Cluster
from fml.engine.plan.clusters import clusters
from fml.engine.runtime.trainer import train

NETWORK = """
data d = given { x: f32[6, 6, 1]; y: label[5] }
model net(x: f32[N, 6, 6, 1]) -> f32[N, 5] =
  x |> conv(8, 3) |> relu |> flatten |> dense(24) |> relu |> dense(5)
train {
  z = net()
  learners 2 per device {
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    minimize loss = cross_entropy(w(x), y)
    using momentum(warmup(0.1, 10 steps))
  }
  use BY
  stop after 1 epoch
}
"""

# Its gradients are the rows of x: what follows is arithmetic of the same entries on any backend.
LINEAR = """
data d = given { x: f32[40] }
model sums(x: f32[N, 40]) -> f32[N] { param w: f32[40] ~ zeros
  sum(w * x, over = -1) }
train {
  z = sums()
  learners LEARNERS per device {
    w = replica(z)
    feed x from d.train |> shuffle |> batch(1)
    minimize loss = mean(w(x))
    using momentum(0.1)
  }
  use BY
  stop after 2 epochs
}
"""


def step_of(by: str) -> Graph:
    training = fml.loads(NETWORK.replace("BY", by)).lower(None)
    sizes = {str(STEPS_PER_EPOCH): 100, str(LEARNERS): 2} | {f.dim: 4 for f in training.feeds}
    return optimise(training.step, sizes)


def assigned(graph: Graph, cluster: Cluster) -> dict[str, str]:
    """The variables that a cluster writes, by their first name: `w` for `w.dense.W`."""
    nodes = (graph[node] for node in cluster.nodes if graph[node].op == "assign")
    names = (str(node.attributes["name"]) for node in nodes)
    return {name.partition(".")[0]: name.partition(".")[2] for name in names}


@pytest.mark.parametrize("by", ["sma(learners.w, z)", "easgd(learners.w, z)"])
def test_a_parameter_is_averaged_in_one_kernel_of_a_learner_and_a_central_one(by: str) -> None:
    graph = step_of(by)
    found = Counter(str(sorted(assigned(graph, cluster))) for cluster in clusters(graph))
    central = "['previous_0', 'z']" if by.startswith("sma") else "['z']"
    assert found[central] == found["['momentum', 'w']"] == 6
    assert sum("'z'" in what or "'w'" in what for what in found) == 2


def test_an_update_whose_rate_depends_on_the_run_is_the_end_of_its_gradient() -> None:
    """The rate is a number of 64 bits that is narrowed behind all gradients."""
    graph = step_of("local_sgd(learners.w, z, 1 step)")
    for cluster in clusters(graph):
        ops = {graph[node].op for node in cluster.nodes}
        if "momentum" in assigned(graph, cluster):
            assert ops & {"conv_weight_gradient", "matmul", "sum"}


def test_what_the_centre_averages_are_the_parameters_themselves() -> None:
    """Nothing else is written that would have to be fetched first, though all get the mean then."""
    graph = step_of("local_sgd(learners.w, z, 1 step)")
    found = Counter(str(sorted(assigned(graph, cluster))) for cluster in clusters(graph))
    assert found["['momentum', 'w']"] == found["['z']"] == found["['w']"] == 6
    for view in graph.of_op("all_learners"):
        assert graph[view.inputs[0]].op == "assign"


@pytest.mark.parametrize("learners", [2, 3])
@pytest.mark.parametrize(
    "by",
    [
        "sma(learners.w, z)",
        "sma(learners.w, z, tau = 3 steps)",
        "local_sgd(learners.w, z, 1 step)",
        "diloco(learners.w, z, tau = 2 steps)",
    ],
)
def test_averages_have_the_bits_of_numpy(by: str, learners: int) -> None:
    x = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)

    def trained(backend: Backend) -> dict[str, Array]:
        program = fml.loads(LINEAR.replace("LEARNERS", str(learners)).replace("BY", by))
        return train(program.lower(None), {"d": {"train": {"x": x}}}, backend).variables

    ours, theirs = trained(LlvmBackend()), trained(NumpyBackend())
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, name)


# --- what must not be put together ---------------------------------------------------------------


def variable(b: Builder, name: str, *shape: int) -> Value:
    return b.add("variable", tensor(F32, *shape), (), {"name": name, "role": "param"})


def places(graph: Graph, *values: Value) -> list[int]:
    """The cluster of each value, by its place."""
    found = clusters(graph)
    return [
        next(n for n, cluster in enumerate(found) if value.id in cluster.nodes) for value in values
    ]


def test_nothing_is_put_together_around_what_comes_between() -> None:
    """The mean of x + 1 must be known before it is taken from x + 1."""
    b = Builder("step")
    x, y = (b.add("feed", tensor(F32, 8, 4), (), {"name": name}) for name in "xy")
    first = (x @ b.add("feed", tensor(F32, 4, 4), (), {"name": "w"})) + 1.0
    mean = first.call("sum", axes=(0, 1), keep=False)
    last = (first - mean.call("broadcast", shape=x.type.shape)) * y
    graph = b.finish({"first": first, "last": last})
    one, between, other = places(graph, first, mean, last)
    assert one < between <= other


def test_who_reads_a_variable_elsewhere_has_done_so_before_it_is_written() -> None:
    """w goes into the product that makes its gradient's input: the update stays behind it."""
    b = Builder("step")
    w, x, g = variable(b, "w", 4, 4), variable(b, "x", 4, 4), variable(b, "g", 4, 4)
    gradient = x @ g
    mirrored = (gradient @ w).call("tanh")
    new = b.call("assign", w, w - gradient, name="w")
    graph = b.finish({"y": mirrored})
    assert graph[new.id].op == "assign"
    made, read, written = places(graph, gradient, mirrored, new)
    assert made < read < written
