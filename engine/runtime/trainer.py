"""The loop: step, then what comes after a step, until a rule says stop (language, section 5)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, error
from fml.engine.ir.training import (
    LEARNERS,
    STEPS_PER_EPOCH,
    Duration,
    Log,
    Role,
    StopAfter,
    StopWhen,
    Training,
    Unit,
)
from fml.engine.ops.record import Array
from fml.engine.runtime.checkpoint import Checkpoint, write_checkpoint
from fml.engine.runtime.feeding import Batches, Data, samples_in
from fml.engine.runtime.fingerprint import fingerprint
from fml.engine.runtime.first_values import new_store
from fml.engine.runtime.footprint import Footprint, footprint
from fml.engine.runtime.interrupt import Interrupt
from fml.engine.runtime.measuring import measurements
from fml.engine.runtime.pace import Pace
from fml.engine.runtime.section import Moment, Section, is_due
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.trail import Trail
from fml.engine.runtime.watch import (
    TOLERANCE,
    Listener,
    Point,
    Progress,
    Record,
    Silent,
    Start,
)

# After the first checkpoint, the next one comes when writing the one before it has taken no more
# than this share of the time, and at most one a second.
SHARE_FOR_CHECKPOINTS = 0.02
LEAST_SECONDS_BETWEEN_CHECKPOINTS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: its parameters and all other variables, and its figures.

    `variables` are those kept (`keep`), or the last; `figures` are the series on whole splits at
    the end; `stopped_by` says in words why it ended; `failure` is set where it had to.
    """

    variables: Mapping[str, Array]
    history: tuple[Point, ...]
    figures: Mapping[str, float]
    stopped_by: str
    progress: Progress
    interrupted: bool = False
    failure: Diagnostic | None = None


def train(
    training: Training,
    data: Data,
    backend: Backend,
    *,
    seed: int | None = None,
    listener: Listener | None = None,
    checkpoint: Path | None = None,
    resume: Checkpoint | None = None,
) -> Outcome:
    """Run a plan to its end.

    `seed` stands in for the plan's own; `checkpoint` is a file that is written before the first
    step, every few seconds and at the end. With `resume` a run goes on where a checkpoint was
    written, with the bits it would have had; its history begins there.

    Raises:
        FmlError: it cannot be begun: batches larger than their split (E0520), splits without
            samples (E0521), a checkpoint of another run (E0711), sizes that do not fit, or
            learners, which are lowered but not run yet (E0901). Or it cannot go on: the
            checkpoint cannot be written (E0732).
    """
    require_no_learners(training)
    with backend.at_work():
        trainer = Trainer(training, data, backend, training.seed if seed is None else seed)
        trainer.listener = listener or Silent()
        trainer.checkpoint = checkpoint
        if resume is not None:
            trainer.resume(resume)
        return trainer.run()


def require_no_learners(training: Training) -> None:
    """Refuse a plan that has learners.

    Raises:
        FmlError: E0901.
    """
    if training.learners is None:
        return
    marks = (Mark(training.learners.span),) if training.learners.span else ()
    message = "learners are checked and lowered, and cannot be run yet"
    help = "train a plan without `learners`"
    raise FmlError([Diagnostic("E0901", message, marks, (), help)])


