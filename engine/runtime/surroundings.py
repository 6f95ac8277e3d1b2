"""What a run is surrounded by, for those who want to repeat it: versions, machine, command."""

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def surroundings(
    versions: Mapping[str, str], command: Iterable[str], began: datetime
) -> dict[str, Any]:
    """Return what `environment.json` holds of a run that has not ended."""
    return {
        "versions": {**versions, "python": platform.python_version()},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "command": [*command],
        "started": began.isoformat(timespec="seconds"),
        "finished": None,
    }


def _processor() -> str:
    """The processor's name, which Linux tells in a file and other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
