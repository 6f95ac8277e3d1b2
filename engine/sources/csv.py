"""`csv("data/iris.csv", header = true)`: a table as text, plain or compressed with gzip."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ops.record import Array
from fml.engine.sources.paths import find_file, read_text
from fml.engine.sources.table import Argument, Arguments, Source, Table, is_number

_HEAD = 1 << 20
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(arguments: Arguments, base: Path) -> Table:
    """Read a file: a column holds numbers if every cell is a number, else text.

    The first line are names, and must not look like a sample unless `header` is given; without a
    header the columns are called "0", "1", ... Cells that are empty or no numbers are faults only
    where they are used, so they stay here as they came.

    Raises:
        FmlError: E0501 not found, E0503 not a table, E0513 a first line that looks like a sample.
    """
    path = find_file(str(arguments["path"]), base)
    return _table(path, read_text(path), arguments.get("header"))


def read_head(arguments: Arguments, base: Path) -> Table:
    """Read the lines that begin a file, about 1 MiB of text.

    Raises:
        FmlError: as `read_csv`.
    """
    path = find_file(str(arguments["path"]), base)
    text = read_text(path, _HEAD)
    end = len(text)
    # Up to the last end of a line that is in no quotes.
    while (end := text.rfind("\n", 0, end)) >= 0 and text.count('"', 0, end) % 2:
        pass
    return _table(path, text[: end + 1], arguments.get("header"))


def _table(path: Path, text: str, header: object) -> Table:
    """`header` is None where nobody has said whether there is one."""
    if text[:100].lstrip().lower().startswith(("<!doctype html", "<html")):
        raise error(
            "E0503", f"{path} is a web page", help="fetch the file that the page has a link to"
        )
    rows, lines = _rows(path, text)
    if header is None and rows and _is_sample(rows[0], rows[1:]):
        shown = ", ".join(name.strip() for name in rows[0][:6]) + ", ..." * (len(rows[0]) > 6)
        raise error(
            "E0513", f"the first line of {path} looks like a sample, and is read as names",
            notes=[f"it is {shown}"],
            help="write `header = false` behind the path, or `header = true` if these are names",
        )  # fmt: skip
    names = [str(n) for n in range(len(rows[0]))] if rows else []
    if header is not False and rows:
        names, rows, lines = [name.strip() for name in rows[0]], rows[1:], lines[1:]
    if not rows:
        raise error("E0503", f"{path} has no samples", help="a sample is a line of its own")
    _check(path, names, rows, lines)
    columns = zip(*rows, strict=True)
    made = {name: _column(cells) for name, cells in zip(names, columns, strict=True)}
    return Table(made, str(path), lines)


def _rows(path: Path, text: str) -> tuple[list[list[str]], list[int]]:
    """The cells of each line that is not empty, and the number of the line it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    begun = 1
    try:
        for row in reader:
            if len(row) > 1 or any(map(str.strip, row)):
                rows.append(row)
                lines.append(reader.line_num)
            begun = reader.line_num + 1
    except csv.Error as reason:
        raise error(
            "E0503", f"line {begun} of {path} is not CSV", notes=[str(reason)],
            help='a cell that holds a comma or a quote is written "in quotes", its quotes doubled',
        ) from None  # fmt: skip
    return rows, lines


def _is_sample(first: list[str], others: list[list[str]]) -> bool:
    """Whether a line is no names: it has numbers, and its words are in their columns again."""
    words = [(place, cell) for place, cell in enumerate(first) if not is_number(cell)]
    if len(words) == len(first):
        return False
    return all(any(row[place : place + 1] == [cell] for row in others) for place, cell in words)


def _check(path: Path, names: list[str], rows: list[list[str]], lines: list[int]) -> None:
    """Every line has a cell for each column, and every column a name of its own."""
    if len(names) == 1 and (shown := _separator(names[0], rows[0])):
        raise error(
            "E0503", f"{path} separates its cells by {shown}",
            help="separate them by commas, and write decimals with a point",
        )  # fmt: skip
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise _ragged(path, line, len(row), len(names))
    for name, count in Counter(names).items():
        if count > 1:
            which = f"two columns `{name}`" if name else f"{count} columns without a name"
            raise error(
                "E0503", f"{path} has {which}",
                help="give each a name of its own in the first line",
            )  # fmt: skip


def _separator(names: str, first: list[str]) -> str:
    """What stands between the cells of a table without commas, told by its only name."""
    for mark, shown in _SEPARATORS.items():
        if mark in names:
            return shown
    words = names.split()
    is_apart = len(words) > 1 and len(first) == 1 and len(first[0].split()) == len(words)
    return "spaces" if is_apart else ""


def _ragged(path: Path, line: int, found: int, wanted: int) -> FmlError:
    cells = "1 cell" if found == 1 else f"{found} cells"
    title = "the first line has the names of the columns alone: take what stands before them out"
    usual = "every line has a cell for each column; a cell that holds a comma needs quotes"
    return error(
        "E0503", f"line {line} of {path} has {cells} instead of {wanted}",
        help=title if wanted == 1 else usual,
    )  # fmt: skip


def _column(cells: Sequence[str]) -> Array:
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return np.array([cell.strip() for cell in cells], object)


CSV = Source(
    "csv",
    "A table as text, plain or compressed with gzip.",
    (Argument("path", str), Argument("header", bool, is_optional=True)),
    read_csv,
    read_head,
)
