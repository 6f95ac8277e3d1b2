"""`parquet("measured.parquet")`: a table by columns, read by pyarrow as fields need them."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ops.record import Array
from fml.engine.sources.packages import imported
from fml.engine.sources.paths import find_file, why
from fml.engine.sources.table import Argument, Arguments, Source, Table

_HEAD = 10_000


def read_parquet(arguments: Arguments, base: Path) -> Table:
    """Read a file: columns of numbers in their own element, booleans, and texts.

    A column is read when it is asked for, so those that no field reads cost nothing and may be of
    any type. One with a null is as in CSV: a column of texts in which that cell is empty.

    Raises:
        FmlError: E0501 not found, E0503 two columns of one name, E0510 no Parquet, or no samples,
            E0512 pyarrow is not installed. Columns raise E0510 when they are asked for.
    """
    path, file = _opened(arguments, base)

    def read(name: str) -> Any:
        return file.read(columns=[name])

    return _table(path, file, read, file.metadata.num_rows)


def read_head(arguments: Arguments, base: Path) -> Table:
    """Read the first samples of a file.

    Raises:
        FmlError: as `read_parquet`.
    """
    path, file = _opened(arguments, base)

    def read(name: str) -> Any:
        return next(file.iter_batches(_HEAD, columns=[name]))

    return _table(path, file, read, min(_HEAD, file.metadata.num_rows))


def _opened(arguments: Arguments, base: Path) -> tuple[Path, Any]:
    parquet = imported("pyarrow.parquet", "pyarrow", "parquet")
    path = find_file(str(arguments["path"]), base)
    with _told(path):
        return path, parquet.ParquetFile(path)


def _table(path: Path, file: Any, read: Callable[[str], Any], count: int) -> Table:
    names = list(map(str, file.schema_arrow.names))
    for name in names:
        if names.count(name) > 1:
            raise error("E0503", f"{path} has two columns `{name}`", help="rename one of them")
    if not names or not count:
        raise _foreign(path, "it has no samples")
    return Table(_Columns(path, names, read), str(path), count=count)


class _Columns(Mapping[str, Array]):
    """The columns of a file, read when they are asked for, and then kept."""

    def __init__(self, path: Path, names: list[str], read: Callable[[str], Any]) -> None:
        self._path = path
        self._names = names
        self._read = read
        self._kept: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._kept:
            with _told(self._path):
                self._kept[name] = self._array(name)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _array(self, name: str) -> Array:
        arrow = imported("pyarrow", "pyarrow", "parquet")
        types = arrow.types
        column = arrow.chunked_array(self._read(name).column(name))
        if types.is_dictionary(column.type):  # as pandas writes categories
            column = column.cast(column.type.value_type)
        if types.is_decimal(column.type):
            column = column.cast(arrow.float64())
        is_string = types.is_string(column.type) or types.is_large_string(column.type)
        is_number = types.is_integer(column.type) or types.is_floating(column.type)
        if not (is_string or is_number or types.is_boolean(column.type)):
            raise error(
                "E0510", f"`{name}` of {self._path} holds {column.type}",
                notes=["fields read numbers, booleans and strings"],
                help="write the column as one of these",
            )  # fmt: skip
        if column.null_count:
            cells = ["" if cell is None else str(cell) for cell in column.to_pylist()]
            return np.array(cells, object)
        return _texts(column) if is_string else column.to_numpy()


def _texts(column: Any) -> Array:
    """The strings of a column; equal ones are one object, as classes are few and samples many."""
    made = [chunk.dictionary_encode() for chunk in column.chunks]
    return np.concatenate(
        [np.array(c.dictionary.to_pylist(), object)[c.indices.to_numpy()] for c in made]
    )


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Tell what pyarrow finds wrong with a file as E0510."""
    arrow = imported("pyarrow", "pyarrow", "parquet")
    try:
        yield
    except (OSError, arrow.ArrowException) as reason:
        raise _foreign(path, why(reason)) from None


def _foreign(path: Path, reason: str) -> FmlError:
    return error(
        "E0510", f"{path} cannot be read as Parquet", notes=[reason],
        help="write it again; other tables have sources of their own, such as `csv`",
    )  # fmt: skip


PARQUET = Source(
    "parquet",
    "A table by columns, as Arrow, pandas and others write it.",
    (Argument("path", str),),
    read_parquet,
    read_head,
)
