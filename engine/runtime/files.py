"""Faults of the disk, as diagnostics."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fml.engine.ir.diagnostics import error


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what keeps a file or folder from being written into a diagnostic that names it.

    Raises:
        FmlError: E0753, a disk that is full, a folder where nobody may write.
    """
    try:
        yield
    except OSError as reason:
        raise error(
            "E0753", f"{path} cannot be written: {reason.strerror or reason}",
            help="make room on the disk, or run where you may write",
        ) from None  # fmt: skip
