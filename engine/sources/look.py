"""A look at the data of a plan without reading much of them, for `fml check`."""

import os
from collections.abc import Iterable
from os.path import isfile  # unlike Path.is_file, no error where a folder may not be looked into
from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.training import Dataset, Draws
from fml.engine.ir.types import Label
from fml.engine.runtime.feeding import require_samples
from fml.engine.sources.columns import Columns, label_fields, source_column
from fml.engine.sources.labels import declared
from fml.engine.sources.load import LoadedData, load
from fml.engine.sources.paths import find_file
from fml.engine.sources.presence import unseen
from fml.engine.sources.read import SOURCES, arguments_of
from fml.engine.sources.table import declared_at, is_text

# What is read whole, in bytes of its files or samples of a generator: a fraction of a second.
_SMALL = 1 << 20
_FEW = 100_000


def look(
    dataset: Dataset, base: Path, draws: Iterable[Draws] = ()
) -> tuple[tuple[Diagnostic, ...], str]:
    """Read a data set if it is small, else some samples of a source that can tell them apart.

    What plans draw from a data set that is read whole is looked at, too.
    Returns warnings, and in words what was not looked at. A package for the data that is not
    installed is no fault; whether they are there at all is asked before (`presence.py`).

    Raises:
        FmlError: E0501 to E0513, what was read is not as declared; E0520 and E0521, there are
            too few samples for a feed or a measure.
    """
    if dataset.source == "given":
        return (), ""
    try:
        loaded, words = _look(dataset, base)
    except FmlError as fault:
        if fault.diagnostics[0].code != "E0512":
            raise
        return (), unseen(dataset, fault)
    if loaded is None:
        return (), words
    require_samples(dataset.name, loaded.splits, draws)
    return loaded.warnings, words


def _look(dataset: Dataset, base: Path) -> tuple[LoadedData | None, str]:
    """Return a data set that is read whole, or in words what was not looked at."""
    arguments = arguments_of(dataset)
    if "path" not in arguments:
        samples = arguments.get("samples", 0)
        if isinstance(samples, int) and samples > _FEW:
            return None, f"`{dataset.name}` was not looked at: it has {samples:,} samples"
        return load(dataset, None, base), ""
    path = find_file(str(arguments["path"]), base)
    size = _nbytes(path)
    if size <= _SMALL:
        return load(dataset, None, base), ""
    head = SOURCES[dataset.source].head
    if head is None:
        return None, f"`{dataset.name}` was not looked at: {path} has {size / 1e6:,.0f} MB"
    with declared_at(dataset.span):
        table = head(arguments, base)
    _require(Columns(dataset, table, {}))
    return None, f"of `{dataset.name}` {table.samples:,} samples were looked at"


def _require(columns: Columns) -> None:
    """Look at the columns that fields read; of texts, not at how many classes they are."""
    dataset, table = columns.dataset, columns.table
    for field in label_fields(dataset):
        if (name := source_column(dataset, field)) in table.classes:
            declared(field, table.classes[str(name)], table)
    rows = np.arange(table.samples)
    for node in dataset.graph.of_op("column"):
        if not (isinstance(node.type.element, Label) and is_text(columns.held(node))):
            columns.values(node, rows)


def _nbytes(path: Path) -> int:
    """What is in a file or folder; what may not be looked at is told when it is read."""
    inner = (Path(place, name) for place, _, names in os.walk(path) for name in names)
    return sum(file.stat().st_size for file in (path, *inner) if isfile(file))
