"""A plan carried out without computing: all is compiled, and walked once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fml.engine.backends.null import NullBackend
from fml.engine.backends.processor import processor
from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ir.never_due import never_due
from fml.engine.ir.training import Dataset, Duration, StopAfter, Training, Unit
from fml.engine.ops.record import Array
from fml.engine.plan.task import Plan
from fml.engine.runtime.feeding import Data, Samples
from fml.engine.runtime.footprint import Footprint, footprint
from fml.engine.runtime.learners import learners_of, with_learners
from fml.engine.runtime.trainer import Trainer
from fml.engine.summary import quantity


@dataclass(frozen=True, slots=True)
class Unread:
    """A data set that was not read, and why.

    `guessed` are the splits of which nothing says how many samples they have; they were taken to
    have `samples`, a batch.
    """

    name: str
    reason: str
    guessed: tuple[str, ...]
    samples: int

    def __str__(self) -> str:
        """Say what the memory of a run has in addition."""
        splits = ", ".join(f"`{self.name}.{split}`" for split in self.guessed)
        noun = "sample" if self.samples == 1 else "samples"
        beyond = f", and of {splits} all but {self.samples:,} {noun}" if splits else ""
        return (
            f"note:    `{self.name}` was not read: {self.reason}; not counted: "
            f"how its fields are made of what is read{beyond}"
        )


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a plan comes to: tasks of a step and of all other graphs, and the memory they take.

    `name` is the plan's, `step` how a step is carried out. The memory is that of a run that is kept
    in a folder, of all `learners` if there are any: of one a device where the file says `auto`.
    `warnings` are of what the run is told to do and will not come to.
    """

    name: str
    step: Plan
    other_tasks: int
    footprint: Footprint
    learners: int | None
    unread: tuple[Unread, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def step_tasks(self) -> int:
        """How many tasks a step has."""
        return len(self.step.tasks)

    def __str__(self) -> str:
        """Say it in two lines, and one more for each data set that was not read."""
        memory = quantity(self.footprint.nbytes, 1024, "B")
        noun = "learner" if self.learners == 1 else "learners"
        whose = "" if self.learners is None else f" for {self.learners} {noun}"
        least = "at least " if self.unread else ""
        lines = [
            f"dry run: {self.step_tasks:,} tasks a step and {self.other_tasks:,} to measure and to "
            "watch, free of races; nothing was computed",
            f"memory:  {least}{memory} beyond the data{whose}",
            *map(str, self.unread),
        ]
        return "\n".join(lines)


def dry_run(
    training: Training,
    data: Data,
    missing: Mapping[str, str],
    devices: int = 1,
    streams: int = 1,
) -> DryRun:
    """Compile all graphs of a plan, plan their memory, check them for races, and walk them once.

    Of the splits in `data` nothing but the sizes is looked at. Data sets that are `missing`, for
    the reasons given, have as many samples as their splits ask for, and otherwise as many as a
    batch.

    Where `auto` would find their number, there is one learner.

    Raises:
        FmlError: sizes that do not fit (E03xx), splits without samples (E0520, E0521).
    """
    if training.learners is not None and training.learners.per_device is None:
        training = with_learners(training, 1)
    batches = {name: _batch(training, training.datasets[name], devices) for name in missing}
    unread = [
        _unread(training, training.datasets[name], why, batches[name])
        for name, why in missing.items()
    ]
    sizes = {name: _sizes(training, training.datasets[name], batches[name]) for name in missing}
    nothing = {
        name: {split: _nothing(training.datasets[name], n) for split, n in splits.items()}
        for name, splits in sizes.items()
    } | {name: {s: _alike(f) for s, f in splits.items()} for name, splits in data.items()}
    once = StopAfter(Duration(1, Unit.STEPS))
    watched = replace(training, stops=(*training.stops, once))
    trainer = Trainer(watched, nothing, NullBackend(processor(streams=streams)), 0, devices)
    trainer.run()
    sections = trainer.sections()
    step = trainer.step.executable.plan
    tasks = sum(len(section.executable.plan.tasks) for section in sections)
    memory = footprint(
        training, trainer.store, sections, trainer.watched.measurements, writes_checkpoints=True
    )
    other, learners = tasks - len(step.tasks), learners_of(training, devices)
    units = {} if missing else trainer.moment.units  # of missing data, an epoch is guessed
    late = never_due(training.step, training.stops, units)
    return DryRun(training.name, step, other, memory, learners, tuple(unread), late)


def used_splits(training: Training, dataset: Dataset) -> dict[str, None]:
    """The splits that a plan feeds and measures, in its order."""
    feeds = [feed.split for feed in training.feeds if feed.data == dataset.name]
    return dict.fromkeys([*feeds, *(m.split for m in training.measures if m.data == dataset.name)])


def _batch(training: Training, dataset: Dataset, devices: int) -> int:
    """The most samples of a data set that a step is fed."""
    own = (feed.batch or 1 for feed in training.feeds if feed.data == dataset.name)
    return max(own, default=1) * (learners_of(training, devices) or 1)


def _sizes(training: Training, dataset: Dataset, batch: int) -> dict[str, int]:
    """The sizes of the splits of data that are not there: those that are written, or a batch."""
    written = dataset.split.counts if dataset.split else {}
    return {split: written.get(split, batch) for split in used_splits(training, dataset)}


def _unread(training: Training, dataset: Dataset, reason: str, batch: int) -> Unread:
    written = dataset.split.counts if dataset.split else {}
    guessed = tuple(split for split in used_splits(training, dataset) if split not in written)
    return Unread(dataset.name, reason, guessed, batch)


def _nothing(dataset: Dataset, samples: int) -> dict[str, Array]:
    """Samples that take no memory."""
    return {
        field.name: np.broadcast_to(np.zeros((), field.type.dtype), (samples, *field.type.sizes))
        for field in dataset.fields
    }


def _alike(fields: Mapping[str, Samples]) -> dict[str, Array]:
    """Samples of the same sizes that take no memory."""
    empty = {name: samples[:0] for name, samples in fields.items()}
    return {
        name: np.broadcast_to(np.zeros((), rows.dtype), (len(fields[name]), *rows.shape[1:]))
        for name, rows in empty.items()
    }
