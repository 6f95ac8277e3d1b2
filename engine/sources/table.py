"""What a source is, and what it gives: columns, and perhaps splits of its own."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np

from fml.engine.ir.diagnostics import FmlError, Mark, did_you_mean, error
from fml.engine.ir.source import Span
from fml.engine.ops.record import Array

_LISTED = 12

Arguments: TypeAlias = Mapping[str, bool | float | str]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, in order, one entry a sample.

    A column of numbers may hold NaN where a cell has none; one of text holds `str` objects.
    `origin` says where it was read, for errors; `lines` are the samples' lines in a text file.
    `splits` are the rows of the splits that a source has of its own. `classes` are the texts of
    columns that hold class numbers already, in the order of these. `files` are the samples' own
    files, where each has one. `count` is the number of samples of columns that are read late.
    """

    columns: Mapping[str, Array]
    origin: str
    lines: Sequence[int] = ()
    splits: Mapping[str, Array] = field(default_factory=dict[str, Array])
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    files: Sequence[str] = ()
    count: int | None = None

    @property
    def samples(self) -> int:
        """The number of samples."""
        if self.count is not None:
            return self.count
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def place(self, row: int) -> str:
        """Where a sample stands, in words."""
        if self.files:
            return f"{self.files[row]} of {self.origin}"
        where = f"line {self.lines[row]}" if len(self.lines) else f"sample {row}"
        return f"{where} of {self.origin}"

    def column(self, name: object, others: Iterable[object] = ()) -> Array:
        """Return a column by name, or by place counted from 0; `others` are wanted, too.

        Raises:
            FmlError: E0502, there is none.
        """
        if isinstance(name, str) and name in self.columns:
            return self.columns[name]
        count = len(self.columns)
        if isinstance(name, int):
            if -count <= name < count:
                return self.columns[[*self.columns][name]]
            raise error(
                "E0502", f"{self.origin} has no column {name}",
                help=f"its columns are 0 to {count - 1}",
            )  # fmt: skip
        listed = [*self.columns][:_LISTED]
        near = self.columns.keys() - set(others)
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        raise error(
            "E0502", f"{self.origin} has no column `{name}`",
            notes=[f"its columns are {', '.join(listed)}{more}"],
            help=did_you_mean(str(name), near) or self._headless(),
        )  # fmt: skip

    def _headless(self) -> str:
        """What to do about names that are numbers: they were samples, or there are none."""
        if [*self.columns] == [str(place) for place in range(len(self.columns))]:
            return "its columns have no names: `columns[0]` is the first"
        if all(is_number(name) for name in self.columns):
            return "without a line of names: `header = false`, and `columns[0]` for the first one"
        return 'a name that is no word of the language is written `columns["the name"]`'


def one_behind_the_other(counts: Mapping[str, int]) -> dict[str, Array]:
    """Return the rows of splits whose samples follow each other, from how many each has."""
    rows = np.split(np.arange(sum(counts.values())), list(accumulate(counts.values()))[:-1])
    return dict(zip(counts, rows, strict=True))


@contextmanager
def declared_at(span: Span | None) -> Generator[None]:
    """Mark what the text has to do with faults of the data that are found meanwhile."""
    try:
        yield
    except FmlError as found:
        marks = (Mark(span),) if span else ()
        raise FmlError(
            d if d.marks else replace(d, marks=marks) for d in found.diagnostics
        ) from None


def is_text(column: Array) -> bool:
    """Whether a column holds text."""
    return column.dtype.kind == "O"


def is_number(text: object) -> bool:
    """Whether a cell can be read as a number that is finite."""
    try:
        return bool(np.isfinite(float(str(text))))
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a source.

    Attributes:
        name: how it is called.
        kind: its type in Python; a float may be written as a whole number.
        default: what it is where it is left out; None for one that must be given.
        least: the smallest number that is allowed.
        is_optional: whether the source decides where it is left out.
    """

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    default: bool | float | str | None = None
    least: int | None = None
    is_optional: bool = False

    def accepts(self, value: object) -> TypeGuard[bool | float | str]:
        """Whether a static value of the language is of this kind."""
        if isinstance(value, bool) or self.kind is bool:
            return isinstance(value, bool) and self.kind is bool
        return isinstance(value, int | float if self.kind is float else self.kind)


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of source: its name, what it is in a line, its arguments, and how it is read.

    `read` is given every argument, but for optional ones that were left out, and the folder of the
    file that declares the data set; `head` reads as much of large data as a moment allows, of all
    columns and with all `classes`. `new` reads samples to predict from: without answers and splits,
    where `read` would ask for them.
    """

    name: str
    doc: str
    arguments: tuple[Argument, ...]
    read: Callable[[Arguments, Path], Table]
    head: Callable[[Arguments, Path], Table] | None = None
    new: Callable[[Arguments, Path], Table] | None = None
