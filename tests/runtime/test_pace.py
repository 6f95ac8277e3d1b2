"""How many steps are taken at once: as many as wished, and never past what is due."""

import numpy as np

from fml.engine.runtime.pace import Ahead
from fml.engine.runtime.section import Moment
from fml.engine.runtime.watch import Point, Record
from tests.dsl.programs import lowered

PER_EPOCH, MOST = 12, 40
TEXT = """
data points = given { x: f32[2]; y: f32 }
model net(x: f32[N, 2]) -> f32[N] { param w: f32[2] ~ ones; x @ w }
train {
  net = net()
  feed x, y from points.train |> batch(5)
  minimize loss = mse(net(x), y)
  using sgd(0.1)
  log norm(net.w) as "length" every 7 steps
  measure mae(net(x), y) on points.train every 2 epochs
  stop after 500 steps
}
"""


def test_steps_go_as_far_as_what_is_due_and_no_farther() -> None:
    """Also where a run goes back to an earlier step."""
    training, random = lowered(TEXT), np.random.default_rng(0)
    ahead = Ahead(training, Record(training), MOST)
    step = 0
    for _ in range(300):
        wanted = int(random.integers(1, MOST + 1))
        due = (n for n in range(1, 500) if (step + n) % PER_EPOCH == 0 or (step + n) % 7 == 0)
        count = ahead.at_most(wanted, Moment(step, PER_EPOCH, 5))
        assert count == min(wanted, next(due))
        step = step + count if random.random() < 0.9 else int(random.integers(0, step + 1))


def test_a_figure_that_comes_by_the_clock_changes_what_is_due() -> None:
    patient = TEXT.replace("every 2 epochs", "every 1 seconds").replace(
        "  stop after", "  stop when train.mae stops falling for 3 steps\n  stop after"
    )
    training = lowered(patient)
    record = Record(training)
    ahead = Ahead(training, record, MOST)
    assert ahead.at_most(MOST, Moment(0, PER_EPOCH, 5)) == 7
    record.note((Point("train.mae", 1, 0.1, 5, 1.0, 0.5),), lambda within: 1.0, dict)
    assert ahead.at_most(MOST, Moment(1, PER_EPOCH, 5)) == 3
