"""`csv("data/iris.csv", header = true)`: a table as text, also compressed with gzip."""

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import error
from fml.engine.ops.record import Array
from fml.engine.sources.paths import find_file
from fml.engine.sources.table import SourceKind, Table


def read_csv(arguments: Mapping[str, object], base: Path) -> Table:
    """Read a file: a column is a number column if every cell is a number, else text.

    Raises:
        FmlError: E0501 not found, E0503 not a table.
    """
    path = find_file(str(arguments["path"]), base)
    rows = [row for row in csv.reader(io.StringIO(_text(path))) if row]
    has_header = arguments.get("header", True) is not False
    if len(rows) <= has_header:
        raise error("E0503", f"{path} has no samples")
    names = rows[0] if has_header else [str(n) for n in range(len(rows[0]))]
    samples = rows[1:] if has_header else rows
    first_line = 2 if has_header else 1
    for number, row in enumerate(samples, first_line):
        if len(row) != len(names):
            raise error(
                "E0503", f"line {number} of {path} has {len(row)} cells instead of {len(names)}",
                help="every line has one cell a column; quote cells that hold commas",
            )  # fmt: skip
    names = [name.strip() for name in names]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise error("E0503", f"{path} has two columns `{sorted(doubled)[0]}`")
    columns = zip(*samples, strict=True)
    made = {n: _column(cells, n, path, first_line) for n, cells in zip(names, columns, strict=True)}
    return Table(made, str(path), first_line)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        return content.decode("utf-8-sig")
    except (OSError, EOFError, gzip.BadGzipFile) as reason:
        raise error("E0503", f"{path} cannot be read", notes=[str(reason)]) from None
    except UnicodeDecodeError as reason:
        raise error(
            "E0503", f"{path} is not UTF-8 text", notes=[f"at byte {reason.start}"],
            help="convert it: iconv -f latin1 -t utf-8",
        ) from None  # fmt: skip


def _column(cells: Sequence[str], name: str, path: Path, first_line: int) -> Array:
    stripped = [cell.strip() for cell in cells]
    for number, cell in enumerate(stripped, first_line):
        if not cell:
            raise error(
                "E0504", f"line {number} of {path} has no value for `{name}`",
                help="fill it in, or leave the line out",
            )  # fmt: skip
    try:
        return np.asarray(stripped, np.float64)
    except ValueError:
        return np.asarray(stripped, np.str_)


CSV = SourceKind("csv", "A table as text, plain or gzip.", ("path", "header"), read_csv)
