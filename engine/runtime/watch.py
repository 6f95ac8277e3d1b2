"""What a run looks back on: series, and the rules that stop it and choose what it keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fml.engine.ir.training import Keep, StopPatience
from fml.engine.ops.record import Array


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


class Listener(Protocol):
    """Is told what happens in a run."""

    def started(self, progress: Progress, steps_per_epoch: int) -> None:
        """Everything is compiled and the first step is about to run."""
        ...

    def stepped(self, progress: Progress) -> None:
        """A step is over."""
        ...

    def measured(self, points: tuple[Point, ...]) -> None:
        """Figures were taken."""
        ...

    def stopped(self, progress: Progress, why: str) -> None:
        """The last step is over."""
        ...


class Silent:
    """A listener who does nothing."""

    def started(self, progress: Progress, steps_per_epoch: int) -> None:
        """Nothing."""

    def stepped(self, progress: Progress) -> None:
        """Nothing."""

    def measured(self, points: tuple[Point, ...]) -> None:
        """Nothing."""

    def stopped(self, progress: Progress, why: str) -> None:
        """Nothing."""


@dataclass(slots=True)
class Best:
    """The best value of a series so far and when it was; ties keep the first."""

    highest: bool
    value: float | None = None
    at: float = 0.0

    def offer(self, value: float, at: float) -> bool:
        """Take a value; whether it is strictly better than all before it."""
        better = self.value is None or (value > self.value if self.highest else value < self.value)
        if better and not math.isnan(value):
            self.value, self.at = value, at
            return True
        return False


@dataclass(slots=True)
class Patience:
    """`stop when valid.loss stops falling for 8 epochs`."""

    rule: StopPatience
    best: Best = field(init=False)

    def __post_init__(self) -> None:
        self.best = Best(highest=not self.rule.falling)


@dataclass(slots=True)
class Kept:
    """The parameters of the best figure."""

    rule: Keep
    best: Best = field(init=False)
    values: dict[str, Array] | None = None
    step: int = 0

    def __post_init__(self) -> None:
        self.best = Best(self.rule.highest)
