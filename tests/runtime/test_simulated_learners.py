"""Plans with learners, from text, on a GPU that is none: any timing, and CUDA's rules.

At staleness 0 they leave numpy's bits, which does one thing after another. With more, pushes are
applied and seen whole, and nobody runs further ahead than was said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fml.engine.backends.interface import Backend, Issue, Loop, Trace
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.backends.simulated import SimulatedBackend
from fml.engine.ir.training import Training
from fml.engine.ops.record import Array
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.trainer import Trainer, train
from tests.dsl.programs import lowered
from tests.runtime.test_simulated import MODES
from tests.runtime.test_strategies import STRATEGIES, on_arrays, plan

STEPS = 6


@dataclass(frozen=True)
class Stepped:
    """A trainer whose first steps are taken again and again, each time in other timing."""

    trainer: Trainer
    start: dict[str, Array]
    modes: tuple[Steps, Steps]  # joined, and running on

    def left(self, is_joined: bool, steps: int = STEPS) -> dict[str, Array]:
        """The variables behind the first steps."""
        self.trainer.store.restore(self.start)
        assert self.modes[not is_joined].run(self.trainer.moment, 0.0, steps) == steps
        return self.trainer.store.snapshot()


def simulated(training: Training, timing: int, devices: int) -> Stepped:
    joined, running_on = SimulatedBackend(timing), SimulatedBackend(timing, is_joined=False)
    running_on.device = joined.device
    trainer = Trainer(*on_arrays(training), joined, 3, devices)
    modes = trainer.steps, trainer.steps.like(trainer.step, running_on)
    return Stepped(trainer, trainer.store.snapshot(), modes)


def left_by_numpy(training: Training, devices: int) -> dict[str, Array]:
    trainer = Trainer(*on_arrays(training), NumpyBackend(), 3, devices)
    for step in range(STEPS):
        trainer.steps.run(replace(trainer.moment, step=step), 0.0, 1)
    return trainer.store.snapshot()


def assert_equal(left: dict[str, Array], expected: dict[str, Array]) -> None:
    assert left.keys() == expected.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("learners", [2, 3])
@pytest.mark.parametrize("by", STRATEGIES)
def test_learners_in_step_leave_the_bits_of_numpy(by: str, learners: int, devices: int) -> None:
    training = plan(by, learners)
    expected = left_by_numpy(training, devices)
    run = simulated(training, 2 * learners + devices, devices)
    for is_joined in (True, False):
        for _ in range(3):
            assert_equal(run.left(is_joined), expected)


@MODES
@pytest.mark.parametrize("by", STRATEGIES)
def test_a_run_of_learners_is_numpy_s(by: str, is_joined: bool) -> None:
    """With what is averaged and measured between its steps, and with what is kept of it."""
    training = plan(by, 2, steps=30)
    one, other = (
        train(*on_arrays(training), backend, devices=2)
        for backend in (NumpyBackend(), SimulatedBackend(5, is_joined))
    )
    assert_equal(other.variables, one.variables)
    assert other.figures == one.figures
    assert [replace(point, seconds=0) for point in other.history] == [
        replace(point, seconds=0) for point in one.history
    ]


# --- learners that run ahead ----------------------------------------------------------------------

COUNTING = """
data points = given {{ x: f64[3]; y: f64 }}
model line(x: f64[N, 3]) -> f64[N] {{
  param w: f64[3] ~ zeros
  param b: f64 ~ zeros
  x @ w + b
}}
train {{
  z = line()
  sums = line()
  state of_0: f64 ~ zeros
  state of_1: f64 ~ zeros
  state of_2: f64 ~ zeros
  learners 3 per device, staleness = {staleness} {{
    w = replica(z)
    feed x, y from points.train |> batch(4)
    applied = sums(x)
    loss = mse(w(x), y)
    z <- z - 0.05 * grad(loss, w)
    w <- z
    state n: f64 ~ zeros
    state lead: f64 ~ zeros
    state torn: f64 ~ zeros
    n <- n + 1
    sums <- sums + n * cast(learners.index + 1, f64)
    torn <- torn + abs(sum(sums.w) - 3 * sums.b)
    of_0 <- of_0 + cast(learners.index == 0, f64)
    of_1 <- of_1 + cast(learners.index == 1, f64)
    of_2 <- of_2 + cast(learners.index == 2, f64)
    lead <- max(lead, n - min(min(of_0, of_1), of_2))
  }}
  stop after 30 steps
}}
"""
LONG = 16


def counting(staleness: str, timing: int) -> Stepped:
    """Each learner adds numbers to `sums`, counts its steps, and sees how far behind others are."""
    return simulated(lowered(COUNTING.format(staleness=staleness)), timing, 1)


@pytest.mark.parametrize(("staleness", "furthest"), [("1", 2), ("2", 3), ("unbounded", LONG)])
def test_pushes_of_learners_that_run_ahead_are_whole_and_none_is_lost(
    staleness: str, furthest: int
) -> None:
    """Numbers are small and integer: their sum is exact in any order.

    Who is a step ahead has taken, at the end of one, up to one more than the slowest.
    """
    leads: dict[bool, set[float]] = {True: set(), False: set()}
    for timing in range(6):
        run = counting(staleness, timing)
        for is_joined in (False, True):
            left = run.left(is_joined, LONG)
            assert left["sums.b"] == LONG * (LONG + 1) / 2 * (1 + 2 + 3)
            np.testing.assert_array_equal(left["sums.w"], [left["sums.b"]] * 3)
            np.testing.assert_array_equal(left["learners.torn"], [0] * 3)
            assert [left[f"of_{n}"] for n in range(3)] == [LONG] * 3
            leads[is_joined].update(left["learners.lead"])
    assert max(leads[True]) <= 1
    # Some run ahead, further than the least bound where that is not theirs.
    assert min(furthest, 3) <= max(leads[False]) <= furthest


class Unlocked(SimulatedBackend):
    """Knows nothing of critical sections."""

    def capture(
        self, issues: Sequence[Issue], devices: Sequence[int], trace: Trace | None = None
    ) -> Loop:
        return super().capture([replace(one, is_critical=False) for one in issues], devices, trace)


def test_without_sections_pushes_are_torn_and_lost() -> None:
    """So the test above shows something."""
    training = lowered(COUNTING.format(staleness="unbounded"))
    trainer = Trainer(*on_arrays(training), Unlocked(0, is_joined=False), 3)
    assert trainer.steps.run(trainer.moment, 0.0, LONG) == LONG
    assert trainer.store["sums.b"] < LONG * (LONG + 1) / 2 * 6
    assert trainer.store["learners.torn"].any()


@MODES
@pytest.mark.parametrize("staleness", ["2", "unbounded"])
@pytest.mark.parametrize("by", ["sma()", "parameter_server()", "local_sgd(tau = 4 steps)"])
def test_whole_runs_of_learners_that_run_ahead(by: str, staleness: str, is_joined: bool) -> None:
    """They come to their end, near what learners in step come to."""
    outcome = train(*on_arrays(plan(by, 3, staleness, 100)), SimulatedBackend(2, is_joined))
    in_step = train(*on_arrays(plan(by, 3, steps=100)), NumpyBackend())
    assert outcome.failure is None
    assert outcome.progress.step == 100
    assert outcome.figures["train.fit"] == pytest.approx(in_step.figures["train.fit"], rel=0.1)


PARTED = """
data points = given { x: f64[3]; y: f64 }
model line(x: f64[N, 3]) -> f64[N] {
  param w: f64[3] ~ zeros
  x @ w
}
train {
  z = line()
  state sum_of_all: f64 ~ zeros
  state level: f64 ~ zeros
  learners 3 per device, staleness = 2 {
    w = replica(z)
    feed x, y from points.train |> batch(4)
    loss = mse(w(x), y)
    state seen: f64 ~ zeros
    state kept: f64 ~ zeros
    sum_of_all <- sum_of_all + 1
    seen <- sum_of_all
  }
  every 1 step { level <- mean(learners.seen, over = learners) }
  when level > 3 { learners.kept <- sum_of_all }
  stop after 30 steps
}
"""


@pytest.mark.parametrize(
    "backend",
    [SimulatedBackend(3), SimulatedBackend(3, is_joined=False), LlvmBackend(2)],
    ids=["joined", "runs on", "compiled"],
)
def test_what_a_learner_reads_may_depend_on_what_all_have_read_before(backend: Backend) -> None:
    """The second reading waits for all learners' first: in one section with it, all would stall."""
    outcome = train(*on_arrays(lowered(PARTED)), backend)
    assert outcome.progress.step == 30
    assert outcome.variables["sum_of_all"] == 90
    np.testing.assert_array_less(3 * 30 - 3, outcome.variables["learners.kept"])
