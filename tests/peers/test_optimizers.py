"""Optimizers take the steps that Optax takes, and gradients are JAX's, for whole networks."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray

from fml.engine.backends.numpy import NumpyBackend
from fml.engine.runtime.trainer import train
from fml.engine.sources.load import load
from tests.dsl.programs import EXAMPLES, lowered, points, trained

Tree = dict[str, Any]
STEPS = 20


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """The peers compute in float64, so that the difference is our rounding alone."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def double(variables: Mapping[str, NDArray[Any]], prefix: str) -> Tree:
    """The variables of an instance as float64, under their paths in it."""
    return {
        name.removeprefix(prefix): jnp.asarray(value, jnp.float64)
        for name, value in variables.items()
        if name.startswith(prefix)
    }


# --- optimizers ----------------------------------------------------------------------------------

TEXT = """
data samples = given {{ x: f32[3]; y: f32 }}
model net(x: f32[N, D]) -> f32[N] {{
  param W: f32[D, 4] ~ uniform(-1, 1)
  param v: f32[4] ~ uniform(-1, 1)
  tanh(x @ W) @ v
}}
train {{
  net = net()
  feed x, y from samples.train
  minimize loss = mse(net(x), y)
  using {using}
  stop after {steps} steps
}}
"""
DATA = points(24)


def ours(using: str, steps: int = STEPS) -> dict[str, NDArray[Any]]:
    return dict(trained(TEXT.format(using=using, steps=steps), {"samples": DATA}).variables)


def loss(w: Tree) -> jax.Array:
    return jnp.mean((jnp.tanh(DATA["x"] @ w["W"]) @ w["v"] - DATA["y"]) ** 2)


def theirs(optimizer: optax.GradientTransformation) -> Tree:
    w = double(ours("sgd(0)", 1), "net.")

    @jax.jit
    def step(w: Tree, state: optax.OptState) -> tuple[Tree, optax.OptState]:
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        return jax.tree.map(jnp.add, w, updates), state

    state = optimizer.init(w)
    for _ in range(STEPS):
        w, state = step(w, state)
    return w


def momentum_into_the_trace(schedule: optax.Schedule) -> optax.GradientTransformation:
    """The rate goes into the memory, as in the course; Optax scales what comes out of it."""
    return optax.chain(optax.scale_by_schedule(schedule), optax.trace(0.9), optax.scale(-1.0))


# 1 - 0.999^t has only five digits right in float32 while t is small, and so have Adam's steps.
EXACT, CANCELLING = 2e-6, 2e-5

OPTIMIZERS: list[tuple[str, optax.GradientTransformation, float]] = [
    ("sgd(0.2)", optax.sgd(0.2), EXACT),
    ("momentum(0.1)", optax.sgd(0.1, momentum=0.9), EXACT),
    ("momentum(0.1, beta = 0.5)", optax.sgd(0.1, momentum=0.5), EXACT),
    ("momentum(0.1 |> cosine(20 steps, to = 0.01))",
     momentum_into_the_trace(optax.cosine_decay_schedule(0.1, 20, alpha=0.1)), EXACT),
    ("adagrad(0.1)", optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-20), EXACT),
    ("rmsprop(0.02)", optax.rmsprop(0.02, decay=0.9, eps=1e-8, eps_in_sqrt=False), EXACT),
    ("adam(0.05)", optax.adam(0.05), CANCELLING),
    ("adam(0.05, beta1 = 0.5, beta2 = 0.9, epsilon = 0.01)",
     optax.adam(0.05, b1=0.5, b2=0.9, eps=0.01), EXACT),
    ("adamw(0.05, weight_decay = 0.1)", optax.adamw(0.05, weight_decay=0.1), CANCELLING),
    ("clip_norm(0.3) |> momentum(0.1)",
     optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.1, momentum=0.9)), EXACT),
    ("clip_value(0.1) |> adam(0.05, beta2 = 0.9)",
     optax.chain(optax.clip(0.1), optax.adam(0.05, b2=0.9)), EXACT),
    ("decay(0.1) |> sgd(0.2)",
     optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.2)), EXACT),
]  # fmt: skip


