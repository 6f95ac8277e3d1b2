"""Layers of `std`: values and gradients of JAX, what they keep, and in which element."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

import fml
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ops.verify import verify
from fml.engine.runtime.checkpoint import read_checkpoint
from fml.engine.runtime.trainer import train
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import example, lowered, trained

Array = NDArray[Any]
RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(6, 4, 4, 6)) * 2 + 1
R = RANDOM.normal(size=(6, 4, 4, 6))

# --- values and gradients ------------------------------------------------------------------------

# Everything that is trained begins at random, and what comes in depends on the parameter `before`.
TEXT = """
data d = given {{ x: f64[4, 4, 6]; r: f64[{axes}] }}
model net(x: f64[N, 4, 4, 6]) {{
  param before: f64[6] ~ uniform(0.5, 1.5)
  x * before |> {layer}
}}
train {{
  net = net()
  feed x, r from d.train
  minimize loss = sum(net(x) * r)
  using sgd({rate})
  stop after 1 step
}}
"""


def mean_and_var(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)


def group_norm(w: Any, x: Any) -> Any:
    parts = x.reshape(6, 16, 3, 2)
    mean, var = mean_and_var(parts, (1, 3))
    return ((parts - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape) * w["gamma"] + w["beta"]


def layer_norm(w: Any, x: Any) -> Any:
    mean, var = mean_and_var(x, (-1,))
    return (x - mean) / jnp.sqrt(var + 1e-5) * w["gamma"] + w["beta"]


def batch_norm(w: Any, x: Any) -> Any:
    mean, var = mean_and_var(x, (0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-5) * w["gamma"] + w["beta"]


def rms_norm(w: Any, x: Any) -> Any:
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w["gamma"]


def windows(x: Any, kind: Any, size: int, stride: int) -> Any:
    start = -np.inf if kind is jax.lax.max else 0.0
    one, step = (1, size, size, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, start, kind, one, step, "VALID")


def attention(w: Any, x: Any) -> Any:
    x = x.reshape(6, 16, 6)
    q, k, v = ((x @ w[f"W{name}"]).reshape(6, 16, 3, 2) for name in "qkv")
    seen = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(2), -1)
    return jnp.einsum("nhqk,nkhd->nqhd", seen, v).reshape(6, 16, 6) @ w["Wo"]


LAYERS = [
    ("dense(6)", "4, 4, 6", lambda w, x: x @ w["W"] + w["b"]),
    ("conv(6, 3)", "4, 4, 6", lambda w, x: w["b"] + jax.lax.conv_general_dilated(
        x, w["W"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))),
    ("conv(6, 2, stride = 2, groups = 3, bias = false)", "2, 2, 6",
     lambda w, x: jax.lax.conv_general_dilated(
        x, w["W"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3)),
    ("max_pool(2)", "2, 2, 6", lambda w, x: windows(x, jax.lax.max, 2, 2)),
    ("max_pool(3, stride = 1)", "2, 2, 6", lambda w, x: windows(x, jax.lax.max, 3, 1)),
    ("avg_pool(3, stride = 1)", "2, 2, 6", lambda w, x: windows(x, jax.lax.add, 3, 1) / 9),
    ("global_avg_pool", "6", lambda w, x: x.mean((1, 2))),
    ("batch_norm", "4, 4, 6", batch_norm),
    ("layer_norm", "4, 4, 6", layer_norm),
    ("group_norm(3)", "4, 4, 6", group_norm),
    ("rms_norm", "4, 4, 6", rms_norm),
    ("reshape([N, 16, 6]) |> attention(3)", "16, 6", attention),
]  # fmt: skip


@pytest.fixture
def in_double() -> Any:
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@on_each_backend
@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(("layer", "axes", "peer"), LAYERS, ids=[layer for layer, _, _ in LAYERS])
def test_layers_have_the_values_and_gradients_of_jax(layer: str, axes: str, peer: Any) -> None:
    r = R.reshape(6, -1)[:, : np.prod([int(a) for a in axes.split(",")])]
    data = {"x": X, "r": r.reshape(6, *(int(a) for a in axes.split(",")))}
    text = TEXT.replace("{rate}", "RATE").format(layer=layer, axes=axes)
    begun, moved = (trained(text.replace("RATE", rate), {"d": data}) for rate in ("0", "1"))

    def loss(w: Any) -> Any:
        own = {name.rpartition(".")[2]: value for name, value in w.items()}
        return jnp.sum(peer(own, X * w["net.before"]) * data["r"])

    w = {n: jnp.asarray(v) for n, v in begun.variables.items() if "running" not in n}
    value, gradient = jax.value_and_grad(loss)(w)
    (found,) = [p.value for p in moved.history if p.series == "train.loss"]
    np.testing.assert_allclose(found, value, rtol=1e-6)
    assert "net.before" in gradient
    for name, expected in gradient.items():
        found = w[name] - moved.variables[name]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=name)


# --- batch norm's running statistics -------------------------------------------------------------

NORMED = """
data d = given {{ x: f32[3]; y: f32 }}
model net(x: f32[N, 3]) -> f32[N] {{
  norm = batch_norm()
  h = {body}
  sum(h, over = 1)
}}
train {{
  net = net()
  feed x, y from d.train |> batch(5)
  minimize loss = mse(net(x), y)
  using {using}
  measure loss on d.valid
  stop after {stop}
}}
"""
B = (RANDOM.normal(size=(15, 3)) * [1, 2, 3] + [0, 5, -5]).astype(np.float32)
SPLITS = {"train": {"x": B, "y": B[:, 0]}, "valid": {"x": B[:4], "y": B[:4, 0]}}


def normed(body: str = "norm(x)", using: str = "sgd(0)", stop: str = "1 step") -> str:
    return NORMED.format(body=body, using=using, stop=stop)


def moved(old: Array, new: Array) -> Array:
    return 0.9 * old + 0.1 * new


@on_each_backend
def test_running_statistics_follow_the_batches() -> None:
    found = trained(normed(stop="3 steps"), {"d": SPLITS}).variables
    mean, var = np.zeros(3), np.ones(3)
    for batch in B.reshape(3, 5, 3).astype(np.float64):
        mean, var = moved(mean, batch.mean(0)), moved(var, batch.var(0))
    np.testing.assert_allclose(found["net.norm.running_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["net.norm.running_var"], var, rtol=1e-5)


@on_each_backend
def test_a_layer_applied_twice_updates_its_state_in_the_order_of_application() -> None:
    found = trained(normed("norm(x) + norm(3 * x + 1)"), {"d": SPLITS}).variables
    first, second = B[:5].astype(np.float64), 3 * B[:5].astype(np.float64) + 1
    mean = moved(moved(np.zeros(3), first.mean(0)), second.mean(0))
    np.testing.assert_allclose(found["net.norm.running_mean"], mean, rtol=1e-5)


def evaluated(variables: Any, x: Array) -> Array:
    v = {n.removeprefix("net.norm."): np.asarray(a, np.float64) for n, a in variables.items()}
    scale = v["gamma"] / np.sqrt(v["running_var"] + 1e-5)
    return ((x - v["running_mean"]) * scale + v["beta"]).sum(1)


def test_the_running_statistics_are_measured_with_saved_and_predicted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = fml.loads(normed(using="sgd(0.01)", stop="4 epochs"))
    run = program.train(data={"d": SPLITS}, run="r")
    run.save(tmp_path / "m.safetensors")
    saved = load_file(tmp_path / "m.safetensors")
    expected = evaluated(saved, B[:4].astype(np.float64))
    np.testing.assert_allclose(run.model(B[:4]), expected, rtol=1e-4, atol=1e-5)
    loss = np.mean((expected - B[:4, 0]) ** 2)
    np.testing.assert_allclose(run.metrics["valid.loss"].last, loss, rtol=1e-4)
    np.testing.assert_allclose(run.evaluate()["valid.loss"], loss, rtol=1e-4)
    np.testing.assert_array_equal(fml.open_run("runs/r").model(B), run.model(B))


@on_each_backend
def test_measuring_changes_no_state() -> None:
    text = normed(stop="3 steps")
    more = text.replace("measure loss on d.valid", "measure loss on d.valid every 1 step")
    one, other = (trained(t, {"d": SPLITS}).variables for t in (text, more))
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@on_each_backend
def test_a_resumed_run_has_the_running_statistics(tmp_path: Path) -> None:
    def run(stop: str, **how: Any) -> Any:
        training = lowered(normed(using="momentum(0.01)", stop=stop))
        return train(training, {"d": SPLITS}, current_backend(), **how).variables

    run("4 steps", checkpoint=tmp_path / "c")
    whole, resumed = run("7 steps"), run("7 steps", resume=read_checkpoint(tmp_path / "c"))
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@on_each_backend
def test_what_is_stored_in_a_state_is_not_differentiated() -> None:
    text = """
