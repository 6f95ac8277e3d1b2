"""How many steps are taken before Python looks up: as many as fit into a short time."""

from collections.abc import Iterable

import numpy as np

from fml.engine.ir.training import TOLERANCE, Duration, Training, Unit
from fml.engine.runtime.section import Moment, is_due
from fml.engine.runtime.watch import Record

# Progress is shown so often; a request to stop is heard at the end of any step. Python's share of a
# step of a tenth of a second is then some 10 microseconds.
SECONDS_AT_ONCE = 0.5
# One stretch may be so many times as long as the longest one before it.
GROWTH = 8


class Pace:
    """The number of steps to be taken at once."""

    def __init__(self, durations: Iterable[Duration]) -> None:
        """After each of the durations something is due: those in seconds cut a stretch short."""
        self._each = [d.amount for d in durations if d.unit is Unit.SECONDS]
        self._a_step = 0.0  # seconds
        self._most = 1

    def steps(self, seconds: float, seconds_before: float) -> int:
        """How many steps are taken next, so many seconds after the run began.

        What was due at the latest look, after `seconds_before`, is not due again.
        """
        left = SECONDS_AT_ONCE
        for each in self._each:
            left = min(left, (seconds_before // each + 1) * each - seconds)
        return max(1, min(int(left / max(self._a_step, 1e-9)), self._most))

    def took(self, steps: int, seconds: float) -> None:
        """So many steps have taken so long."""
        self._a_step = seconds / max(steps, 1)
        self._most = max(self._most, GROWTH * steps)


class Ahead:
    """How far it is to where something is due.

    That is looked for once and holds until it is reached, or until there are new figures, on which
    it depends: to look takes half as long as all else that Python does between two stretches.
    """

    def __init__(self, training: Training, record: Record, most: int) -> None:
        """`most` steps are looked ahead."""
        self._training, self._record, self._most = training, record, most
        self._seen, self._known = 0, 0  # from here to there, nothing is due but at the end
        self._figures = 0  # how many there were then

    def at_most(self, count: int, moment: Moment) -> int:
        """Of `count` steps from a moment on, how many there are up to where something is due."""
        if self._training.reads_every_step:
            return 1
        figures = len(self._record.history)
        if figures != self._figures or not self._seen <= moment.step <= self._known - count:
            self._seen, self._figures = moment.step, figures
            self._known = moment.step + self._steps_to_look(moment)
        return min(count, self._known - moment.step)

    def _steps_to_look(self, moment: Moment) -> int:
        """After how many steps something is due; as many as are looked ahead if nothing is."""
        steps = moment.step + 1 + np.arange(self._most)
        due = steps % moment.steps_per_epoch == 0
        for duration in self._training.durations:
            if duration.unit is not Unit.SECONDS:
                due |= np.asarray(is_due(duration, moment, steps))
        for rule, best in self._record.patience:
            if best.value is not None and rule.within.unit is not Unit.SECONDS:
                waited = moment.count(rule.within.unit.value, steps) - best.at
                due |= np.asarray(waited >= rule.within.amount - TOLERANCE)
        return int(np.argmax(due)) + 1 if due.any() else self._most
