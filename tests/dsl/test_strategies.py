"""Strategies take the steps of their papers' equations, written here as plain loops of numpy.

Linear regression in float64. Learner l of k has, in the t-th step, the l-th batch of N of the t-th
group of k N samples. All three trainers are held to the loops: the reference, which takes the graph
node by node, and the engine's plans on each backend. Each sums in its own order: that is some 1e-16
of a sum, and steps of such small rates do not magnify it, so that 1e-10 asks for the equations.
"""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.dsl.programs import lowered
from tests.dsl.reference import Reference
from tests.dsl.trainers import Run, by_each_trainer, trained

pytestmark = by_each_trainer

Vector = NDArray[np.float64]
STEPS, N, RATE = 30, 4, 0.05
LEARNERS = (1, 2, 3, 8)


def samples(count: int = 192, seed: int = 3) -> dict[str, Vector]:
    """A noisy line in three dimensions; the last is 1, for the bias."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3))
    y = x @ np.array([1, -2, 0.5]) + 0.7 + 0.3 * random.normal(size=count)
    return {"x": x, "y": y}


DATA = samples()

HEAD = """
data points = given { x: f64[3]; y: f64 }
model line(x: f64[N, 3]) -> f64[N] {
  param w: f64[3] ~ constant(0.3)
  param b: f64 ~ constant(-0.1)
  x @ w + b
}
"""
REPLICAS = (
    HEAD
    + """
train {
  z = line()
  learners 4 per device {
    w = replica(z)
    feed x, y from points.train |> batch(4)
    minimize loss = mse(w(x), y)
    using %s
  }
  use %s
  measure mse(z(x), y) on points.train
  stop after 30 steps
}
"""
)
START = np.array([0.3, 0.3, 0.3, -0.1])


def gradient(w: Vector, step: int, learner: int, k: int, batch: int = N) -> Vector:
    """That of the mean squared error on a learner's batch; w ends with the bias."""
    per_epoch = len(DATA["x"]) // (k * batch)
    at = (step % per_epoch * k + learner) * batch
    x, y = DATA["x"][at : at + batch], DATA["y"][at : at + batch]
    x = np.hstack([x, np.ones((len(x), 1))])
    return 2 / len(x) * x.T @ (x @ w - y)


def vector(variables: Mapping[str, NDArray[np.generic]], of: str) -> Vector:
    """The parameters of an instance as one vector, a row for each learner."""
    w, b = variables[f"{of}.w"], variables[f"{of}.b"]
    return np.concatenate([w, np.expand_dims(b, -1)], axis=-1).astype(np.float64)


def agree(run: Run | Reference, z: Vector | None = None, w: list[Vector] | None = None) -> None:
    """Compare the central model and the replicas with those of a loop."""
    if z is not None:
        np.testing.assert_allclose(vector(run.variables, "z"), z, rtol=1e-10)
    if w is not None:
        np.testing.assert_allclose(vector(run.variables, "w"), np.stack(w), rtol=1e-10)


def replicas(using: str, use: str, k: int, steps: int = STEPS) -> Run:
    """Train with a strategy of replicas."""
    return trained(REPLICAS % (using, use), {"points": DATA}, k, steps)


@pytest.mark.parametrize("k", LEARNERS)
@pytest.mark.parametrize("tau", [1, 3])
def test_sma_is_algorithm_1_of_crossbow(k: int, tau: int) -> None:
    """Koliousis et al. 2019: c_i = α(w_i - z), v_i the local step, z takes Σ c_i and momentum."""
    run = replicas("momentum(0.05, beta = 0.8)", f"sma(learners.w, z, tau = {tau} steps)", k)
    w, v = [START] * k, [np.zeros(4)] * k
    z = z_before = START
    for t in range(STEPS):
        c = [(w[i] - z) / k for i in range(k)]
        v = [0.8 * v[i] + RATE * gradient(w[i], t, i, k) for i in range(k)]
        w = [w[i] - v[i] for i in range(k)]
        if (t + 1) % tau == 0:
            w = [w[i] - c[i] for i in range(k)]
            z, z_before = z + sum(c) + 0.9 * (z - z_before), z
    agree(run, z, w)


@pytest.mark.parametrize("k", LEARNERS)
def test_sma_restarts_the_learners_from_the_central_model(k: int) -> None:
    use = "sma(learners.w, z, alpha = 0.1, mu = 0.5, restart = step == 17)"
    run = replicas("sgd(0.05)", use, k)
    w = [START] * k
    z = z_before = START
    for t in range(STEPS):
        c = [0.1 * (w[i] - z) for i in range(k)]
        w = [w[i] - RATE * gradient(w[i], t, i, k) - c[i] for i in range(k)]
        z, z_before = z + sum(c) + 0.5 * (z - z_before), z
        if t + 1 == 17:
            w = [z] * k
    agree(run, z, w)


