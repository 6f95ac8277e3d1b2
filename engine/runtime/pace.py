"""How many steps are taken before Python looks up: as many as fit into a short time."""

import numpy as np

from fml.engine.ir.training import Training, Unit
from fml.engine.runtime.section import Moment, is_due
from fml.engine.runtime.watch import TOLERANCE, Record

# Progress is shown so often; a request to stop is heard at the end of any step.
SECONDS_AT_ONCE = 0.25
# One stretch may be so many times as long as the one before it.
GROWTH = 8


class Pace:
    """The number of steps to be taken at once.

    Attributes:
        steps: how many steps are taken next.
    """

    def __init__(self) -> None:
        self.steps = 1

    def took(self, steps: int, seconds: float) -> None:
        """So many steps have taken so long."""
        fitting = int(SECONDS_AT_ONCE * steps / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, GROWTH * self.steps))


def steps_to_look(training: Training, record: Record, moment: Moment, most: int) -> int:
    """After how many steps something is due; `most` at once if nothing is."""
    if training.reads_every_step:
        return 1
    steps = moment.step + 1 + np.arange(most)
    due = steps % moment.steps_per_epoch == 0
    for duration in training.durations:
        if duration.unit is not Unit.SECONDS:
            due |= np.asarray(is_due(duration, moment, steps))
    for rule, best in record.patience:
        if best.value is not None and rule.within.unit is not Unit.SECONDS:
            waited = moment.count(rule.within.unit.value, steps) - best.at
            due |= np.asarray(waited >= rule.within.amount - TOLERANCE)
    return int(np.argmax(due)) + 1 if due.any() else most
