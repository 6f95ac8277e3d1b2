"""What plans with learners mean: the axis, states, replicas, time; node by node in numpy."""

import numpy as np
import pytest

from tests.backends import on_each_backend
from tests.dsl.programs import trained as train
from tests.dsl.reference import Reference, trained
from tests.dsl.test_strategies import DATA, HEAD, RATE, START, N, agree, gradient, vector


def run(plan: str, k: int, steps: int = 6) -> Reference:
    """Train the plan with `line` for a model."""
    text = f"{HEAD}\ntrain {{\n{plan}\n  stop after 1 epoch\n}}\n"
    return trained(text, {"points": DATA}, k, steps)


BLOCK = """
  z = line()
  learners 2 per device {
    w = replica(z)
    feed x, y from points.train |> batch(4)
    minimize loss = mse(w(x), y)
    using sgd(0.05)
    %s
  }
"""


def test_a_state_like_a_layer_value_is_one_for_each_parameter() -> None:
    """The heavy ball, written out in a plan."""
    plan = """
  z = line()
  feed x, y from points.train |> batch(4)
  minimize loss = mse(z(x), y)
  state m: z ~ zeros
  m <- 0.9 * m + 0.05 * grad(loss, z)
  z <- z - m
"""
    found = run(plan, 1)
    z, m = START, np.zeros(4)
    for t in range(6):
        m = 0.9 * m + RATE * gradient(z, t, 0, 1)
        z = z - m
    agree(found, z)
    np.testing.assert_allclose(vector(found.variables, "m"), m)


def test_states_of_learners_and_of_each_use_of_a_strategy_are_their_own() -> None:
    strategy = """
strategy trail(of, share) {
  state v: of ~ ones
  every 2 steps { v <- v + share * (of - v) }
}
"""
    plan = (
        BLOCK % "state v: w ~ zeros\n    v <- v + w"
        + """
  use trail(z, 0.5)
  use trail(learners.w, 0.25)
  every 1 step { z <- mean(learners.w, over = learners); learners.v.b <- learners.v.b + 1 }
"""
    )
    text = f"{HEAD}{strategy}\ntrain {{\n{plan}\n  stop after 1 epoch\n}}\n"
    found = trained(text, {"points": DATA}, 2, 6)
    assert {name for name in found.variables if ".w" in name} == {
        "z.w", "w.w", "learners.v.w", "trail.v.w", "trail_1.v.w",
    }  # fmt: skip
    w, v = np.stack([START] * 2), np.zeros((2, 4))
    z, of_z, of_w = START, np.ones(4), np.ones((2, 4))
    for t in range(6):
        w = w - RATE * np.stack([gradient(w[i], t, i, 2) for i in range(2)])
        v = v + w
        if t % 2:
            of_z = of_z + 0.5 * (z - of_z)
            of_w = of_w + 0.25 * (w - of_w)
        z = w.mean(0)
        v[:, 3] += 1
    agree(found, z, list(w))
    for name, expected in {"learners.v": v, "trail.v": of_z, "trail_1.v": of_w}.items():
        np.testing.assert_allclose(vector(found.variables, name), expected, err_msg=name)


@on_each_backend
def test_states_like_a_layer_value_and_replicas_train() -> None:
    """The heavy ball and a moving average of the parameters, in a plan without learners."""
    plan = """
  z = line()
  slow = replica(z)
  feed x, y from points.train |> batch(4)
  minimize loss = mse(z(x), y)
  state m: z ~ zeros
  m <- 0.9 * m + 0.05 * grad(loss, z)
  z <- z - m
  every 1 step { slow <- 0.8 * slow + 0.2 * z }
  measure mse(slow(x), y) as "slow" on points.train
  stop after 6 steps
"""
    found = train(f"{HEAD}\ntrain {{\n{plan}\n}}\n", {"points": DATA})
    z, m, slow = START, np.zeros(4), START
    for t in range(6):
        m = 0.9 * m + RATE * gradient(z, t, 0, 1)
        z = z - m
        slow = 0.8 * slow + 0.2 * z
    for name, expected in {"z": z, "m": m, "slow": slow}.items():
        np.testing.assert_allclose(vector(found.variables, name), expected, rtol=1e-9)
    mse = np.mean((DATA["x"] @ slow[:3] + slow[3] - DATA["y"]) ** 2)
    np.testing.assert_allclose(found.figures["train.slow"], mse)


# --- derivatives through the axis ----------------------------------------------------------------

SYNCHRONOUS = """
  z = line()
  learners 2 per device {
    feed x, y from points.train |> batch(4)
    loss = mse(z(x), y)
  }
  minimize J = mean(learners.loss, over = learners) + 0.1 * l2(z)
  using momentum(0.05 |> warmup(4 steps), beta = 0.5)
  measure mse(z(x), y) on points.train
"""


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_a_derivative_through_the_axis_is_that_of_one_large_batch(k: int) -> None:
    found = run(SYNCHRONOUS, k)
    z, m = START, np.zeros(4)
    for t in range(6):
        g = gradient(z, t, 0, 1, batch=k * N) + 0.2 * z
        m = 0.5 * m + RATE * min(1, (t + 1) / 4) * g
        z = z - m
    agree(found, z)
    # What is minimised is measured too, and there all learners are one.
    x = np.hstack([DATA["x"], np.ones((len(DATA["x"]), 1))])
    mse = np.mean((x @ z - DATA["y"]) ** 2)
    np.testing.assert_allclose(found.measured("train.mse"), mse)
    slots = [v for n, v in found.training.variables.items() if n.startswith("momentum.")]
    assert len(slots) == 2
    assert not any(v.mapped for v in slots)


