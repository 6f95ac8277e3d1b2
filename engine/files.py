"""Files as they are written: whole or not at all, and with a diagnostic where that cannot be."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fml.engine.ir.diagnostics import error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole, or leave it as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, help: str = "") -> Generator[None]:
    """Turn what keeps a file from being written into a diagnostic that names it, E0732."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise error("E0732", f"`{path}` cannot be written: {reason}", help=help) from None
