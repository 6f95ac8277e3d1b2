"""Pushes: what learners assign, one after the other, to what they share."""

import numpy as np
import pytest

from tests.dsl.test_learners import run
from tests.dsl.test_strategies import DATA, LEARNERS, RATE, START, agree, gradient

PUSH = """
  z = line()
  learners 2 per device {
    w = replica(z)
    feed x, y from points.train |> batch(4)
    minimize loss = mse(w(x), y)
    %s
    w <- z
  }
"""


@pytest.mark.parametrize("k", LEARNERS)
@pytest.mark.parametrize("size", ["1", "norm(z)"])
def test_a_push_reads_its_target_as_the_one_before_has_left_it(k: int, size: str) -> None:
    """Whole: both parameters of one learner come before those of the next."""
    found = run(PUSH % f"z <- z - 0.05 * {size} * grad(loss, w)", k)
    z, w = START, [START] * k
    for t in range(6):
        for i in range(k):
            factor = np.linalg.norm(z) if size != "1" else 1.0
            z = z - RATE * factor * gradient(w[i], t, i, k)
        w = [z] * k
    agree(found, z, w)


@pytest.mark.parametrize("k", LEARNERS)
def test_an_optimizer_of_what_all_share_takes_a_step_for_each_learner(k: int) -> None:
    """Its slots belong to the push, and are one for all."""
    found = run(PUSH % "descend z along grad(loss, w) using clip_norm(1) |> adam(0.02)", k)
    z, w, m, v, steps = START, [START] * k, np.zeros(4), np.zeros(4), 0
    for t in range(6):
        for i in range(k):
            g = gradient(w[i], t, i, k)
            g = g * min(1, 1 / np.linalg.norm(g))
            steps += 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            z = z - 0.02 * (m / (1 - 0.9**steps)) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-8)
        w = [z] * k
    agree(found, z, w)
    assert found.variables["adam.t"] == 6 * k


def test_using_in_the_block_pushes_where_the_block_applies_what_all_share() -> None:
    plan = """
  z = line()
  learners 2 per device {
    feed x, y from points.train |> batch(4)
    minimize loss = mse(z(x), y)
    using momentum(0.05, beta = 0.5)
  }
"""
    found = run(plan, 3)
    z, m = START, np.zeros(4)
    for t in range(6):
        at_start = z
        for i in range(3):
            m = 0.5 * m + RATE * gradient(at_start, t, i, 3)
            z = z - m
    agree(found, z)


def test_pushes_follow_the_text_and_their_conditions() -> None:
    """Between two pushes of one block, a learner sees what all of them have made of the first."""
    plan = (
        PUSH
        % """
    state seen: f64 ~ zeros
    every 2 steps { z.b <- 0.5 * z.b + loss }
    seen <- z.b
    z.b <- z.b + seen
"""
    )
    found = run(plan, 3, 1)
    assert found.variables["z.b"] == START[3] + 3 * START[3]
    found = run(plan, 3, 2)
    b, w = START[3] * 4, np.array([0.3, 0.3, 0.3, START[3] * 4])
    for i in range(3):
        x, y = DATA["x"][(3 + i) * 4 : (4 + i) * 4], DATA["y"][(3 + i) * 4 : (4 + i) * 4]
        b = 0.5 * b + np.mean((x @ w[:3] + w[3] - y) ** 2)
    np.testing.assert_allclose(found.variables["learners.seen"], [b] * 3)
    np.testing.assert_allclose(found.variables["z.b"], 4 * b)
