"""What a run was made with: versions, machine, times and the command; for `environment.json`."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions, machine, times in ISO 8601 with their zone, and the command as it was typed."""

    fml: str
    python: str
    numpy: str
    platform: str
    cpu: str
    cores: int
    device: str
    seed: int
    command: tuple[str, ...]
    started: str
    finished: str | None = None

    def ended(self) -> "Environment":
        """The same, finished now."""
        return replace(self, finished=_now())


def environment(fml: str, device: str, seed: int, command: Sequence[str]) -> Environment:
    """Describe this machine, started now; `fml` is the version of the distribution."""
    return Environment(
        fml, platform.python_version(), np.__version__, platform.platform(), _cpu(),
        os.cpu_count() or 1, device, seed, tuple(command), _now(),
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def _cpu() -> str:
    """The processor's name, which Linux tells in a file and other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
