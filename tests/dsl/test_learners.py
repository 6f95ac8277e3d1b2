"""What plans with learners mean: the axis, states, replicas, time; node by node in numpy."""

import numpy as np

from tests.dsl.reference import Reference, trained
from tests.dsl.test_strategies import DATA, HEAD, RATE, START, agree, gradient, vector


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
