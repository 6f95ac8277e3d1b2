"""fml: a run whose listener lets the others have their turns."""

import sys
import time
from pathlib import Path

import numpy as np

import fml
from contest.models import CHECKED_STEPS, SEED, Model, Start, text_of
from contest.turns import WARM_STEPS, Report, Spec, resident
from fml.engine.backends.interface import Backend
from fml.engine.backends.processor import processor
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.trainer import Trainer, train
from fml.engine.runtime.watch import Progress, Silent
from fml.engine.sources.bind import bind
from fml.training import read_data


def run(spec: Spec, model: Model, folder: Path, report: Report) -> None:
    """Train as `Program.train` does, until the parent closes the pipe."""
    start = Start.read(folder)
    backend = processor()  # what the compiler brings along counts as imported
    each = spec.batch // spec.learners
    program = fml.loads(text_of(model, each, spec.learners, spec.variant))
    training = program.lower()
    given = {"d": {"train": {"x": start.x, "y": start.y}}}
    training, data = bind(training, read_data(program, training, given))
    train(training, data, backend, seed=SEED, listener=_Turns(report))


def trainer_of(spec: Spec, model: Model, start: Start, backend: Backend) -> Trainer:
    """A run that has not begun, of whose learners all have the weights that everybody begins with.

    What a strategy remembers of the model (`previous`) is not set.
    """
    each = spec.batch // spec.learners
    training = fml.loads(text_of(model, each, spec.learners, spec.variant)).lower()
    data: Data = {"d": {"train": {"x": start.x, "y": start.y}}}
    trainer = Trainer(training, data, backend, SEED)
    weights = {f"m.{path}": value for path, value in start.weights.items()}
    replicas = {f"learners.{path}": value for path, value in weights.items()}
    trainer.store.restore(weights)
    trainer.store.restore({path: v for path, v in replicas.items() if path in trainer.store})
    return trainer


def losses(spec: Spec, model: Model, folder: Path) -> list[float]:
    """Those of the first steps; of several learners their mean."""
    backend = processor()
    trainer = trainer_of(spec, model, Start.read(folder), backend)
    with backend.at_work():
        trainer.steps.run(trainer.moment, 0.0, CHECKED_STEPS)
    (series,) = trainer.training.train_series
    figures = np.asarray(trainer.steps.figures[series.output][:CHECKED_STEPS])
    return figures.reshape(CHECKED_STEPS, -1).mean(1).tolist()


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
