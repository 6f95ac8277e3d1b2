"""A run's timeline: `fml train --trace`, `Program.train(trace=...)`."""

import json
from pathlib import Path

from fml.engine.backends.interface import Backend
from fml.engine.files import writing
from fml.engine.ir.training import Training
from fml.engine.profile.machine import measured
from fml.engine.profile.run_trace import run_trace
from fml.engine.runtime.tracer import Tracer


def begin(path: Path | None) -> Tracer | None:
    """Return what keeps the times of a run; None where no timeline is wanted.

    Raises:
        FmlError: E0732, the file cannot be written.
    """
    if path is None:
        return None
    require_writable(path)
    return Tracer()


def require_writable(path: Path) -> None:
    """Try whether a file can be written: better now than when there is something to write.

    Raises:
        FmlError: E0732, it cannot.
    """
    is_new = not path.exists()
    with writing(path):
        path.open("a").close()
    if is_new:
        path.unlink()


def write(tracer: Tracer | None, path: Path | None, training: Training, backend: Backend) -> None:
    """Write what was kept; nothing if the run came to no step.

    Raises:
        FmlError: E0732, the file cannot be written.
    """
    if tracer is None or path is None or not tracer.steps:
        return
    with backend.at_work():
        events = run_trace(tracer, training.name, measured(backend))
    with writing(path), path.open("w", encoding="utf-8") as file:
        json.dump(events, file)
