"""What machine code depends on beside its kernel and its host: the sources that make it."""

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding

from fml.engine import IMPORTED

llvm: Any = llvmlite.binding  # it has no types

_ENGINE = Path(__file__).parents[2]
_FOLDERS = ("ir", "kernels", "ops", "plan")


@cache
def fingerprint() -> str | None:
    """Stand for all sources between a graph and its machine code, with the versions of LLVM.

    None where that cannot be told: there are no sources, or they have changed since they were
    imported, as when somebody works on them.
    """
    made = hashlib.sha256()
    versions = platform.python_version(), llvmlite.__version__, llvm.llvm_version_info
    made.update(repr(versions).encode())
    try:
        sources = sorted(path for name in _FOLDERS for path in (_ENGINE / name).rglob("*.py"))
        for path in sources:
            found = path.stat()
            # Installed files may carry old times; when they came here is told by the other.
            if max(found.st_mtime, found.st_ctime) >= IMPORTED:
                return None
            content = path.read_bytes()
            made.update(f"{path.relative_to(_ENGINE).as_posix()} {len(content)}\n".encode())
            made.update(content)
    except OSError:
        return None
    return made.hexdigest() if sources else None
