"""fml: a run by the public way, whose listener lets the others have their turns."""

import sys
import time
from pathlib import Path

import numpy as np

import fml
from contest.models import CHECKED_STEPS, SEED, Model, Start, text_of
from contest.turns import WARM_STEPS, Report, Spec, resident
from fml.engine.backends.processor import processor
from fml.engine.runtime.trainer import Trainer
from fml.engine.runtime.watch import Progress, Silent


def run(spec: Spec, model: Model, folder: Path, report: Report) -> None:
    """Train until the parent closes the pipe."""
    start = Start.read(folder)
    processor()  # what the compiler brings along counts as imported
    program = fml.loads(text_of(model, spec.batch // spec.learners, spec.learners))
    given = {"train": {"x": start.x, "y": start.y}}
    del start
    turns = _Turns(report)
    program.train(data={"d": given}, seed=SEED, on_event=turns)


def losses(model: Model, batch: int, folder: Path) -> list[float]:
    """Those of the first steps from the weights that all contestants begin with."""
    start = Start.read(folder)
    training = fml.loads(text_of(model, batch)).lower()
    data = {"d": {"train": {"x": start.x, "y": start.y}}}
    trainer = Trainer(training, data, processor(), SEED)
    trainer.store.restore({f"m.{path}": value for path, value in start.weights.items()})
    trainer.steps.run(trainer.moment, 0.0, CHECKED_STEPS)
    (series,) = training.train_series
    return np.asarray(trainer.steps.figures[series.output][:CHECKED_STEPS]).tolist()


class _Turns(Silent):
    """Waits, between stretches of steps, until it is its turn."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._until = WARM_STEPS
        self._before = resident()
        self._from = 0
        self._began = 0.0

    def started(self, _: object) -> None:
        """Everything is compiled."""
        self._began = time.perf_counter()

    def stepped(self, progress: Progress) -> None:
        """Go on, or report and wait."""
        if progress.step < self._until:
            return
        seconds, steps = time.perf_counter() - self._began, progress.step - self._from
        if not self._from:
            self._report.ready([], resident() - self._before, seconds / steps)
        else:
            self._report.turn(steps, seconds)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._from, self._until = progress.step, progress.step + int(line)
        self._began = time.perf_counter()