@pytest.mark.parametrize(("using", "peer", "atol"), OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_optimizers_take_the_steps_of_optax(
    using: str, peer: optax.GradientTransformation, atol: float
) -> None:
    found, expected = ours(using), theirs(peer)
    for name in ("W", "v"):
        np.testing.assert_allclose(found[f"net.{name}"], expected[name], rtol=1e-5, atol=atol)


def test_nesterov_looks_ahead_where_optax_stands() -> None:
    """Optax keeps v = w - βm, where the gradient is taken; w is what the course's equation says."""
    found, expected = ours("nesterov(0.05)"), theirs(optax.sgd(0.05, momentum=0.9, nesterov=True))
    for name in ("W", "v"):
        ahead = found[f"net.{name}"] - 0.9 * found[f"nesterov.net.{name}.m"]
        np.testing.assert_allclose(ahead, expected[name], rtol=1e-5, atol=2e-6)


# --- a whole example -----------------------------------------------------------------------------

LIMIT = 1.4  # about half of the units that `he_normal` makes are longer


def regularised(using: str, steps: int) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """Train the example without what is drawn in the step: dropout, noise, the order."""
    text = (EXAMPLES / "mlp_regularised.fml").read_text(encoding="utf-8")
    for old, new in (
        (" |> noise(0.05)", ""),
        (" |> shuffle", ""),
        ("max_norm(3)", f"max_norm({LIMIT})"),
        ("nesterov(0.05, beta = 0.9)", using),
        ("stop after 100 epochs", f"stop after {steps} steps"),
        ("keep lowest valid.loss", ""),
    ):
        assert old in text
        text = text.replace(old, new)
    training = lowered(text, width=16, p=0)
    splits = load(training.datasets["digits"], None, EXAMPLES).splits
    outcome = train(training, {"digits": splits}, NumpyBackend())
    return dict(outcome.variables), splits["train"]


def penalised(w: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
    """The example's objective, from its equations."""
    h = x
    for layer in ("hidden_0", "hidden_1"):
        h = jax.nn.relu(h @ w[f"{layer}.W"] + w[f"{layer}.b"])
    logits = h @ w["dense.W"] + w["dense.b"]
    target = 0.9 * jax.nn.one_hot(y, 10, dtype=jnp.float64) + 0.1 / 10
    entropy = jnp.mean(optax.softmax_cross_entropy(logits, target))
    # JAX's own derivative of |w| at 0 is 1; the course's is sign(w).
    l1 = sum(jnp.sum(p * jax.lax.stop_gradient(jnp.sign(p))) for p in w.values())
    l2 = sum(jnp.sum(p**2) for p in w.values())
    return entropy + 1e-5 * l1 + 1e-4 * l2


def constrained(name: str, value: jax.Array) -> jax.Array:
    """Max-norm: what comes into a unit is at most LIMIT long."""
    if not name.startswith("hidden") or not name.endswith("W"):
        return value
    norms = jnp.linalg.norm(value, axis=0)
    return jnp.where(norms > LIMIT, value * LIMIT / norms, value)


def test_the_regularised_network_steps_as_in_jax() -> None:
    begun, samples = regularised("sgd(0)", 1)
    w = double(begun, "net.")
    lengths = jnp.linalg.norm(w["hidden_0.W"], axis=0)
    assert 0 < int(jnp.sum(lengths > LIMIT - 1e-6)) < 16  # the limit binds some, not all
    m = {name: jnp.zeros_like(value) for name, value in w.items()}
    gradient = jax.jit(jax.grad(penalised))
    for step in range(8):
        rows = slice(32 * step, 32 * step + 32)
        ahead = {name: w[name] - 0.9 * m[name] for name in w}
        g = gradient(ahead, samples["x"][rows], samples["y"][rows])
        m = {name: 0.9 * m[name] + 0.05 * g[name] for name in w}
        w = {name: constrained(name, w[name] - m[name]) for name in w}
    found, _ = regularised("nesterov(0.05, beta = 0.9)", 8)
    assert {f"net.{name}" for name in w} < found.keys()
    for name, value in w.items():
        np.testing.assert_allclose(found[f"net.{name}"], value, rtol=1e-5, atol=2e-6, err_msg=name)
