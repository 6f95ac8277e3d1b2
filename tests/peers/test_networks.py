"""Whole networks: losses, gradients, weights and running statistics are JAX's over 20 steps."""

from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.backends import on_each_backend
from tests.peers import networks
from tests.peers.networks import PRECISIONS, Array, Network, Tree, drawn

RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def images(samples: int, size: int, channels: int) -> dict[str, Array]:
    """Images whose brightest quarter says the class."""
    y = RANDOM.integers(0, 4, samples)
    x = RANDOM.normal(size=(samples, 2, size // 2, 2, size // 2, channels)).astype(np.float32)
    x[np.arange(samples), y // 2, :, y % 2] += 1
    return {"x": x.reshape(samples, size, size, channels), "y": y}


PLAN = """
train {
  net = net()
  state last: f32 ~ zeros
  feed x, y from d.train |> batch(BATCH)
  minimize loss = LOSS
  last <- loss
  log last as "loss" every 1 step
  using USING
  stop after {steps} steps
}
"""


def plan(batch: int, loss: str, using: str) -> str:
    return PLAN.replace("BATCH", str(batch)).replace("LOSS", loss).replace("USING", using)


# --- LeNet ---------------------------------------------------------------------------------------

LENET = """
data d = given { x: f32[8, 8, 1]; y: label[4] }
layer block(C: dim)(x: f32[N, H, W, Cin]) -> f32[N, H/2, W/2, C] =
  x |> conv(C, 5, pad = same) |> relu |> max_pool(2)
model net(x: f32[N, 8, 8, 1]) -> f32[N, 4] =
  x |> block(4) |> block(6) |> flatten |> dense(16) |> relu |> dropout(0.4) |> dense(4)
"""


def lenet(w: Tree, batch: Mapping[str, Array], mask: jax.Array) -> tuple[jax.Array, Tree]:
    h = batch["x"]
    for block in ("block_0", "block_1"):
        h = networks.max_pool(
            jax.nn.relu(networks.conv(h, w[f"{block}.conv.W"]) + w[f"{block}.conv.b"])
        )
    h = jax.nn.relu(h.reshape(len(h), -1) @ w["dense_0.W"] + w["dense_0.b"])
    h = jnp.where(mask < 0.4, 0, h / 0.6)
    return networks.entropy(h @ w["dense_1.W"] + w["dense_1.b"], batch["y"]), {}


# --- a residual network with batch norm ----------------------------------------------------------

RESNET = """
data d = given { x: f32[8, 8, 3]; y: label[4] }
layer unit(C: dim, stride = 1)(x: f32[N, H, W, Cin]) -> f32[N, H/stride, W/stride, C] =
  x |> conv(C, 3, stride = stride, bias = false) |> batch_norm
layer shortcut(C: dim, stride)(x: f32[N, H, W, Cin]) =
  if C == Cin and stride == 1 then x
  else x |> conv(C, 1, stride = stride, bias = false) |> batch_norm
layer residual(C: dim, stride = 1)(x: f32[N, H, W, Cin]) {
  y = x |> unit(C, stride) |> relu |> unit(C)
  relu(y + shortcut(C, stride)(x))
}
model net(x: f32[N, 8, 8, 3]) -> f32[N, 4] =
  x |> unit(4) |> relu |> residual(4) |> residual(6, 2) |> global_avg_pool |> dense(4)
"""


def resnet(w: Tree, batch: Mapping[str, Array], noise: object) -> tuple[jax.Array, Tree]:
    states: Tree = {}

    def unit(path: str, x: jax.Array, stride: int = 1) -> jax.Array:
        made = networks.conv(x, w[f"{path}.conv.W"], stride)
        return networks.batch_norm(w, f"{path}.batch_norm", made, states)

    h = jax.nn.relu(unit("unit", batch["x"]))
    for path, stride in (("residual_0", 1), ("residual_1", 2)):
        y = unit(f"{path}.unit_1", jax.nn.relu(unit(f"{path}.unit_0", h, stride)))
        h = jax.nn.relu(y + (h if stride == 1 else unit(f"{path}.shortcut", h, stride)))
    logits = h.mean((1, 2)) @ w["dense.W"] + w["dense.b"]
    return networks.entropy(logits, batch["y"], 0.1), states


# --- words, layer norm, attention ----------------------------------------------------------------

WORDS = """
data d = given { x: label[7][5]; y: label[4] }
model net(x: label[7][N, 5]) -> f32[N, 4] =
  x |> embedding(8, element = f32) |> layer_norm |> attention(2, causal = true) |> mean(over = 1)
    |> dense(4)
"""


def words(w: Tree, batch: Mapping[str, Array], noise: object) -> tuple[jax.Array, Tree]:
    h = networks.layer_norm(w, "layer_norm", w["embedding.W"][batch["x"]])
    q, k, v = (
        (h @ w[f"attention.{name}"]).reshape(*h.shape[:2], 2, 4) for name in ("Wq", "Wk", "Wv")
    )
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(4)
    seen = jax.nn.softmax(scores, where=jnp.tri(5, dtype=bool), axis=-1)
    h = jnp.einsum("nhqk,nkhd->nqhd", seen, v).reshape(h.shape) @ w["attention.Wo"]
    return networks.entropy(h.mean(1) @ w["dense.W"] + w["dense.b"], batch["y"]), {}


# --- every regulariser ---------------------------------------------------------------------------

REGULARISED = """
data d = given { x: f32[6]; y: label[4] }
layer hidden(units: dim)(x: f32[N, D]) -> f32[N, units] {
  param W: f32[D, units] ~ he_normal where max_norm(1.4)
  param b: f32[units]    ~ zeros
  x @ W + b |> relu |> dropout(0.2)
}
model net(x: f32[N, D]) -> f32[N, 4] = x |> repeat(2, hidden(12)) |> dense(4)
"""
HIDDEN = ("hidden_0", "hidden_1")


def regularised(w: Tree, batch: Mapping[str, Array], noise: Tree) -> tuple[jax.Array, Tree]:
    u, v = noise["noise"]
    h = batch["x"] + 0.05 * jnp.sqrt(-2 * jnp.log(1 - u)) * jnp.cos(2 * jnp.pi * v)
    for layer in HIDDEN:
        h = jax.nn.relu(h @ w[f"{layer}.W"] + w[f"{layer}.b"])
        h = jnp.where(noise[layer] < 0.2, 0, h / 0.8)
    loss = networks.entropy(h @ w["dense.W"] + w["dense.b"], batch["y"], 0.1)
    # JAX's own derivative of |w| at 0 is 1; the course's is sign(w).
    l1 = sum(jnp.sum(p * jax.lax.stop_gradient(jnp.sign(p))) for p in w.values())
    return loss + 1e-3 * l1 + 1e-2 * sum(jnp.sum(p**2) for p in w.values()), {}


def constrained_nesterov(w: Tree, m: Tree, gradient: Callable[[Tree], Tree]) -> tuple[Tree, Tree]:
    g = gradient({name: w[name] - 0.9 * m[name] for name in w})
    m = {name: 0.9 * m[name] + 0.05 * g[name] for name in w}
    w = {name: w[name] - m[name] for name in w}
    for name in (f"{layer}.W" for layer in HIDDEN):
        norms = jnp.linalg.norm(w[name], axis=0)
        w[name] = w[name] * jnp.minimum(1, 1.4 / norms)
    return w, m


def noises(step: int, element: str) -> Tree:
    masks = {layer: drawn(f"net.{layer}.dropout#0", step, (16, 12), element) for layer in HIDDEN}
    return {**masks, "noise": [drawn(f"#{n}", step, (16, 6), element) for n in (0, 1)]}


def table(samples: int) -> dict[str, Array]:
    x = RANDOM.normal(size=(samples, 6)).astype(np.float32)
    return {"x": x, "y": x[:, :4].argmax(1)}


def sentences(samples: int) -> dict[str, Array]:
    x = RANDOM.integers(0, 7, (samples, 5))
    return {"x": x, "y": x.sum(1) % 4}


NETWORKS = {
    "lenet": Network(
        LENET + plan(16, "cross_entropy(net(x), y)", "momentum(0.05)"),
        images(320, 8, 1), 16, lenet, networks.momentum(0.05),
        lambda step, element: drawn("net.dropout#0", step, (16, 16), element),
    ),
    "resnet": Network(
        RESNET + plan(16, "cross_entropy(net(x), y, smoothing = 0.1)", "momentum(0.01)"),
        images(320, 8, 3), 16, resnet, networks.momentum(0.01),
    ),
    "words": Network(
        WORDS + plan(16, "cross_entropy(net(x), y)", "momentum(0.05)"),
        sentences(320), 16, words, networks.momentum(0.05),
    ),
    "regularised": Network(
        REGULARISED
        + plan(
            16,
            "cross_entropy(net(x |> noise(0.05)), y, 0.1) + 1e-3 * l1(net) + 1e-2 * l2(net)",
            "nesterov(0.05)",
        ),
        table(320), 16, regularised, constrained_nesterov, noises,
    ),
}  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("element", "rtol"), PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_networks_learn_as_in_jax(network: Network, element: str, rtol: float) -> None:
    network.check(element, rtol)
