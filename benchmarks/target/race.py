"""Runs that are processes: each trains when it is told to, up to its next look or so many steps.

The child's first line says that it is ready, every further one what a turn came to; lines are JSON.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contest.turns import Spec

from target.settings import Look, Setting

SCRIPT = Path(__file__).parent.parent / "time_to_accuracy.py"
# More steps than there are between two looks.
TO_THE_NEXT_LOOK = 1_000_000


@dataclass(frozen=True)
class Entry:
    """A run that is to be made, and where.

    Attributes:
        cores: those it may run on.
        threads: that compute.
        variant: of PyTorch: whether it is compiled.
    """

    setting: Setting
    rate: float
    seed: int
    cores: tuple[int, ...]
    threads: int
    variant: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """That of the process."""
        setting = self.setting
        batch = setting.batch * setting.learners
        spec = Spec(setting.name, setting.side, "lenet", batch, self.cores, self.threads)
        return spec.environment

    @classmethod
    def of_text(cls, text: str) -> "Entry":
        """Read what a child is given."""
        values: dict[str, Any] = json.loads(text)
        setting, cores = Setting(**values["setting"]), tuple(values["cores"])
        return cls(**values | {"setting": setting, "cores": cores})


class NotFinite(Exception):
    """A run whose loss is not finite any more."""


class Racer:
    """A process that is held ready."""

    def __init__(self, entry: Entry) -> None:
        """Start it; it gets ready meanwhile."""
        self.entry = entry
        self.looks: list[Look] = []
        self._seconds = 0.0
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--racer", json.dumps(asdict(entry))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=entry.environment, text=True,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is ready."""
        self._hear()

    def look(self) -> Look:
        """Let it train up to its next look.

        Raises:
            NotFinite: its loss is not.
        """
        values = self._ask(TO_THE_NEXT_LOOK)
        self._seconds += values.pop("seconds")
        self.looks.append(Look(**values, seconds=self._seconds))
        return self.looks[-1]

    def seconds_of(self, steps: int) -> float:
        """Let it take about so many steps, less than there are up to a look; seconds of a step."""
        values = self._ask(steps)
        return values["seconds"] / values["steps"]

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, steps: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.entry.setting.name} ended, its last words are above")
        values: dict[str, Any] = json.loads(line)
        if "failure" in values:
            raise NotFinite(values["failure"])
        return values


def stop_all(racers: Sequence[Racer]) -> None:
    """End them."""
    for racer in racers:
        racer.stop()
