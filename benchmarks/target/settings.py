"""What is tried: the two sides, their batches, and three learning rates for each of these.

A setting is tuned by the same rule on both sides: its first rate, twice that, and then half or
four times the first rate, whichever lies on the better side of the two. Of equals, the smaller rate
is better.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results" / "time_to_accuracy"
TARGETS = (0.90, 0.91)
MOST_EPOCHS = 10


@dataclass(frozen=True)
class Setting:
    """How a side trains.

    Attributes:
        side: `fml` or `torch`.
        learners: of fml, averaged after every step; a learner alone is plain momentum.
        batch: samples of a step, of each learner.
        first_rate: where the search for a rate begins.
    """

    side: str
    learners: int
    batch: int
    first_rate: float

    @property
    def name(self) -> str:
        """As files and the command line call it."""
        return f"{self.side}-{self.learners}x{self.batch}"


# The most promising first: what is cut off by time is the rest.
SETTINGS = (
    Setting("torch", 1, 32, 0.02),
    Setting("fml", 1, 16, 0.01),
    Setting("torch", 1, 64, 0.04),
    Setting("fml", 2, 16, 0.01),
    Setting("torch", 1, 16, 0.01),
    Setting("fml", 4, 16, 0.01),
    Setting("torch", 1, 128, 0.08),
    Setting("fml", 8, 16, 0.01),
)


@dataclass(frozen=True)
class Look:
    """What a run has come to after some steps.

    Attributes:
        epoch: passes over the training samples, all learners together.
        seconds: of training alone; only comparable where runs took turns on a quiet machine.
        valid, test: accuracies, of the central model where there are learners.
    """

    step: int
    epoch: float
    seconds: float
    valid: float
    test: float


@dataclass(frozen=True)
class Run:
    """A run, as it is kept.

    Attributes:
        ended: why: it `reached` the last target, was `beaten` by another rate of its setting, ran
            `out of epochs`, or did not stay finite.
    """

    setting: Setting
    rate: float
    seed: int
    looks: tuple[Look, ...]
    ended: str

    def reached(self, target: float) -> Look | None:
        """The first look at which the target was reached."""
        return next((look for look in self.looks if look.valid >= target), None)

    @property
    def epochs(self) -> float:
        """How many it took to the last target; infinite if it did not get there."""
        look = self.reached(TARGETS[-1])
        return look.epoch if look else float("inf")

    @property
    def rank(self) -> tuple[float, float, float]:
        """Smaller is better: epochs to the target, how far it was missed by, and the rate."""
        nearest = max((look.valid for look in self.looks), default=0.0)
        return self.epochs, max(TARGETS[-1] - nearest, 0.0), self.rate


def path_of(phase: str, setting: Setting, rate: float, seed: int) -> Path:
    """Where a run is kept."""
    return RESULTS / f"{phase}-{setting.name}-rate{rate:g}-seed{seed}.json"


def keep(phase: str, run: Run) -> None:
    """Write a run, whole or not at all."""
    path = path_of(phase, run.setting, run.rate, run.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(run), indent=1) + "\n")
    unfinished.replace(path)


def runs_of(phase: str, setting: Setting) -> list[Run]:
    """The runs of a setting that are kept."""
    return [_read(path) for path in sorted(RESULTS.glob(f"{phase}-{setting.name}-rate*.json"))]


def _read(path: Path) -> Run:
    values: dict[str, Any] = json.loads(path.read_text())
    looks = tuple(Look(**look) for look in values.pop("looks"))
    return Run(**values | {"setting": Setting(**values["setting"]), "looks": looks})


def next_rate(setting: Setting, runs: Sequence[Run]) -> float | None:
    """The rate to try next, of the three that each setting has; None if all are tried."""
    by_rate: Mapping[float, Run] = {run.rate: run for run in runs}
    first, second = setting.first_rate, 2 * setting.first_rate
    for rate in (first, second):
        if rate not in by_rate:
            return rate
    third = first / 2 if by_rate[first].rank < by_rate[second].rank else 2 * second
    return None if third in by_rate else third


def best(runs: Sequence[Run]) -> Run | None:
    """The run that took the fewest epochs, of those that got there."""
    there = [run for run in runs if run.reached(TARGETS[-1])]
    return min(there, key=lambda run: run.rank, default=None)