def test_what_is_minimised_is_measured_where_all_learners_are_one() -> None:
    plan = SYNCHRONOUS.replace("on points.train", "on points.valid")
    found = run(plan.replace("mean(learners", "sum(learners"), 3)
    x, y = DATA["x"], DATA["y"]
    z = vector(found.variables, "z")
    mse = np.mean((x @ z[:3] + z[3] - y) ** 2)
    np.testing.assert_allclose(found.measured("valid.J"), 3 * mse + 0.1 * z @ z)


@pytest.mark.parametrize("k", [1, 3])
def test_in_the_block_each_learner_has_its_own_gradient_for_what_all_share(k: int) -> None:
    plan = """
  z = line()
  learners 2 per device {
    feed x, y from points.train |> batch(4)
    minimize loss = mse(z(x), y)
    g = grad(loss, z)
    longest = norm(g)
  }
  every 1 step {
    z <- z - 0.05 * mean(learners.g, over = learners)
    state seen: f64 ~ zeros
    seen <- seen + max(learners.longest, over = learners) - min(learners.longest, over = learners)
  }
"""
    found = run(plan, k)
    z, seen = START, 0.0
    for t in range(6):
        g = [gradient(z, t, i, k) for i in range(k)]
        z = z - RATE * sum(g) / k
        seen += max(map(np.linalg.norm, g)) - min(map(np.linalg.norm, g))
    agree(found, z)
    np.testing.assert_allclose(found.variables["seen"], seen, atol=1e-12)


# --- replicas, draws, time -----------------------------------------------------------------------


def test_a_replica_may_stand_anywhere_and_is_measured_itself() -> None:
    """A moving average of the parameters, beside the model."""
    plan = """
  z = line()
  slow = replica(z)
  feed x, y from points.train |> batch(4)
  minimize loss = mse(z(x), y)
  using sgd(0.05)
  every 1 step { slow <- 0.8 * slow + 0.2 * z }
  measure mse(slow(x), y) as "slow", mse(z(x), y) as "fast" on points.train
"""
    found = run(plan, 1)
    z = slow = START
    for t in range(6):
        z = z - RATE * gradient(z, t, 0, 1)
        slow = 0.8 * slow + 0.2 * z
    agree(found, z)
    np.testing.assert_allclose(vector(found.variables, "slow"), slow)
    assert {m.name for m in found.training.models} == {"z", "slow"}
    for name, w in {"slow": slow, "fast": z}.items():
        mse = np.mean((DATA["x"] @ w[:3] + w[3] - DATA["y"]) ** 2)
        np.testing.assert_allclose(found.measured(f"train.{name}"), mse)


def test_each_learner_draws_its_own_numbers() -> None:
    plan = (
        BLOCK % "state noise: f64[3] ~ zeros\n    noise <- uniform(noise)"
        + "use easgd(learners.w, z)"
    )
    noise = run(plan, 3).variables["learners.noise"]
    assert len(np.unique(noise)) == 9
    np.testing.assert_array_equal(noise[:2], run(plan, 2).variables["learners.noise"])


def test_learners_have_numbers_neighbours_and_memories() -> None:
    plan = (
        BLOCK
        % "state a: f64 ~ zeros\n    a <- a + cast(learners.index, f64) + loss - previous(loss)"
        + """
  every 2 steps {
    learners.a <- roll(learners.a, 1, over = learners) * size(learners)
    z <- min(learners.w, over = learners)
  }
"""
    )
    found = run(plan, 3)
    w, a, before = np.stack([START] * 3), np.zeros(3), None
    for t in range(6):
        x = [DATA["x"][(3 * t + i) * N : (3 * t + i + 1) * N] for i in range(3)]
        y = [DATA["y"][(3 * t + i) * N : (3 * t + i + 1) * N] for i in range(3)]
        loss = [np.mean((x[i] @ w[i, :3] + w[i, 3] - y[i]) ** 2) for i in range(3)]
        w = w - RATE * np.stack([gradient(w[i], t, i, 3) for i in range(3)])
        a = a + np.arange(3) + np.array(loss) - np.array(before or loss)
        before = loss
        if t % 2:
            a = np.array([a[2], a[0], a[1]]) * 3
    agree(found, w.min(0), list(w))
    np.testing.assert_allclose(found.variables["learners.a"], a)


def test_a_condition_of_each_learner_holds_for_it_alone() -> None:
    plan = (
        BLOCK % "far = norm(w - z)"
        + """
  mean_of_all = mean(learners.w, over = learners)
  every 3 steps { z <- mean(learners.w, over = learners) }
  when learners.far > 0.05 { learners.w <- 0.5 * learners.w + 0.5 * z }
"""
    )
    found = run(plan, 3)
    w, z = np.stack([START] * 3), START
    for t in range(6):
        w = w - RATE * np.stack([gradient(w[i], t, i, 3) for i in range(3)])
        far = [np.linalg.norm(w[i] - z) > 0.05 for i in range(3)]
        if t % 3 == 2:
            z = w.mean(0)
        w = np.stack([0.5 * w[i] + 0.5 * z if far[i] else w[i] for i in range(3)])
    agree(found, z, list(w))
