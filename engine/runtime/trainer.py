"""The loop: step, then what comes after a step, until a rule says stop (language, section 5)."""

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from fml.engine.backends.interface import Backend
from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.never_due import never_due
from fml.engine.ir.training import (
    TOLERANCE,
    Duration,
    StopAfter,
    StopWhen,
    Training,
    Unit,
)
from fml.engine.runtime.central import CentralModels
from fml.engine.runtime.checkpoint import Checkpoint
from fml.engine.runtime.faults import StepRaised, first_fault
from fml.engine.runtime.feeding import Data, batches_of
from fml.engine.runtime.first_values import first_values, new_store
from fml.engine.runtime.footprint import Footprint, footprint
from fml.engine.runtime.interrupt import Interrupt
from fml.engine.runtime.learners import decided, learners_of
from fml.engine.runtime.outcome import Outcome, Scale
from fml.engine.runtime.pace import Ahead, Pace
from fml.engine.runtime.recovery import OnFault, Recovery
from fml.engine.runtime.saving import Saver
from fml.engine.runtime.section import Section
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.tracer import Tracer
from fml.engine.runtime.trail import Found, Stretch, Trail
from fml.engine.runtime.watch import (
    Listener,
    Point,
    Progress,
    Record,
    Silent,
    Start,
    add_figures,
)
from fml.engine.runtime.watched import Watched


def train(
    training: Training,
    data: Data,
    backend: Backend,
    *,
    seed: int | None = None,
    listener: Listener | None = None,
    checkpoint: Path | None = None,
    resume: Checkpoint | None = None,
    devices: int = 1,
    on_fault: OnFault = "stop",
    tracer: Tracer | None = None,
) -> Outcome:
    """Run a plan to its end.

    `seed` stands in for the plan's own; `checkpoint` is a file that is written before the first
    step, every few seconds and at the end. With `resume` a run goes on where a checkpoint was
    written, with the bits it would have had; its history begins there. The cores are so many
    `devices`, each with the plan's learners per device. A learner that raises, or whose loss is not
    finite, ends the run, or with `restart` goes on from the central model. A `tracer` is left with
    when everything was done in the last steps; it changes no bit.

    Raises:
        FmlError: it cannot be begun: batches larger than their split (E0520), splits without
            samples (E0521), a checkpoint of another run (E0711), or sizes that do not fit. Or it
            cannot go on: the checkpoint cannot be written (E0732).
    """
    seed = training.seed if seed is None else seed
    listener = listener or Silent()
    with backend.at_work():

        def begun(plan: Training) -> Trainer:
            return Trainer(plan, data, backend, seed, devices)

        known = None if resume is None else resume.scale.learners // devices
        trainer = begun(decided(training, begun, listener, known))
        trainer.listener = listener
        trainer.saver.path = checkpoint
        trainer.recovery.on_fault = on_fault
        trainer.tracer = tracer
        if resume is not None:
            trainer.resume(resume)
        return trainer.run()