class Trainer:
    """One run of one plan."""

    def __init__(self, training: Training, data: Data, backend: Backend, seed: int) -> None:
        """Compile everything and set the variables to their first values."""
        self.training = training
        self.listener: Listener = Silent()
        self.checkpoint: Path | None = None
        self.seed = seed % 2**63  # the words of the random generators
        self.batches = [
            Batches(f, samples_in(data, f.data, f.split, "train on", f.span), self.seed)
            for f in training.feeds
        ]
        first = self.batches[0] if self.batches else None
        per_epoch, batch = (first.per_epoch, first.size) if first else (1, 1)
        self.moment = Moment(0, per_epoch, batch, self.seed)
        sizes = {str(STEPS_PER_EPOCH): per_epoch, str(LEARNERS): 1}
        self.store = store = new_store(training, backend, self.seed, sizes)
        fed = {batches.feed.dim: batches.size for batches in self.batches}
        self.step = Section(training.step, sizes | fed, backend, store)
        self.measurements = measurements(training, data, sizes, backend, store)
        self.logs = {
            log.series.name: Section(log.graph, sizes, backend, store)
            for log in training.logs
            if log.graph is not None
        }
        self.conditions = {
            number: Section(rule.graph, sizes, backend, store)
            for number, rule in enumerate(training.stops)
            if isinstance(rule, StopWhen)
        }
        # The steps end at a figure that is not finite; what is logged may be.
        figures = {series.output: True for series in training.train_series}
        logged = {log.series.output: False for log in training.logs if log.graph is None}
        self.steps = Steps(self.step, self.batches, backend, logged | figures)
        self.trail = Trail(self.steps, backend, store)
        self.record = Record(training)
        self.failure: Diagnostic | None = None
        self._data = data
        self._pace = Pace()
        self._stepping = False
        self._looked = True
        self._remembered: dict[str, Array] = {}
        self._began = time.monotonic()
        self._next_save = 0.0
        self._seconds_before = 0.0

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Step until a rule, a person or a figure that is not finite says stop."""
        if self.checkpoint and not self.moment.step:
            self._save(self.checkpoint)  # a kill at any moment leaves something to go on from
        epoch, best = self.moment.steps_per_epoch, self.record.best_so_far()
        start = Start(self.progress(), epoch, self.footprint(), best)
        with Interrupt(self.steps.end) as interrupt:
            self.listener.started(start)
            why = "it could not go on"
            try:
                why = self._step_until(interrupt)
            except KeyboardInterrupt:
                # The second Ctrl-C does not wait for the step; half of one is worth nothing.
                if self._stepping:
                    self.trail.undo()
                interrupt.requested, why = True, "interrupted"
            finally:
                self.listener.stopped(self.progress(), why)
            return self._finish(why, interrupt.requested)

    def _step_until(self, interrupt: Interrupt) -> str:
        if self.moment.step:
            # Resumed: what was interrupted before it was looked at is looked at now.
            why = self._stop_reason() if self._looked else self._look()
            if why:
                return why
        while True:
            self._some_steps()
            if self.failure is not None:
                return self.failure.message
            if interrupt.requested:
                return "interrupted"
            why = self._look()
            if why:
                return why

    def _some_steps(self) -> None:
        """Take steps up to where something is due, or as many as fit into a short time."""
        self.moment = replace(self.moment, seconds=self._seconds())
        count = min(self.steps.most, self._pace.steps, self._steps_to_next_look())
        self.trail.begin(self.moment, self._seconds_before, count)
        self._stepping = True
        begun = time.monotonic()
        taken = self.steps.run(self.moment, self._seconds_before, count)
        self._pace.took(taken, time.monotonic() - begun)
        self._stepping = False
        figures = self.steps.figures
        for series in self.training.train_series:
            last = float(figures[series.output][taken - 1])
            if not np.isfinite(last):
                failed = self.moment.step + taken - 1
                self.moment, self.failure = self.trail.find_fault(series.name, last, failed)
                return
        for series in self.training.train_series:
            self.record.means[series.name].add(figures[series.output][:taken])
        for log in self.training.logs:
            if log.graph is None:
                self.record.of_step[log.series.name] = float(figures[log.series.output][taken - 1])
        self.moment = replace(self.moment, step=self.moment.step + taken)
        self._looked = False
        self.listener.stepped(self.progress())

    def _steps_to_next_look(self) -> int:
        """After how many steps something is due; all of them at once if nothing is."""
        if self.training.reads_every_step:
            return 1
        most = self.steps.most
        steps = self.moment.step + 1 + np.arange(most)
        due = steps % self.moment.steps_per_epoch == 0
        for duration in self.training.durations:
            if duration.unit is not Unit.SECONDS:
                due |= np.asarray(is_due(duration, self.moment, steps))
        for rule, best in self.record.patience:
            if best.value is not None and rule.within.unit is not Unit.SECONDS:
                waited = self.moment.count(rule.within.unit.value, steps) - best.at
                due |= np.asarray(waited >= rule.within.amount - TOLERANCE)
        return int(np.argmax(due)) + 1 if due.any() else most

    def _look(self) -> str:
        """What comes after a step; returns why to stop, if a rule says so.

        What `previous` remembers of it is set when all is done: a look that is cut short is
        taken once more when the run goes on, and must find what it found the first time.
        """
        self._remembered = {}
        ends_epoch = self.moment.step % self.moment.steps_per_epoch == 0
        figures = self.record.means_so_far() if ends_epoch else {}
        for measurement in self.measurements:
            if measurement.rule.every is not None and self._is_due(measurement.rule.every):
                figures |= measurement.take(self.moment)
                self._remembered |= measurement.remembered()
        for log in self.training.logs:
            if self._is_due(log.every):
                figures[log.series.name] = self._logged(log)
        if figures:
            points = tuple(self._point(name, value) for name, value in figures.items())
            self.record.note(points, self._passed, self.store.model)
            self.listener.measured(points)
        self.record.held = [number for number in self.conditions if self._holds(number)]
        why = self._stop_reason()
        if ends_epoch:
            self.record.begin_epoch()
        self.store.restore(self._remembered)
        self._seconds_before, self._looked = self.moment.seconds, True
        if self.checkpoint and time.monotonic() > self._next_save:
            self._save(self.checkpoint)
        return why

    def _logged(self, log: Log) -> float:
        section = self.logs.get(log.series.name)
        if section is None:
            return self.record.of_step[log.series.name]
        section.provide(self.moment)
        section.run()
        self._remembered |= section.results(log.remembers)
        return section.number(log.series.output)

    def _is_due(self, duration: Duration) -> bool:
        return bool(is_due(duration, self.moment, self.moment.step, self._seconds_before))

    def _point(self, series: str, value: float) -> Point:
        now = self.progress()
        return Point(series, now.step, now.epoch, now.samples, now.seconds, value)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _passed(self, duration: Duration) -> float:
        if duration.unit is Unit.SECONDS:
            return self._seconds()
        return float(self.moment.count(duration.unit.value, self.moment.step))

    def _stop_reason(self) -> str:
        for number, rule in enumerate(self.training.stops):
            if isinstance(rule, StopAfter):
                if self._passed(rule.duration) >= rule.duration.amount - TOLERANCE:
                    return f"after {rule.duration}"
            elif isinstance(rule, StopWhen) and number in self.record.held:
                return rule.text
        stalled = self.record.stalled(self._passed)
        if stalled is None:
            return ""
        direction = "falling" if stalled.falling else "rising"
        return f"{stalled.series} stopped {direction} for {stalled.within}"

    def _holds(self, number: int) -> bool:
        """Whether a condition holds; not while one of its series has not been measured."""
        section, rule = self.conditions[number], self.training.stops[number]
        assert isinstance(rule, StopWhen)
        if not section.provide_series(self.record.latest):
            return False
        section.provide(self.moment)
        section.run()
        self._remembered |= section.results(rule.remembers)
        return bool(section.number("condition"))

    def sections(self) -> list[Section]:
        """All graphs of the run."""
        return [
            self.step,
            *(section for m in self.measurements for section in m.sections),
            *self.logs.values(),
            *self.conditions.values(),
        ]

    def footprint(self) -> Footprint:
        """How much memory the run takes, by its plans."""
        return footprint(
            self.training,
            self.store,
            self.sections(),
            self.measurements,
            writes_checkpoints=self.checkpoint is not None,
        )

    def progress(self) -> Progress:
        """Where the run stands."""
        now, step = self.moment, self.moment.step
        epoch, latest = step / now.steps_per_epoch, dict(self.record.latest)
        return Progress(step, epoch, step * now.batch, self._seconds(), latest)

    @cached_property
    def _fingerprint(self) -> str:
        """That of the data; only runs that are kept, or go on, need it."""
        return fingerprint(self._data)

    # --- the end, and going on ---------------------------------------------------------------

    def _finish(self, why: str, interrupted: bool) -> Outcome:
        if self.checkpoint:
            self._save(self.checkpoint)
        self.store.restore(self.record.kept)
        variables = self.store.snapshot()
        # The figures are of these parameters alone, as whoever measures them again finds them.
        delays = {n for n, v in self.training.variables.items() if v.role is Role.DELAY}
        self.store.restore({name: np.zeros_like(variables[name]) for name in delays})
        figures: dict[str, float] = {}
        for measurement in self.measurements:
            figures |= measurement.take(self.moment)
        return Outcome(
            variables,
            tuple(self.record.history),
            figures,
            why,
            self.progress(),
            interrupted,
            self.failure,
        )

    def _save(self, path: Path) -> None:
        begun = time.monotonic()
        state = {
            "seed": self.seed,
            "data": self._fingerprint,
            "step": self.moment.step,
            "steps_per_epoch": self.moment.steps_per_epoch,
            "batch": self.moment.batch,
            "seconds": self._seconds(),
            "seconds_before": self._seconds_before,
            "looked": self._looked,
            "record": self.record.state(),
        }
        write_checkpoint(path, Checkpoint(self.store.snapshot(), self.record.kept, state))
        ended = time.monotonic()
        pause = (ended - begun) / SHARE_FOR_CHECKPOINTS
        self._next_save = ended + max(LEAST_SECONDS_BETWEEN_CHECKPOINTS, pause)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same plan, data and seed.

        Raises:
            FmlError: E0711, it is of another run.
        """
        state = checkpoint.state
        mine = {name: value.shape for name, value in self.store.snapshot().items()}
        same = {
            "the variables": mine == {n: v.shape for n, v in checkpoint.variables.items()},
            "the seed": self.seed == state["seed"],
            "the steps in an epoch": self.moment.steps_per_epoch == state["steps_per_epoch"],
            "the data": self._fingerprint == state["data"],
        }
        for what, agrees in same.items():
            if not agrees:
                raise error(
                    "E0711",
                    f"the checkpoint is of another run: {what} differ",
                    help="resume with the file, the options, the data and the seed of that run",
                )
        self.store.restore(checkpoint.variables)
        # Checkpoints were once written with all variables as those that are kept.
        kept = {n: v for n, v in checkpoint.kept.items() if self.training.variables[n].is_of_model}
        self.record.resume(state["record"], kept)
        self.moment = replace(self.moment, step=state["step"])
        self._began = time.monotonic() - state["seconds"]
        self._seconds_before, self._looked = state["seconds_before"], state["looked"]
