"""A plan carried out without data and without computing: all is compiled, and walked once."""

from dataclasses import dataclass, replace

import numpy as np

from fml.engine.backends.null import NullBackend
from fml.engine.ir.training import Dataset, Duration, StopAfter, Training, Unit
from fml.engine.ops.record import Array
from fml.engine.runtime.footprint import Footprint
from fml.engine.runtime.trainer import Trainer
from fml.engine.summary import quantity


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a plan comes to: tasks of a step and of all other graphs, and the memory they take.

    For a plan with learners, of one learner.
    """

    step_tasks: int
    other_tasks: int
    footprint: Footprint
    has_learners: bool

    def __str__(self) -> str:
        """Say it in two lines."""
        memory = quantity(self.footprint.nbytes, 1024, "B")
        one = " for one learner" if self.has_learners else ""
        return (
            f"dry run: {self.step_tasks:,} tasks a step and {self.other_tasks:,} to measure and to "
            "watch, free of races; no data were read, and nothing was computed\n"
            f"memory:  {memory} beyond the data{one}"
        )


def dry_run(training: Training) -> DryRun:
    """Compile all graphs of a plan, plan their memory, check them for races, and walk them once.

    No data are read: every split has as many samples as a batch, and all of them are nothing.

    Raises:
        FmlError: sizes that do not fit (E03xx).
    """
    data = {name: _nothing(training, d) for name, d in training.datasets.items()}
    once = (StopAfter(Duration(1, Unit.STEPS)),)
    trainer = Trainer(replace(training, stops=once), data, NullBackend(), 0)
    trainer.run()
    step = len(trainer.step.executable.plan.tasks)
    tasks = sum(len(section.executable.plan.tasks) for section in trainer.sections())
    has_learners = training.learners is not None
    return DryRun(step, tasks - step, trainer.footprint(), has_learners)


def _nothing(training: Training, dataset: Dataset) -> dict[str, dict[str, Array]]:
    """Samples that take no memory, in every split that the plan asks for."""
    feeds = [feed for feed in training.feeds if feed.data == dataset.name]
    splits = {feed.split for feed in feeds}
    splits |= {m.split for m in training.measures if m.data == dataset.name}
    samples = max((feed.batch or 1 for feed in feeds), default=1)
    fields = {
        field.name: np.broadcast_to(np.zeros((), field.type.dtype), (samples, *field.type.sizes))
        for field in dataset.fields
    }
    return dict.fromkeys(splits, fields)
