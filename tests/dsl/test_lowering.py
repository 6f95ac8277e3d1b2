"""What text becomes: graphs, variables and schedules."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fml.dsl.program import check, lower
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source
from fml.engine.ir.text import dump, read
from fml.engine.ir.training import Role, Training
from fml.engine.ops.verify import verify
from fml.engine.passes.pipeline import optimise
from tests.backends import on_each_backend
from tests.dsl.programs import example, lowered, points, trained

GOLDEN = Path(__file__).parent / "golden"
PLANS = [
    ("linear_regression.fml", None),
    ("softmax_regression.fml", None),
    ("lenet_crossbow.fml", "crossbow"),
    ("lenet_crossbow.fml", "plain"),
]


def as_text(training: Training) -> str:
    """All graphs of a training, and its variables."""
    variables = [
        f"{v.name}: {v.type} {v.role.value}"
        + (" trained" if v.trained else "")
        + (" over learners" if v.mapped else "")
        + (f" replica of {v.replica_of}" if v.replica_of else "")
        for v in training.variables.values()
    ]
    graphs = [training.init, training.step, *(m.graph for m in training.measures)]
    return "\n\n".join(["\n".join(variables), *(dump(graph) for graph in graphs)])


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_lowered_text(name: str, plan: str | None, golden: Callable[[Path, str], None]) -> None:
    suffix = f".{plan}" if plan else ""
    golden(GOLDEN / f"{name.removesuffix('.fml')}{suffix}.txt", as_text(example(name, plan)))


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_lowered_graphs_are_valid_and_read_back(name: str, plan: str | None) -> None:
    training = example(name, plan)
    sizes = {"N": 8, "steps_per_epoch": 3, "learners": 4}
    for graph in (training.init, training.step, *(m.graph for m in training.measures)):
        verify(graph)
        assert read(dump(graph)) == graph
        optimise(graph, sizes, check=True)


def test_learners_are_an_axis_joined_only_by_reductions() -> None:
    training = example("lenet_crossbow.fml", "crossbow")
    graph = training.step
    reductions = graph.of_op("learners_reduce")
    # One per parameter of the model: the sum of the corrections in `use sma`.
    assert len(reductions) == 8
    assert all(graph[node.inputs[0]].mapped and not node.mapped for node in reductions)
    for node in graph:
        if not node.mapped and node.op != "learners_reduce":
            assert not any(graph[i].mapped for i in node.inputs), node
    assert all(node.guard is not None for node in reductions)


def test_corrections_read_the_replica_before_its_local_step() -> None:
    training = example("lenet_crossbow.fml", "crossbow")
    graph = training.step
    for reduction in graph.of_op("learners_reduce"):
        behind = graph.ancestors([reduction.inputs[0]])
        names = {graph[n].attributes["name"] for n in behind if graph[n].op == "variable"}
        assert any(str(name).startswith("w.") for name in names)
        # `before(w)`: no assignment of the step lies behind the correction.
        assert not any(graph[n].op == "assign" for n in behind)


def test_every_replica_has_a_central_variable() -> None:
    for plan in ("crossbow", "plain"):
        training = example("lenet_crossbow.fml", plan)
        replicas = [v for v in training.variables.values() if v.replica_of]
        assert len(replicas) == 8
        assert all(v.mapped and v.replica_of in training.variables for v in replicas)
        slots = [v for v in training.variables.values() if v.role is Role.SLOT]
        assert len(slots) == 8
        assert all(v.mapped for v in slots)


MODEL = """
data points = given { x: f32[3]; y: f32 }
layer block(units: dim)(x: f32[N, D]) -> f32[N, units] = x |> dense(units) |> tanh
model net(x: f32[N, D]) -> f32[N] {
  first = block(4)
  h = first(x) |> block(5) |> block(5)
  param v: f32[5] ~ normal(0, 0.1)
  h @ v
}
train {
  net = net()
  feed x, y from points.train
  minimize mse(net(x), y)
  using sgd(0.1)
  stop after 1 step
}
"""


def test_paths_are_bound_names_or_numbered_layers() -> None:
    names = set(lowered(MODEL).variables)
    assert names == {
        "net.first.dense.W", "net.first.dense.b", "net.block_0.dense.W", "net.block_0.dense.b",
        "net.block_1.dense.W", "net.block_1.dense.b", "net.v",
    }  # fmt: skip


def test_a_layer_value_applied_twice_shares_its_parameters() -> None:
    twice = MODEL.replace(
        "first(x) |> block(5) |> block(5)", "x |> same_size |> same_size |> block(5)"
    )
    twice = twice.replace("first = block(4)", "same_size = dense(3)").replace(
        "f32[N, D]) -> f32[N] {", "f32[N, 3]) -> f32[N] {"
    )
    names = set(lowered(twice).variables)
    assert names == {
        "net.same_size.W",
        "net.same_size.b",
        "net.block.dense.W",
        "net.block.dense.b",
        "net.v",
    }


def test_repeat_makes_fresh_copies() -> None:
    deep = MODEL.replace("first(x) |> block(5) |> block(5)", "x |> repeat(3, block(5))")
    deep = deep.replace("  first = block(4)\n", "")
    names = {n for n in lowered(deep).variables if n.endswith("W")}
    assert names == {f"net.block_{n}.dense.W" for n in range(3)}


def test_only_the_chosen_branch_has_parameters() -> None:
    text = MODEL.replace("dense(units)", "dense(units, bias = false)")
    assert not any(name.endswith(".b") for name in lowered(text).variables)


PLAN = """
option rate = 0.1 in 0 .. 1
data points = given {{ x: f32[3]; y: f32 }}
model linear(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ zeros
  x @ w
}}
train {{
  net = linear()
  feed x, y from points.train
  minimize J = mse(net(x), y)
  {update}
  stop after {steps} steps
}}
"""


def descend(data: dict[str, np.ndarray], steps: int, rate: float = 0.1) -> np.ndarray:
    """Gradient descent on the mean squared error, in float64."""
    x, y = data["x"].astype(float), data["y"].astype(float)
    w = np.zeros(3)
    for _ in range(steps):
        w -= rate * 2 / len(y) * x.T @ (x @ w - y)
    return w


@on_each_backend
@pytest.mark.parametrize(
    "update",
    [
        "using sgd(rate)",
        "net <- net - rate * grad(J, net)",
        "net.w <- net.w - rate * grad(J, net.w)",
        "each_step = rate\n  using sgd(each_step)",
        "descend net along grad(J, net) using sgd(rate)",
        "using clip_norm(1e9) |> sgd(rate)",
    ],
)
def test_one_update_written_in_many_ways(update: str) -> None:
    data = points()
    outcome = trained(PLAN.format(update=update, steps=7), {"points": data})
    np.testing.assert_allclose(outcome.variables["net.w"], descend(data, 7), rtol=1e-4)


def test_options_take_text_and_values() -> None:
    text = PLAN.format(update="using sgd(rate)", steps=1)
    by_text, by_value = lowered(text, rate="0.5"), lowered(text, rate=0.5)
    assert dump(by_text.step) == dump(by_value.step)
    assert dump(by_text.step) != dump(lowered(text).step)


@on_each_backend
def test_equations_take_effect_in_the_order_of_the_text() -> None:
    """`=` keeps the value of its moment; a later statement sees an earlier `<-`."""
    update = """old = net.w
  net.w <- net.w + 1
  net.w <- 2 * net.w + old"""
    outcome = trained(PLAN.format(update=update, steps=3), {"points": points()})
    w = 0.0
    for _ in range(3):
        old, w = w, w + 1
        w = 2 * w + old
    np.testing.assert_allclose(outcome.variables["net.w"], np.full(3, w))


@on_each_backend
def test_every_previous_and_when_follow_the_clock() -> None:
    """Plan-level blocks come after the step has grown by one."""
    update = """using sgd(0)
  every 2 steps { net.w <- net.w + step }
  when step == 5 { net.w <- net.w * 100 }"""
    outcome = trained(PLAN.format(update=update, steps=6), {"points": points()})
    w = 0.0
    for step in range(1, 7):
        if step % 2 == 0:
            w += step
        if step == 5:
            w *= 100
    np.testing.assert_allclose(outcome.variables["net.w"], np.full(3, w))


@on_each_backend
def test_previous_is_the_last_execution_of_its_place() -> None:
    update = """using sgd(0)
  every 1 step { net.w <- net.w + step - previous(step) + 1 }"""
    outcome = trained(PLAN.format(update=update, steps=4), {"points": points()})
    # The first time, previous(step) is step itself.
    np.testing.assert_allclose(outcome.variables["net.w"], np.full(3, 1.0 + 2 + 2 + 2))


@on_each_backend
def test_a_constraint_holds_for_every_stored_value() -> None:
    text = (
        PLAN.format(update="using sgd(1)", steps=5)
        .replace("param w: f32[D] ~ zeros", "param w: f32[D, 1] ~ ones where max_norm(0.5)")
        .replace("x @ w", "sum(x @ w, over = 1)")
    )
    outcome = trained(text, {"points": points()})
    assert np.linalg.norm(outcome.variables["net.w"]) <= 0.5 + 1e-6


@on_each_backend
def test_frozen_parameters_stay() -> None:
    text = PLAN.format(update="using sgd(0.1)", steps=5).replace(
        "x @ w", "param b: f32 ~ constant(3) where frozen\n  x @ w + b"
    )
    outcome = trained(text, {"points": points()})
    assert outcome.variables["net.b"] == 3
    assert np.any(outcome.variables["net.w"] != 0)


@on_each_backend
def test_second_gradients_reach_the_parameters() -> None:
    """A gradient penalty: d/dw of mean(g^2), g = dy/dx = w, is 2 w / D for a linear model."""
    text = (
        PLAN.format(update="using sgd(rate)", steps=1)
        .replace(
            "minimize J = mse(net(x), y)",
            "g = grad(sum(net(x)), x)\n  minimize J = sum(g^2)",
        )
        .replace("~ zeros", "~ ones")
    )
    data = points(samples=4)
    outcome = trained(text, {"points": data})
    # J = 4 |w|^2, so w <- 1 - 0.1 * 8.
    np.testing.assert_allclose(outcome.variables["net.w"], np.full(3, 0.2), rtol=1e-5)


def test_measuring_turns_dropout_off_and_assigns_nothing() -> None:
    text = PLAN.format(
        update='using sgd(0)\n  measure mse(net(x), y) as "J2" on points.train', steps=1
    )
    text = text.replace("x @ w", "(x |> dropout(0.9)) @ w")
    text = text.replace("~ zeros", "~ ones")
    data = points()
    outcome = trained(text, {"points": data})
    exact = np.mean((data["x"].sum(1) - data["y"]) ** 2)
    np.testing.assert_allclose(outcome.figures["train.J2"], exact, rtol=1e-5)
    assert outcome.variables["net.w"].tolist() == [1, 1, 1]


def test_imported_layers_and_their_names(tmp_path: Path) -> None:
    (tmp_path / "blocks.fml").write_text(
        "width = 4\n"
        "layer twice(units: dim)(x: f32[N, D]) -> f32[N, units] =\n"
        "  x |> dense(units) |> tanh |> dense(units)\n",
        encoding="utf-8",
    )
    text = MODEL.replace("first(x) |> block(5) |> block(5)", "x |> twice(b.width) |> b.twice(5)")
    text = text.replace("  first = block(4)\n", "")
    text = f'import "blocks.fml" as b\nfrom "blocks.fml" import twice\n{text}'
    names = {n for n in lower(check(Source("main.fml", text), tmp_path)).variables if "W" in n}
    assert names == {f"net.twice_{i}.dense_{j}.W" for i in (0, 1) for j in (0, 1)}


def test_a_bound_name_never_meets_a_numbered_one() -> None:
    text = MODEL.replace("first = block(4)", "block_0 = block(4)").replace("first(x)", "block_0(x)")
    names = {n for n in lowered(text).variables if n.endswith("W")}
    assert names == {f"net.block_{n}.dense.W" for n in range(3)}


LEARNERS = """
data points = given {{ x: f32[3]; y: f32 }}
model net(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ zeros
  x @ w
}}
train {{
  z = net()
  learners 4 per device {{
    w = replica(z)
    feed x, y from points.train |> batch(8)
    minimize loss = mse(w(x), y)
    using sgd(0.1)
  }}
  use sma(learners.w, z)
  log {value} as "all" every 1 step
  stop after 3 steps
}}
"""


def test_the_losses_of_the_learners_are_logged_once_reduced() -> None:
    training = lowered(LEARNERS.format(value="mean(learners.loss, over = learners)"))
    (log,) = training.logs
    assert log.graph is None
    node = training.step[training.step.outputs[log.series.output]]
    assert (node.op, node.attributes["kind"], node.mapped) == ("learners_reduce", "mean", False)
    assert node.inputs == (training.step.outputs["loss"],)
    with pytest.raises(FmlError, match="E0606: every learner has its own value"):
        lowered(LEARNERS.format(value="learners.loss"))