class Trainer:
    """One run of one plan."""

    def __init__(
        self, training: Training, data: Data, backend: Backend, seed: int, devices: int = 1
    ) -> None:
        """Compile everything and set the variables to their first values."""
        self.training = training
        self.listener: Listener = Silent()
        self.seed = seed % 2**63  # the words of the random generators
        learners = learners_of(training, devices)
        self.batches = batches_of(training, data, self.seed, learners)
        # An epoch is a pass of the learners, if there are any.
        first = next((b for b in self.batches if b.is_of_learners), *self.batches[:1])
        per_epoch, batch = (first.per_epoch, first.per_step) if first else (1, 1)
        self.scale = Scale(self.seed, per_epoch, batch, learners or 1, devices)
        self.moment = self.scale.moment(0, 0.0)
        sizes = self.scale.sizes
        self.store = store = new_store(training, backend, self.seed, sizes)
        fed = {batches.feed.dim: batches.size for batches in self.batches}
        self.step = Section(training.step, sizes | fed, backend, store, backend.streams)
        self.central = CentralModels(training, sizes, backend, store)
        firsts = partial(first_values, training, backend, store, self.seed, sizes)
        self.recovery = Recovery(training, store, self.central, firsts)
        self.watched = Watched(training, data, sizes, backend, store)
        # The steps end at a figure that is not finite; what is logged may be.
        figures = {series.output: True for series in training.train_series}
        logged = {log.series.output: False for log in training.logs if log.graph is None}
        self.steps = Steps(self.step, self.batches, backend, logged | figures)
        self.trail = Trail(self.steps, backend, store, training.train_series)
        self.record = Record(training)
        self.saver = Saver(data, store, self.scale)
        self.tracer: Tracer | None = None
        self.failure: Diagnostic | None = None
        self._pace = Pace(training.durations)
        self._ahead = Ahead(training, self.record, self.steps.most)
        self._stepping = False
        self._looked = True
        self._interrupt = Interrupt(self._asked_to_stop)
        self._began = time.monotonic()
        self._seconds_before = 0.0

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Step until a rule, a person or a figure that is not finite says stop."""
        if not self.moment.step:
            self._save()  # a kill at any moment leaves something to go on from
        epoch, best = self.moment.steps_per_epoch, self.record.best_so_far()
        late = never_due(self.training.step, self.training.stops, self.moment.units)
        start = Start(self.progress(), epoch, self.footprint(), best, late)
        with self._interrupt:
            self.listener.started(start)
            try:
                return self._finish(self._train())
            finally:
                self.listener.finished()

    def _train(self) -> str:
        """Take steps; return why they ended."""
        why = "it could not go on"
        try:
            why = self._step_until()
        except KeyboardInterrupt:
            # The second Ctrl-C does not wait for the step; half of one is worth nothing.
            if self._stepping:
                with self._interrupt.released():  # that may take a while as well
                    self.trail.undo()
            self._interrupt.requested, why = True, "interrupted"
        finally:
            self._interrupt.hold()
            self.listener.stopped(self.progress(), why)
        return why

    def _asked_to_stop(self) -> None:
        """Called by a signal's handler, at any moment."""
        self.steps.end()
        self.listener.interrupted()

    def _step_until(self) -> str:
        if self.moment.step:
            # Resumed: what was interrupted before it was looked at is looked at now.
            why = self._stop_reason() if self._looked else self._look()
            if why:
                return why
        while True:
            self._some_steps()
            if self.failure is not None:
                return self.failure.message
            if self._interrupt.requested:
                return "interrupted"
            why = "" if self._looked else self._look()
            if why:
                return why
            if self._interrupt.is_urgent:
                return "interrupted"

    def _some_steps(self) -> None:
        """Take steps up to where something is due, or as many as fit into a short time."""
        self.moment = replace(self.moment, seconds=self._seconds())
        wanted = self._pace.steps(self.moment.seconds, self._seconds_before)
        count = self._ahead.at_most(min(self.steps.most, wanted), self.moment)
        means = {name: replace(mean) for name, mean in self.record.means.items()}
        self.trail.begin(Stretch(self.moment, self._seconds_before, count, means))
        self._stepping = True
        begun = time.monotonic()
        try:
            taken = self._take(count)
        except StepRaised as fault:
            self._recover(self.trail.before(fault))
            return
        self._pace.took(taken, time.monotonic() - begun)
        series = self.training.train_series
        fault = first_fault(series, self.steps.figures, self.moment.step, taken)
        if fault is not None:
            self._recover(self.trail.find_fault(fault))
            return
        with self._interrupt.held():
            self._stepping = False
            self._count(taken)
        self.listener.stepped(self.progress())

    def _count(self, taken: int) -> None:
        """So many steps are taken: their figures count, and the moment is the one behind them."""
        figures = self.steps.figures
        add_figures(self.record.means, self.training.train_series, figures, taken)
        for log in self.training.logs:
            if log.graph is None:
                self.record.of_step[log.series.name] = float(figures[log.series.output][taken - 1])
        self.moment = replace(self.moment, step=self.moment.step + taken)
        self._looked = False

    def _take(self, count: int) -> int:
        if self.tracer is None:
            return self.steps.run(self.moment, self._seconds_before, count)
        return self.tracer.run(self.steps, self.moment, self._seconds_before, count)

    def _recover(self, found: Found) -> None:
        """End the run at the last good moment, or go on from it with some learners restarted."""
        with self._interrupt.held():
            self._stepping = False
            # Where these steps began, and before, has been looked at.
            self._looked = found.moment.step <= self.moment.step
            self.moment, self.record.means = found.moment, dict(found.means)
            if not self.recovery.can_mend(found):
                self.failure = found.diagnostic
                return
            self.trail.begin_anew()
            words = self.recovery.restart(found)
        self.listener.noted(words)

    def _look(self) -> str:
        """What comes after a step; returns why to stop, if a rule says so.

        What `previous` remembers of it is set when all is done: a look that is cut short is
        taken once more when the run goes on, and must find what it found the first time.
        """
        ends_epoch = self.moment.step % self.moment.steps_per_epoch == 0
        means = self.record.means_so_far() if ends_epoch else {}
        with self.central.averaged(self.moment):
            told = self.listener.measuring
            look = self.watched.due(self.moment, self._seconds_before, self.record, told)
            figures = means | look.figures
            if figures:
                points = tuple(self._point(name, value) for name, value in figures.items())
                self.record.note(points, self._passed, self.store.model)
                self.listener.measured(points)
            self.record.held = self.watched.held(self.moment, self.record, look)
        why = self._stop_reason()
        with self._interrupt.held():
            if ends_epoch:
                self.record.begin_epoch()
            self.trail.remember(look.remembered)
            self._seconds_before, self._looked = self.moment.seconds, True
        if self.saver.is_due:
            self._save()
        return why

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

    def sections(self) -> list[Section]:
        """All graphs of the run."""
        return [self.step, *self.central.sections, *self.watched.sections]

    def footprint(self) -> Footprint:
        """How much memory the run takes, by its plans."""
        return footprint(
            self.training,
            self.store,
            self.sections(),
            self.watched.measurements,
            writes_checkpoints=self.saver.path is not None,
        )

    def progress(self) -> Progress:
        """Where the run stands."""
        now, step = self.moment, self.moment.step
        epoch, latest = step / now.steps_per_epoch, dict(self.record.latest)
        return Progress(step, epoch, step * now.batch, self._seconds(), latest)

    # --- the end, and going on ---------------------------------------------------------------

    def _finish(self, why: str) -> Outcome:
        self._save()
        self.central.settle(self.moment)
        self.store.restore(self.record.kept)
        variables = self.store.snapshot()
        figures: dict[str, float] = {}
        # What was raised in a step may be raised here again, and has been told.
        told = () if self.failure is None else (FmlError,)
        with suppress(KeyboardInterrupt, *told), self._interrupt.released():
            # Whoever is in a hurry measures later.
            if not self._interrupt.is_urgent:
                figures = self.watched.of_the_end(self.moment, variables, self.listener.measuring)
        return Outcome(
            variables,
            tuple(self.record.history),
            figures,
            why,
            self.progress(),
            why == "interrupted" or self._interrupt.is_urgent,
            self.failure,
            self.scale,
        )

    def _save(self) -> None:
        state = {
            "step": self.moment.step,
            "seconds": self._seconds(),
            "seconds_before": self._seconds_before,
            "looked": self._looked,
            "record": self.record.state(),
        }
        self.saver.save(state, self.record.kept, self.central.means(self.moment))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same plan, data, seed, learners and devices.

        Raises:
            FmlError: E0711, it is of another run.
        """
        self.saver.require_same_run(checkpoint)
        state = checkpoint.state
        self.store.restore(checkpoint.variables)
        # Checkpoints were once written with all variables as those that are kept.
        kept = {n: v for n, v in checkpoint.kept.items() if self.training.variables[n].is_of_model}
        self.record.resume(state["record"], kept)
        self.moment = replace(self.moment, step=state["step"])
        self._began = time.monotonic() - state["seconds"]
        self._seconds_before, self._looked = state["seconds_before"], state["looked"]
