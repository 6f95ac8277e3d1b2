"""How many steps are taken at once: as many as wished, and never past what is due."""

import numpy as np

from fml.engine.ir.training import Duration, Unit
from fml.engine.runtime.pace import Ahead, Pace
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


def test_a_stretch_ends_where_the_clock_says_that_something_is_due() -> None:
    """Steps take 20 ms each here; what is due by the clock is not passed by more than one."""
    pace = Pace([Duration(0.3, Unit.SECONDS), Duration(5, Unit.EPOCHS)])
    seconds, before, lengths = 0.0, 0.0, list[int]()
    for _ in range(40):
        count = pace.steps(seconds, before)
        lengths.append(count)
        due = (before // 0.3 + 1) * 0.3
        assert seconds + 0.02 * count < max(due, seconds) + 0.021
        pace.took(count, 0.02 * count)
        seconds, before = seconds + 0.02 * count, seconds
    assert max(lengths) > 10


def test_stretches_grow_to_half_a_second_and_no_faster_than_eightfold() -> None:
    pace = Pace([])
    lengths = list[int]()
    for _ in range(6):
        lengths.append(pace.steps(0.0, 0.0))
        pace.took(lengths[-1], 0.001 * lengths[-1])
    assert lengths[:3] == [1, 8, 64]
    assert lengths[-1] in {499, 500}
