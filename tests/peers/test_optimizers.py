"""Optimizers take the steps that Optax takes, and gradients are JAX's, for whole networks."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray

from fml.engine.runtime.trainer import train
from fml.engine.sources.load import load
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import EXAMPLES, first_values, lowered, points, trained

Tree = dict[str, Any]
STEPS = 50


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
data samples = given {{ x: f64[3]; y: f64 }}
model net(x: f64[N, D]) -> f64[N] {{
  param W: f64[D, 4] ~ uniform(-1, 1)
  param v: f64[4] ~ uniform(-1, 1)
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
    w = double(first_values(TEXT.format(using="sgd(0)", steps=1)), "net.")

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


OPTIMIZERS: list[tuple[str, optax.GradientTransformation]] = [
    ("sgd(0.2)", optax.sgd(0.2)),
    ("momentum(0.1)", optax.sgd(0.1, momentum=0.9)),
    ("momentum(0.1, beta = 0.5)", optax.sgd(0.1, momentum=0.5)),
    ("momentum(0.1 |> cosine(20 steps, to = 0.01))",
     momentum_into_the_trace(optax.cosine_decay_schedule(0.1, 20, alpha=0.1))),
    ("adagrad(0.1)", optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-20)),
    # With a larger rate the last steps go to and fro about the minimum: its differences of rounding
    # grow with each of them.
    ("rmsprop(0.005)", optax.rmsprop(0.005, decay=0.9, eps=1e-8, eps_in_sqrt=False)),
    ("adam(0.05)", optax.adam(0.05)),
    ("adam(0.05, beta1 = 0.5, beta2 = 0.9, epsilon = 0.01)",
     optax.adam(0.05, b1=0.5, b2=0.9, eps=0.01)),
    ("adamw(0.05, weight_decay = 0.1)", optax.adamw(0.05, weight_decay=0.1)),
    ("lars(0.5, trust = 0.1)", optax.lars(0.5, trust_coefficient=0.1)),
    ("lamb(0.05, weight_decay = 0.1)", optax.lamb(0.05, weight_decay=0.1)),
    ("lion(0.01, weight_decay = 0.1)", optax.lion(0.01, weight_decay=0.1)),
    ("clip_norm(0.3) |> momentum(0.1)",
     optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.1, momentum=0.9))),
    ("clip_value(0.1) |> adam(0.05, beta2 = 0.9)",
     optax.chain(optax.clip(0.1), optax.adam(0.05, b2=0.9))),
    ("decay(0.1) |> sgd(0.2)", optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.2))),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("using", "peer"), OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_optimizers_take_the_steps_of_optax(using: str, peer: optax.GradientTransformation) -> None:
    found, expected = ours(using), theirs(peer)
    for name in ("W", "v"):
        np.testing.assert_allclose(found[f"net.{name}"], expected[name], rtol=1e-6, atol=1e-9)


@on_each_backend
def test_nesterov_looks_ahead_where_optax_stands() -> None:
    """Optax keeps v = w - βm, where the gradient is taken; w is what the course's equation says."""
    found, expected = ours("nesterov(0.05)"), theirs(optax.sgd(0.05, momentum=0.9, nesterov=True))
    for name in ("W", "v"):
        ahead = found[f"net.{name}"] - 0.9 * found[f"nesterov.net.{name}.m"]
        np.testing.assert_allclose(ahead, expected[name], rtol=1e-6, atol=1e-9)


def lars_of_the_paper(rate: float, trust: float, decay: float) -> optax.GradientTransformation:
    """You, Gitman and Ginsburg 2017: Optax has |g + λw| where they have |g| + λ|w|."""

    def scaled(g: jax.Array, w: jax.Array) -> jax.Array:
        size, slope = jnp.linalg.norm(w), jnp.linalg.norm(g)
        return trust * size / (slope + decay * size) * (g + decay * w)

    def update(g: Tree, state: optax.EmptyState, w: Tree) -> tuple[Tree, optax.EmptyState]:
        return jax.tree.map(scaled, g, w), state

    first = optax.GradientTransformation(lambda w: optax.EmptyState(), update)
    return optax.chain(first, optax.scale(rate), optax.trace(0.9), optax.scale(-1.0))