@pytest.mark.parametrize("k", LEARNERS)
def test_easgd_is_equations_5_and_6(k: int) -> None:
    """Zhang, Choromanska and LeCun 2015, with β = k α = 0.9."""
    run = replicas("sgd(0.05)", "easgd(learners.w, z)", k)
    beta = 0.9
    alpha = beta / k
    x, center = [START] * k, START
    for t in range(STEPS):
        x, center = (
            [x[i] - RATE * gradient(x[i], t, i, k) - alpha * (x[i] - center) for i in range(k)],
            (1 - beta) * center + beta * sum(x) / k,
        )
    agree(run, center, x)


@pytest.mark.parametrize("k", LEARNERS)
def test_local_sgd_is_algorithm_1(k: int) -> None:
    """Stich 2019: x is set to the mean of all whenever t + 1 is a multiple of H."""
    run = replicas("sgd(0.05)", "local_sgd(learners.w, z, tau = 4 steps)", k)
    x, mean = [START] * k, START
    for t in range(STEPS):
        x = [x[i] - RATE * gradient(x[i], t, i, k) for i in range(k)]
        if (t + 1) % 4 == 0:
            mean = sum(x) / k
            x = [mean] * k
    agree(run, mean, x)


@pytest.mark.parametrize("k", LEARNERS)
def test_post_local_sgd_lets_go_after_the_first_part(k: int) -> None:
    """Lin et al. 2020: H = 1 for t <= t', and H from then on."""
    use = "post_local_sgd(learners.w, z, first = 10 steps, tau = 4 steps)"
    run = replicas("momentum(0.05, beta = 0.5)", use, k)
    x, u, mean = [START] * k, [np.zeros(4)] * k, START
    for t in range(1, STEPS + 1):
        u = [0.5 * u[i] + RATE * gradient(x[i], t - 1, i, k) for i in range(k)]
        x = [x[i] - u[i] for i in range(k)]
        if t <= 10 or t % 4 == 0:
            mean = sum(x) / k
            x = [mean] * k
    agree(run, mean, x)


@pytest.mark.parametrize("k", LEARNERS)
def test_diloco_is_algorithm_1(k: int) -> None:
    """Douillard et al. 2023: H inner steps of AdamW, then Nesterov on Δ = mean(θ - θ_i)."""
    inner = "adamw(0.05, weight_decay = 0.1)"
    run = replicas(inner, "diloco(learners.w, z, tau = 5 steps)", k)
    theta, momentum = START, np.zeros(4)
    x, m, v = [theta] * k, [np.zeros(4)] * k, [np.zeros(4)] * k
    for t in range(STEPS):
        for i in range(k):
            g = gradient(x[i], t, i, k)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            fitted = m[i] / (1 - 0.9 ** (t + 1))
            fitted = fitted / (np.sqrt(v[i] / (1 - 0.999 ** (t + 1))) + 1e-8)
            x[i] = x[i] - RATE * (fitted + 0.1 * x[i])
        if (t + 1) % 5 == 0:
            delta = sum(theta - x[i] for i in range(k)) / k
            momentum = 0.9 * momentum + delta
            theta = theta - 0.7 * (delta + 0.9 * momentum)
            x = [theta] * k
    agree(run, theta, x)


@pytest.mark.parametrize("k", LEARNERS)
def test_gossip_is_algorithm_1_on_a_ring(k: int) -> None:
    """Lian et al. 2017: x_i <- Σ_j W_ij x_j - γ ∇F_i(x_i), W doubly stochastic."""
    run = replicas("sgd(0.05)", "gossip(learners.w, z, share = 0.3, gather = 10 steps)", k)
    ring = np.zeros((k, k))
    for i in range(k):
        ring[i, i] += 0.4
        ring[i, (i - 1) % k] += 0.3
        ring[i, (i + 1) % k] += 0.3
    np.testing.assert_allclose([ring.sum(0), ring.sum(1)], 1)
    x, mean = np.stack([START] * k), START
    for t in range(STEPS):
        x = ring @ x - RATE * np.stack([gradient(x[i], t, i, k) for i in range(k)])
        if (t + 1) % 10 == 0:
            mean = x.mean(0)
    agree(run, mean, list(x))


# --- strategies of the loss ----------------------------------------------------------------------

LONG = {
    "sync_sgd": (
        "loss = mse(z(x), y)",
        "use sync_sgd(learners.loss, momentum(rate, beta = 0.8))",
    ),
    "parameter_server": (
        """w = replica(z)
    minimize loss = mse(w(x), y)
    use parameter_server(loss, w, z, momentum(rate, beta = 0.8))""",
        "",
    ),
}


def long_form(strategy: str, batch: int = N) -> str:
    inside, behind = LONG[strategy]
    return f"""{HEAD}
train {{
  z = line()
  rate = 0.05 |> drop(to = 50%, at = [7 steps])
  learners 2 per device {{
    feed x, y from points.train |> batch({batch})
    {inside}
  }}
  {behind}
  measure mse(z(x), y) on points.train
  stop after 30 steps
}}
"""


def one_line(by: str, batch: int = N, body: str = "mse(predicted, y)") -> str:
    return f"""{HEAD}
train {{
  z = line()
  rate = 0.05 |> drop(to = 50%, at = [7 steps])
  {by}
  feed x, y from points.train |> batch({batch})
  predicted = z(x)
  minimize J = {body}
  using momentum(rate, beta = 0.8)
  measure mse(predicted, y) on points.train
  stop after 30 steps
}}
"""