data d = given { x: f32[2] }
layer count()(x: f32[N, 2]) -> f32 {
  param w: f32 ~ constant(2)
  state s: f32 ~ zeros
  s <- w * 3
  w + s
}
train {
  net = count()
  feed x from d.train
  minimize net(x)
  using sgd(1)
  stop after 1 step
}"""
    found = trained(text, {"d": {"x": B[:, :2]}}).variables
    assert found["net.w"] == 1  # the derivative is 1, not 1 + 3
    assert found["net.s"] == 6


def test_states_of_replicas_are_averaged_into_the_central_model() -> None:
    graph = example("resnet.fml", "sma_by_hand").averaged
    assert graph is not None
    verify(graph)
    stored = {str(n.attributes["name"]): graph[n.inputs[1]] for n in graph.of_op("assign")}
    variables = example("resnet.fml", "sma_by_hand").variables
    assert stored.keys() == {n for n in variables if n.startswith("z.") and "running" in n}
    for name, mean in stored.items():
        assert (mean.op, mean.attributes["kind"]) == ("learners_reduce", "mean")
        assert graph[mean.inputs[0]].attributes["name"] == f"w.{name.removeprefix('z.')}"
    assert example("lenet_crossbow.fml", "crossbow").averaged is None  # it has no states


# --- elements ------------------------------------------------------------------------------------


def test_float_is_one_element_in_a_signature() -> None:
    text = """