@on_each_backend
def test_lars_decays_as_in_the_paper() -> None:
    found = ours("lars(0.5, weight_decay = 0.1, trust = 0.1)")
    expected = theirs(lars_of_the_paper(0.5, 0.1, 0.1))
    for name in ("W", "v"):
        np.testing.assert_allclose(found[f"net.{name}"], expected[name], rtol=1e-6, atol=1e-9)


@on_each_backend
@pytest.mark.parametrize("using", ["lars(0.5)", "lamb(0.5)"])
def test_a_tensor_of_zeros_learns_at_the_rate_itself(using: str) -> None:
    """There is no length of w to compare its step with."""
    text = TEXT.replace("v: f64[4] ~ uniform(-1, 1)", "v: f64[4] ~ zeros")
    begun, moved = (
        trained(text.format(using=u, steps=1), {"samples": DATA}).variables
        for u in ("sgd(0)", using)
    )
    g = jax.grad(loss)(double(begun, "net."))["v"]
    step = g if using.startswith("lars") else g / (jnp.abs(g) + 1e-6)
    np.testing.assert_allclose(moved["net.v"], -0.5 * step, rtol=1e-9)


# --- schedules -----------------------------------------------------------------------------------


def gradual(rate: float, length: int, start: float = 0.0) -> optax.Schedule:
    """The course's warm-up counts the step that is being made."""
    climb = optax.linear_schedule(start, rate, length)
    return lambda count: climb(count + 1)


def triangles(low: float, rate: float, length: int) -> optax.Schedule:
    half = length // 2
    up, down = optax.linear_schedule(low, rate, half), optax.linear_schedule(rate, low, half)
    times = range(half, STEPS, half)
    parts = [(up, down)[n % 2] for n in range(len(times) + 1)]
    return optax.join_schedules(parts, list(times))


SCHEDULES: list[tuple[str, optax.Schedule]] = [
    ("warmup(10 steps)", gradual(0.1, 10)),
    ("warmup(10 steps, from = 0.02)", gradual(0.1, 10, 0.02)),
    ("warmup(2 epochs)", gradual(0.1, 8)),
    ("warmup_constant(10 steps, 0.01)",
     optax.piecewise_constant_schedule(0.01, {10: 10.0})),
    ("linear_scaling(3)", optax.constant_schedule(0.3)),
    ("drop(to = 10%, at = [20 steps, 35 steps])",
     optax.piecewise_constant_schedule(0.1, {20: 0.1, 35: 0.1})),
    ("drop(to = 50%, at = [3 epochs])", optax.piecewise_constant_schedule(0.1, {12: 0.5})),
    ("decay_exp(0.5, 10 steps)", optax.exponential_decay(0.1, 10, 0.5)),
    ("cosine(40 steps)", optax.cosine_decay_schedule(0.1, 40)),
    ("cosine(40 steps, to = 0.02)", optax.cosine_decay_schedule(0.1, 40, alpha=0.2)),
    ("poly(40 steps, 3)", optax.polynomial_schedule(0.1, 0.0, 3, 40)),
    ("cycle(20 steps, low = 0.02)", triangles(0.02, 0.1, 20)),
    ("warmup(5 steps) |> drop(to = 10%, at = [20 steps])",
     lambda n: gradual(0.1, 5)(n) * jnp.where(n >= 20, 0.1, 1)),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("schedule", "peer"), SCHEDULES, ids=[e for e, _ in SCHEDULES])
def test_schedules_are_those_of_optax(schedule: str, peer: optax.Schedule) -> None:
    text = TEXT.replace("stop after", 'log rate as "rate" every 1 step\n  stop after')
    text = text.replace(
        "feed x, y from samples.train",
        "rate = 0.1 |> SCHEDULE\n  feed x, y from samples.train |> batch(6)",
    )
    text = text.format(using="sgd(rate)", steps=STEPS).replace("SCHEDULE", schedule)
    rates = [p.value for p in trained(text, {"samples": DATA}).history if p.series == "rate"]
    # What is logged after a step is the rate of the next one.
    np.testing.assert_allclose(rates, [peer(n + 1) for n in range(STEPS)], rtol=1e-6, atol=1e-12)


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
    outcome = train(training, {"digits": splits}, current_backend())
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


@on_each_backend
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
