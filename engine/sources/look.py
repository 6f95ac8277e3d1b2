"""A look at the data of a plan without reading much of them, for `fml check`."""

from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.training import Dataset
from fml.engine.ir.types import Label
from fml.engine.sources.columns import Columns
from fml.engine.sources.csv import read_head
from fml.engine.sources.load import load
from fml.engine.sources.paths import find_file
from fml.engine.sources.read import arguments_of
from fml.engine.sources.table import declared_at, is_text

# What is read whole, in bytes of its files or samples of a generator: a fraction of a second.
_SMALL = 1 << 20
_FEW = 100_000


def look(dataset: Dataset, base: Path) -> tuple[tuple[Diagnostic, ...], str]:
    """Read a data set if it is small, else the first lines of a table.

    Returns warnings, and in words what was not looked at. Data that are not there, or come from
    a source that is not available yet, are no fault.

    Raises:
        FmlError: E0502 to E0513, what was read is not as declared.
    """
    if dataset.source == "given":
        return (), ""
    try:
        return _look(dataset, base)
    except FmlError as fault:
        (first, *_) = fault.diagnostics
        if first.code not in {"E0501", "E0902"}:
            raise
        near = f"; {first.help}" if first.help.startswith("did you mean") else ""
        return (), f"`{dataset.name}` was not looked at: {first.message}{near}"


def _look(dataset: Dataset, base: Path) -> tuple[tuple[Diagnostic, ...], str]:
    arguments = arguments_of(dataset)
    if "path" not in arguments:
        samples = arguments.get("samples", 0)
        if isinstance(samples, int) and samples > _FEW:
            return (), f"`{dataset.name}` was not looked at: it has {samples:,} samples"
        return load(dataset, None, base).warnings, ""
    path = find_file(str(arguments["path"]), base)
    size = _nbytes(path)
    if size <= _SMALL:
        return load(dataset, None, base).warnings, ""
    if dataset.source != "csv":
        return (), f"`{dataset.name}` was not looked at: {path} has {size / 1e6:,.0f} MB"
    with declared_at(dataset.span):
        table = read_head(arguments, base, _SMALL)
    _require(Columns(dataset, table, {}))
    return (), f"of `{dataset.name}` the first {table.samples:,} lines were looked at"


def _require(columns: Columns) -> None:
    """Look at the columns that fields read; of texts, not at how many classes they are."""
    rows = np.arange(columns.table.samples)
    for node in columns.dataset.graph.of_op("column"):
        if not (isinstance(node.type.element, Label) and is_text(columns.held(node))):
            columns.values(node, rows)


def _nbytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
