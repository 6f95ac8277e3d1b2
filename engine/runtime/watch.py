"""What a run looks back on: series, and the rules that stop it and choose what it keeps."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ir.training import TOLERANCE, Duration, Series, StopPatience, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of a series, and when it was taken; `seconds` since the run began."""

    series: str
    step: int
    epoch: float
    samples: int
    seconds: float
    value: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for those who look on: after `step` steps, `epoch` epochs."""

    step: int
    epoch: float
    samples: int
    seconds: float
    latest: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Start:
    """What is known before the first step: where a run begins, and what it will take.

    `best` is the best figure so far of those that `keep` watches and the step when it was taken,
    of a run that goes on; `warnings` are of what it is told to do and will not come to.
    """

    progress: Progress
    steps_per_epoch: int
    footprint: Footprint
    best: tuple[float, int] | None = None
    warnings: tuple[Diagnostic, ...] = ()


class Listener(Protocol):
    """Is told what happens in a run."""

    def started(self, start: Start) -> None:
        """Everything is compiled and the first step is about to run."""
        ...

    def stepped(self, progress: Progress) -> None:
        """A step is over, or several in a row."""
        ...

    def measured(self, points: tuple[Point, ...]) -> None:
        """Figures were taken."""
        ...

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Figures of a split are being taken: `done` of its `samples` have been looked at."""
        ...

    def noted(self, words: str) -> None:
        """Something was decided or mended: how many learners there are, a learner restarted."""
        ...

    def interrupted(self) -> None:
        """A person or the system asks the run to stop.

        A signal's handler calls this on the main thread, which may stand anywhere: even in another
        of these methods, or in a write to a stream.
        """
        ...

    def stopped(self, progress: Progress, why: str) -> None:
        """The last step is over; the final figures are taken next."""
        ...

    def finished(self) -> None:
        """The run is over, however it ended: nothing is told any more."""
        ...


class Silent:
    """A listener who does nothing."""

    def started(self, start: Start) -> None:
        """Nothing."""

    def stepped(self, progress: Progress) -> None:
        """Nothing."""

    def measured(self, points: tuple[Point, ...]) -> None:
        """Nothing."""

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Nothing."""

    def noted(self, words: str) -> None:
        """Nothing."""

    def interrupted(self) -> None:
        """Nothing."""

    def stopped(self, progress: Progress, why: str) -> None:
        """Nothing."""

    def finished(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class Best:
    """The best value of a series so far and when it was; ties keep the first."""

    highest: bool
    value: float | None = None
    at: float = 0.0

    def is_beaten(self, value: float) -> bool:
        """Whether a value is strictly better than all before it."""
        if self.value is None:
            return not math.isnan(value)
        return value > self.value if self.highest else value < self.value

    def offer(self, value: float, at: float) -> None:
        """Take a value, and keep it if it is the best."""
        if self.is_beaten(value):
            self.value, self.at = value, at


@dataclass(slots=True)
class Mean:
    """The mean of a series over the steps of an epoch so far."""

    total: float = 0.0
    steps: int = 0

    def add(self, values: Array) -> None:
        """Take the values of some steps: one by one, so that it does not matter how many come."""
        for value in values.tolist():
            self.total += value
        self.steps += len(values)


def add_figures(
    means: Mapping[str, Mean],
    all_series: Iterable[Series],
    figures: Mapping[str, Array],
    count: int,
) -> None:
    """Take the figures of `count` steps, by output; where each learner has its own, their mean."""
    for series in all_series:
        values = figures[series.output][:count]
        if values.ndim > 1:
            values = values.reshape(count, -1).mean(axis=1, dtype=np.float64)
        means[series.name].add(values)


class Record:
    """All that was measured, and what the rules that look back make of it.

    `best` belongs to `keep`, and `kept` are the parameters and states it keeps; `patience` are the
    rules `stops falling` and `stops rising` with the best value of each. `of_step` are the values
    that the latest step gave to logs, `held` the rules `stop when` whose condition held after it,
    by their place among the rules.
    """

    def __init__(self, training: Training) -> None:
        """Begin with nothing measured."""
        self.latest: dict[str, float] = {}
        self.history: list[Point] = []
        self.of_step: dict[str, float] = {}
        self.held: list[int] = []
        self.means: dict[str, Mean] = {series.name: Mean() for series in training.train_series}
        self.keep = training.keep
        self.best = Best(highest=self.keep is not None and self.keep.highest)
        self.kept: dict[str, Array] = {}
        rules = [rule for rule in training.stops if isinstance(rule, StopPatience)]
        self.patience = [(rule, Best(highest=not rule.falling)) for rule in rules]

    def means_so_far(self) -> dict[str, float]:
        """Return the means over the steps of the epoch."""
        return {name: mean.total / mean.steps for name, mean in self.means.items() if mean.steps}

    def begin_epoch(self) -> None:
        """Begin with the means of the next epoch."""
        self.means = {name: Mean() for name in self.means}

    def note(
        self,
        points: Sequence[Point],
        passed: Callable[[Duration], float],
        model: Callable[[], dict[str, Array]],
    ) -> None:
        """Take figures; `passed` says how much of a unit has passed, `model` copies the model."""
        self.history += points
        for point in points:
            self.latest[point.series] = point.value
            for rule, best in self.patience:
                if point.series == rule.series:
                    best.offer(point.value, passed(rule.within))
            watched = self.keep is not None and point.series == self.keep.series
            if watched and self.best.is_beaten(point.value):
                # First, so that nothing is the best whose model is not kept, wherever it is cut.
                self.kept = model()
                self.best.offer(point.value, point.step)

    def stalled(self, passed: Callable[[Duration], float]) -> StopPatience | None:
        """Return a rule whose series has not become better for as long as it says."""
        for rule, best in self.patience:
            waited = passed(rule.within) - best.at
            if best.value is not None and waited >= rule.within.amount - TOLERANCE:
                return rule
        return None

    def best_so_far(self) -> tuple[float, int] | None:
        """Return the best figure of those that `keep` watches, and the step when it was taken."""
        return None if self.best.value is None else (self.best.value, int(self.best.at))

    def state(self) -> dict[str, Any]:
        """Return all but the history and the variables kept, as JSON has it."""
        return {
            "latest": self.latest,
            "of_step": self.of_step,
            "held": self.held,
            "means": {name: [m.total, m.steps] for name, m in self.means.items()},
            "best": [self.best.value, self.best.at],
            "patience": [[best.value, best.at] for _, best in self.patience],
        }

    def resume(self, state: Mapping[str, Any], kept: Mapping[str, Array]) -> None:
        """Go on from a `state`."""
        self.latest, self.kept = dict(state["latest"]), dict(kept)
        self.of_step, self.held = dict(state["of_step"]), list(state.get("held", ()))
        self.means = {name: Mean(*mean) for name, mean in state["means"].items()}
        self.best.value, self.best.at = state["best"]
        for (_, best), (value, at) in zip(self.patience, state["patience"], strict=True):
            best.value, best.at = value, at
