"""What a run comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ir.training import DEVICES, LEARNERS, SAMPLES_PER_STEP, STEPS_PER_EPOCH
from fml.engine.ops.record import Array
from fml.engine.runtime.section import Moment
from fml.engine.runtime.watch import Point, Progress


@dataclass(frozen=True, slots=True)
class Scale:
    """What a run's counters and its draws count by.

    Attributes:
        batch: samples of a step, those of all learners.
        learners: on all devices, 1 in a plan without.
    """

    seed: int = 0
    steps_per_epoch: int = 1
    batch: int = 1
    learners: int = 1
    devices: int = 1

    def moment(self, step: int, seconds: float) -> Moment:
        """Where a run stands after so many steps."""
        return Moment(step, self.steps_per_epoch, self.batch, self.seed, seconds=seconds)

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions that only a run knows, by name."""
        return {
            str(STEPS_PER_EPOCH): self.steps_per_epoch,
            str(SAMPLES_PER_STEP): self.batch,
            str(LEARNERS): self.learners,
            str(DEVICES): self.devices,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: its parameters and all other variables, and its figures.

    `variables` are those kept (`keep`), or the last; `figures` are the series on whole splits at
    the end; `stopped_by` says in words why it ended; `failure` is set where it had to. `scale` is
    what the graphs of its figures need when they are taken again.
    """

    variables: Mapping[str, Array]
    history: tuple[Point, ...]
    figures: Mapping[str, float]
    stopped_by: str
    progress: Progress
    interrupted: bool = False
    failure: Diagnostic | None = None
    scale: Scale = field(default_factory=Scale)
