"""The loop: step, then what comes after a step, until a rule says stop (language, section 5)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, error
from fml.engine.ir.training import (
    Duration,
    Measure,
    Role,
    StopAfter,
    StopWhen,
    Training,
    Unit,
)
from fml.engine.ops.record import Array
from fml.engine.runtime.checkpoint import Checkpoint, write_checkpoint
from fml.engine.runtime.executor import VariableStore
from fml.engine.runtime.feeding import Batches
from fml.engine.runtime.interrupt import Interrupt
from fml.engine.runtime.section import Moment, Section, is_due
from fml.engine.runtime.watch import Kept, Listener, Patience, Point, Progress, Silent

# Samples of every split, by data set, split and field.
Data = Mapping[str, Mapping[str, Mapping[str, Array]]]
SECONDS_BETWEEN_CHECKPOINTS = 10.0


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
) -> Outcome:
    """Run a plan to its end.

    Raises:
        FmlError: it cannot be begun: batches larger than their split, sizes that do not fit, or
            learners, which are lowered but not run yet (E0901).
    """
    return Trainer(training, data, backend, seed, listener or Silent(), checkpoint).run()


def new_store(training: Training, backend: Backend, seed: int) -> VariableStore:
    """Make the variables of a training and give each its first value."""
    store = VariableStore(training.variables, backend)
    first = Section(training.init, {}, backend, store)
    first.provide(Moment(-1, 1, 1, seed))
    first.run()
    for name in training.init.outputs:
        store[name] = first.result(name)
    return store


@dataclass(slots=True)
class _Sum:
    """The mean of what `minimize` minimises, over the steps of an epoch."""

    total: dict[str, float] = field(default_factory=dict[str, float])
    steps: int = 0

    def add(self, name: str, value: float) -> None:
        self.total[name] = self.total.get(name, 0.0) + value


class Trainer:
    """One run of one plan."""

    def __init__(
        self,
        training: Training,
        data: Data,
        backend: Backend,
        seed: int | None,
        listener: Listener,
        checkpoint: Path | None,
    ) -> None:
        if training.learners is not None:
            span = training.learners.span
            raise FmlError(
                [
                    Diagnostic(
                        "E0901",
                        "learners are checked and lowered, and cannot be run yet",
                        (Mark(span),) if span else (),
                        (),
                        "train a plan without `learners`",
                    )
                ]
            )
        self.training, self.data, self.backend = training, data, backend
        self.listener, self.checkpoint = listener, checkpoint
        self.seed = training.seed if seed is None else seed
        self.batches = [Batches(f, data[f.data][f.split], self.seed) for f in training.feeds]
        first = self.batches[0] if self.batches else None
        self.moment = Moment(
            0, first.per_epoch if first else 1, first.size if first else 1, self.seed
        )
        self.store = new_store(training, backend, self.seed)
        sizes = {"steps_per_epoch": self.moment.steps_per_epoch}
        self.step = Section(
            training.step,
            {**sizes, **{b.feed.dim: b.size for b in self.batches}},
            backend,
            self.store,
        )
        self.measures = [(m, self._measure(m, sizes)) for m in training.measures if self._has(m)]
        self.logs = [(g, Section(g.graph, sizes, backend, self.store)) for g in training.logs]
        self.stops = [
            (r, Section(r.graph, sizes, backend, self.store) if isinstance(r, StopWhen) else None)
            for r in training.stops
        ]
        self.patience = [
            Patience(r) for r in training.stops if not isinstance(r, StopAfter | StopWhen)
        ]
        self.kept = Kept(training.keep) if training.keep else None
        self.latest: dict[str, float] = {}
        self.history: list[Point] = []
        self.sum = _Sum()
        self.epoch_start = self.store.snapshot()
        self.failure: Diagnostic | None = None
        self._began = self._saved = time.monotonic()
        self._seconds_before = 0.0

    def _has(self, measure: Measure) -> bool:
        splits = self.data[measure.data]
        if measure.split in splits and self._samples(measure):
            return True
        if measure.optional:
            return False
        listed = ", ".join(f"`{name}`" for name in splits)
        raise error(
            "E0521",
            f"`{measure.data}` has no samples in the split `{measure.split}` to measure on",
            help=f"its splits are {listed}",
        )

    def _samples(self, measure: Measure) -> int:
        return len(next(iter(self.data[measure.data][measure.split].values())))

    def _measure(self, measure: Measure, sizes: Mapping[str, int]) -> Section:
        """A split is measured as one batch; its samples do not change, so they are fed once."""
        sizes = {**sizes, measure.dim: self._samples(measure)}
        return Section(measure.graph, sizes, self.backend, self.store)

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Step until a rule, a person or a figure that is not finite says stop."""
        self.listener.started(self.progress(), self.moment.steps_per_epoch)
        with Interrupt() as interrupt:
            why = ""
            while not why:
                self._one_step()
                if self.failure is not None:
                    why = self.failure.message
                elif interrupt.requested:
                    why = "interrupted"
                else:
                    why = self._look()
            self.listener.stopped(self.progress(), why)
            return self._finish(why, interrupt.requested)

    def _one_step(self) -> None:
        fields: dict[tuple[str, str], Array] = {}
        for batches in self.batches:
            fields |= batches.at(self.moment.step)
        seconds = time.monotonic() - self._began
        self.moment = replace(self.moment, seconds=seconds)
        self.step.feed(fields)
        self.step.provide(self.moment, self._seconds_before)
        self.step.run()
        for series in self.training.train_series:
            value = self.step.number(series.output)
            self.sum.add(series.name, value)
            if not np.isfinite(value):
                self._explain(series.name, value)
                return
        self.sum.steps += 1
        self.moment = replace(self.moment, step=self.moment.step + 1)
        self.listener.stepped(self.progress())

    def _look(self) -> str:
        """What comes after a step; returns why to stop, if a rule says so."""
        points: list[Point] = []
        at_epoch_end = self.moment.step % self.moment.steps_per_epoch == 0
        if at_epoch_end:
            for name, total in self.sum.total.items():
                points.append(self._point(name, total / self.sum.steps))
            self.sum = _Sum()
        for measure, section in self.measures:
            if measure.every is not None and self._is_due(measure.every):
                points += self._take(measure, section)
        for log, section in self.logs:
            if self._is_due(log.every):
                section.provide(self.moment)
                section.run()
                points.append(self._point(log.series.name, section.number(log.series.output)))
        self._note(points)
        why = self._stop_reason()
        self._seconds_before = self.moment.seconds
        if at_epoch_end:
            self.epoch_start = self.store.snapshot()
        if self.checkpoint and time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
            self._save()
        return why

    def _is_due(self, duration: Duration) -> bool:
        return is_due(duration, self.moment, self.moment.step, self._seconds_before)

    def _take(self, measure: Measure, section: Section) -> list[Point]:
        """Measure a whole split."""
        split = self.data[measure.data][measure.split]
        section.feed({(measure.data, name): array for name, array in split.items()})
        section.provide(self.moment)
        section.run()
        return [self._point(s.name, section.number(s.output)) for s in measure.series]

    def _point(self, series: str, value: float) -> Point:
        now = self.progress()
        return Point(series, now.step, now.epoch, now.samples, now.seconds, value)

    def _note(self, points: list[Point]) -> None:
        """Remember figures, and the parameters where they are the best so far."""
        if not points:
            return
        for point in points:
            self.latest[point.series] = point.value
        for patience in self.patience:
            for point in points:
                if point.series == patience.rule.series:
                    patience.best.offer(point.value, self._passed(patience.rule.within))
        if self.kept is not None:
            for point in points:
                if point.series == self.kept.rule.series and self.kept.best.offer(point.value, 0.0):
                    self.kept.values, self.kept.step = self.store.snapshot(), point.step
        self.history += points
        self.listener.measured(tuple(points))

    def _passed(self, duration: Duration) -> float:
        if duration.unit is Unit.SECONDS:
            return time.monotonic() - self._began
        return self.moment.count(duration.unit.value, self.moment.step)

    def _stop_reason(self) -> str:
        for rule, section in self.stops:
            if isinstance(rule, StopAfter):
                if self._passed(rule.duration) >= rule.duration.amount - 1e-9:
                    return f"after {rule.duration}"
            elif isinstance(rule, StopWhen) and section is not None and self._holds(section):
                return rule.text
        for patience in self.patience:
            rule = patience.rule
            stalled = self._passed(rule.within) - patience.best.at >= rule.within.amount - 1e-9
            if patience.best.value is not None and stalled:
                direction = "falling" if rule.falling else "rising"
                return f"{rule.series} stopped {direction} for {rule.within}"
        return ""

    def _holds(self, section: Section) -> bool:
        """Whether a condition holds; not while one of its series has not been measured."""
        if not section.provide_series(self.latest):
            return False
        section.provide(self.moment)
        section.run()
        return bool(section.number("condition"))

    # --- the end ---------------------------------------------------------------------------

    def _finish(self, why: str, interrupted: bool) -> Outcome:
        if self.checkpoint:
            self._save()
        if self.kept is not None and self.kept.values is not None:
            self.store.restore(_model_part(self.training, self.kept.values))
        figures: dict[str, float] = {}
        for measure, section in self.measures:
            figures |= {p.series: p.value for p in self._take(measure, section)}
        return Outcome(
            self.store.snapshot(),
            tuple(self.history),
            figures,
            why,
            self.progress(),
            interrupted,
            self.failure,
        )

    def progress(self) -> Progress:
        """Where the run stands."""
        seconds = time.monotonic() - self._began
        step = self.moment.step
        epoch = step / self.moment.steps_per_epoch
        return Progress(step, epoch, step * self.moment.batch, seconds, dict(self.latest))

    def _save(self) -> None:
        assert self.checkpoint is not None
        self._saved = time.monotonic()
        state = {
            "step": self.moment.step,
            "steps_per_epoch": self.moment.steps_per_epoch,
            "seed": self.seed,
            "seconds": self._saved - self._began,
            "latest": self.latest,
            "kept_step": self.kept.step if self.kept else None,
            "kept_value": self.kept.best.value if self.kept else None,
            "patience": [[p.best.value, p.best.at] for p in self.patience],
            "sum": [self.sum.total, self.sum.steps],
        }
        kept = self.kept.values if self.kept and self.kept.values else {}
        write_checkpoint(self.checkpoint, Checkpoint(self.store.snapshot(), kept, state))

    # --- figures that are not finite -----------------------------------------------------------

    def _explain(self, series: str, value: float) -> None:
        """Go back to the last good parameters, and find the first node that went wrong."""
        failed = self.moment.step
        start = failed - failed % self.moment.steps_per_epoch
        self.store.restore(self.epoch_start)
        for step in range(start, failed):
            self._again(step)
            self.step.run()
        good = self.store.snapshot()
        self._again(failed)
        number = self.step.executable.first_not_finite()
        self.store.restore(good)
        node = None if number is None else self.step.graph[number]
        where = (
            f"first in `{node.op}`" + (f" of `{node.scope}`" if node.scope else "") if node else ""
        )
        marks = (Mark(node.span, "first here"),) if node and node.span else ()
        self.failure = Diagnostic(
            "E0703",
            f"{series} is {value} at step {failed}",
            marks,
            (where,) if where else (),
            "lower the rate, warm it up, or clip the gradients with `clip_norm(1)`",
        )

    def _again(self, step: int) -> None:
        fields: dict[tuple[str, str], Array] = {}
        for batches in self.batches:
            fields |= batches.at(step)
        self.step.feed(fields)
        self.step.provide(replace(self.moment, step=step))


def _model_part(training: Training, values: Mapping[str, Array]) -> dict[str, Array]:
    """What `keep` keeps: parameters and the states of layers."""
    roles = {Role.PARAM, Role.STATE}
    return {n: v for n, v in values.items() if training.variables[n].role in roles}
