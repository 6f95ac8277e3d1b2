"""How much memory this process can still get, as the system says."""

from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
# The limit of a container and what it uses, by both versions of Linux's control groups.
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def available_nbytes(system: Path = _SYSTEM, groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that can be had without taking any from others; None where nothing tells."""
    found = [_of_system(system), *(_left(groups / limit, groups / used) for limit, used in _LIMITS)]
    return min((nbytes for nbytes in found if nbytes is not None), default=None)


def _of_system(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        words = next(line.split() for line in lines if line.startswith("MemAvailable:"))
        return int(words[1]) * 1024
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left(limit: Path, used: Path) -> int | None:
    """What a group has left; None where it has no limit (the word `max`)."""
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        return None
