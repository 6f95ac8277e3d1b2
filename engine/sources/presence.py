"""Whether data are there at all: asked before anything that reads them is imported."""

from pathlib import Path

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Dataset
from fml.engine.sources.paths import find_file


def absence(dataset: Dataset, base: Path) -> str:
    """Say that the file or folder of a data set is missing; nothing if it is there."""
    path = dataset.arguments.get("path", dataset.arguments.get(0))
    if not isinstance(path, str):
        return ""
    try:
        find_file(path, base)
    except FmlError as fault:
        return unseen(dataset, fault)
    return ""


def unseen(dataset: Dataset, fault: FmlError) -> str:
    """Say why a data set was not looked at, where that is no fault of the file."""
    (first, *_) = fault.diagnostics
    near = f"; {first.help}" if first.help.startswith("did you mean") else ""
    return f"`{dataset.name}` was not looked at: {first.message}{near}"
