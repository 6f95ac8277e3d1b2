"""The backend of the CPU: compiled code, or numpy where there is no compiler."""

import warnings
from functools import cache
from importlib.util import find_spec

from fml.engine.backends.interface import Backend
from fml.engine.backends.numpy import NumpyBackend


def processor(cores: int | None = None, streams: int = 1) -> Backend:
    """Make the CPU's backend, for so many cores or all; a warning once where numpy has to do.

    Steps are planned for at most so many `streams` of each learner and of each device.

    `llvmlite` has no wheels for some systems, and fml does without it there.
    """
    if not _has_compiler():
        return NumpyBackend(streams)
    from fml.engine.backends.llvm import LlvmBackend

    return LlvmBackend(cores, streams)


@cache
def _has_compiler() -> bool:
    found = find_spec("llvmlite") is not None
    if not found:
        warnings.warn(
            "llvmlite is not installed: numpy computes, several times as slowly",
            RuntimeWarning,
            stacklevel=2,
        )
    return found