def rate(step: int) -> float:
    return RATE if step < 7 else RATE / 2


@pytest.mark.parametrize("k", LEARNERS)
def test_sync_sgd_is_one_large_batch(k: int) -> None:
    """Goyal et al. 2017, equation 2: k learners of n samples are one of k n, schedules included."""
    data = {"points": DATA}
    run = trained(long_form("sync_sgd"), data, k, STEPS)
    z, m = START, np.zeros(4)
    for t in range(STEPS):
        m = 0.8 * m + rate(t) * sum(gradient(z, t, i, k) for i in range(k)) / k
        z = z - m
    agree(run, z)
    agree(trained(one_line("", batch=k * N), data, 1, STEPS), z)
    short = trained(one_line("learners 4 per device by sync_sgd()"), data, k, STEPS)
    agree(short, z)
    assert short.figures["train.mse"] == pytest.approx(run.figures["train.mse"], rel=1e-9)


def test_what_is_minimised_by_a_strategy_keeps_its_name() -> None:
    text = one_line("learners 4 per device by sync_sgd()")
    training = lowered(text.replace("stop after", "keep lowest train.J\n  stop after"))
    assert [series.name for series in training.train_series] == ["train.J"]


@pytest.mark.parametrize("k", LEARNERS)
def test_a_synchronous_parameter_server_takes_a_step_for_each_push(k: int) -> None:
    """Dean et al. 2012: the server's optimizer takes the gradients one after the other."""
    data = {"points": DATA}
    run = trained(long_form("parameter_server"), data, k, STEPS)
    z, w, m = START, [START] * k, np.zeros(4)
    for t in range(STEPS):
        for i in range(k):
            m = 0.8 * m + rate(t) * gradient(w[i], t, i, k) / k
            z = z - m
        w = [z] * k
    agree(run, z, w)
    agree(trained(one_line("learners 4 per device by parameter_server()"), data, k, STEPS), z)


@pytest.mark.parametrize("k", LEARNERS)
def test_a_synchronous_parameter_server_of_sgd_is_synchronous_sgd(k: int) -> None:
    data = {"points": DATA}
    text = one_line("learners 4 per device by parameter_server()")
    other = one_line("learners 4 per device by sync_sgd()")
    using = ("momentum(rate, beta = 0.8)", "sgd(rate)")
    server = trained(text.replace(*using), data, k, STEPS).variables
    together = trained(other.replace(*using), data, k, STEPS).variables
    np.testing.assert_allclose(vector(server, "z"), vector(together, "z"), rtol=1e-10)


# --- identities ----------------------------------------------------------------------------------


def test_one_learner_without_corrections_has_the_bits_of_the_plain_plan() -> None:
    data = {"points": DATA}
    plain = trained(one_line(""), data, 1, STEPS).variables
    alone = trained(one_line("learners 1 per device by sma(alpha = 0, mu = 0)"), data, 1, STEPS)
    for name in ("w", "b"):
        np.testing.assert_array_equal(alone.variables[f"learners.z.{name}"][0], plain[f"z.{name}"])
        slot = f"momentum.learners.z.{name}.m"
        np.testing.assert_array_equal(alone.variables[slot][0], plain[f"momentum.z.{name}.m"])


@pytest.mark.parametrize("k", LEARNERS)
def test_learners_without_corrections_are_independent(k: int) -> None:
    run = replicas("sgd(0.05)", "sma(learners.w, z, alpha = 0, mu = 0)", k)
    w = [START] * k
    for t in range(STEPS):
        w = [w[i] - RATE * gradient(w[i], t, i, k) for i in range(k)]
    agree(run, START, w)


@pytest.mark.parametrize(
    "by",
    [
        "sma(tau = 2 steps)",
        "easgd()",
        "local_sgd(tau = 4 steps)",
        "post_local_sgd(first = 1 epoch)",
        "diloco(tau = 5 steps)",
        "gossip(share = 0.25)",
    ],
)
def test_the_one_line_form_is_the_block_with_replicas(by: str) -> None:
    data = {"points": DATA}
    short = trained(one_line(f"learners 4 per device by {by}"), data, 3, STEPS)
    name, _, arguments = by.partition("(")
    rest = f", {arguments}" if arguments != ")" else ")"
    text = one_line("").replace("feed x", "learners 4 per device {\n  w = replica(z)\n  feed x")
    text = text.replace("predicted = z(x)", "predicted = w(x)").replace(
        "beta = 0.8)", f"beta = 0.8)\n  }}\n  use {name}(learners.w, z{rest}"
    )
    long = trained(text.replace("mse(predicted, y) on", "mse(z(x), y) on"), data, 3, STEPS)
    for leaf in ("w", "b"):
        for mine, theirs in ((f"z.{leaf}", f"z.{leaf}"), (f"learners.z.{leaf}", f"w.{leaf}")):
            np.testing.assert_array_equal(short.variables[mine], long.variables[theirs])
    assert short.figures == long.figures
