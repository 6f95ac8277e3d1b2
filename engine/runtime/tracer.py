"""Keeps when everything was done in the latest steps of a run, while it is taken."""

import time
from collections import deque
from dataclasses import dataclass

from fml.engine.ops.record import Array
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.steps import Steps

# Of so many steps, the last ones: everything is warm by then.
SHOWN_STEPS = 8


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One step: its number, and of each thing when it was done and by whom, as in `Times`.

    Attributes:
        seconds: f64[things, 2], since the run was begun to be traced.
        workers: i64[things].
    """

    step: int
    seconds: Array
    workers: Array


class Tracer:
    """Takes the steps of a run with a look at the clock around each thing that they do.

    Attributes:
        steps: those that were taken last, at most `SHOWN_STEPS`.
        section: the graph of a step; None before the first one.
        given_to: the nodes that are given something before each step, with one stream.
    """

    def __init__(self) -> None:
        """Nothing has been taken yet."""
        self.steps: deque[TracedStep] = deque(maxlen=SHOWN_STEPS)
        self.section: Section | None = None
        self.given_to: tuple[int, ...] = ()
        self._began = time.perf_counter()

    def run(self, steps: Steps, moment: Moment, seconds_before: float, count: int) -> int:
        """Take `count` steps, or fewer where the table of times ends; return as `Steps.run`.

        Raises:
            StepRaised: as `Steps.run`.
        """
        self.section, self.given_to = steps.section, steps.given_to
        count = min(count, steps.most_traced)
        steps.fill(moment, seconds_before, count)
        begun = time.perf_counter() - self._began
        times = steps.take_traced(count)
        for number, (seconds, workers) in enumerate(zip(times.seconds, times.workers, strict=True)):
            self.steps.append(TracedStep(moment.step + number, begun + seconds, workers))
        return len(times.seconds)