data d = given { x: f64[2]; y: f32[2] }
model net(x: f64[N, 2]) -> f64[N, 2] = x |> dense(2)
train {
  net = net()
  feed x, y from d.train
  minimize mse(net(x), y)
  using sgd(0.1)
  stop after 1 step
}"""
    with pytest.raises(FmlError) as caught:
        lowered(text)
    (found,) = caught.value.diagnostics
    assert found.code == "E0303"
    assert "float = f64 comes from `net(x)`" in found.notes
    assert found.help == "convert with `cast(x, f64)`"


@on_each_backend
def test_a_schedule_takes_the_element_of_what_it_meets() -> None:
    text = """
data d = given { x: f16[2]; y: f64[2] }
layer two()(x: f16[N, 2]) -> f64 {
  param a: f16[2] ~ ones
  param b: f64[2] ~ ones
  cast(sum(a), f64) + sum(b) + cast(sum(x), f64)
}
fn third(count: f32) -> f32 = count / 3
train {
  net = two()
  feed x from d.train |> batch(1)
  rate = 0.25 |> drop(to = 50%, at = [1 step])
  minimize net(x)
  using sgd(rate * third(step + 3))
  stop after 2 steps
}"""
    found = trained(text, {"d": {"x": np.ones((2, 2)), "y": np.ones((2, 2))}}).variables
    rates = 0.25 + 0.125 * 4 / 3
    assert found["net.a"].dtype == np.float16
    np.testing.assert_allclose(found["net.a"], 1 - rates, atol=1e-3)
    np.testing.assert_allclose(found["net.b"], 1 - rates, atol=1e-7)
