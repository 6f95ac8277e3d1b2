"""What a source gives: columns, and perhaps splits of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fml.engine.ir.diagnostics import did_you_mean, error
from fml.engine.ops.record import Array


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, in order, one entry a sample; text columns hold `str`.

    `origin` says where it was read, for errors; `first_line` is the line of the first sample in a
    text file. `splits` are the rows of the splits that a source has of its own.
    """

    columns: Mapping[str, Array]
    origin: str
    first_line: int = 1
    splits: Mapping[str, Array] = field(default_factory=dict[str, Array])

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def column(self, name: object) -> Array:
        """Return a column by name or place.

        Raises:
            FmlError: E0502, there is none.
        """
        if isinstance(name, str) and name in self.columns:
            return self.columns[name]
        if isinstance(name, int) and -len(self.columns) <= name < len(self.columns):
            return list(self.columns.values())[name]
        if isinstance(name, int):
            raise error(
                "E0502",
                f"{self.origin} has no column {name}",
                help=f"its columns are 0 to {len(self.columns) - 1}",
            )
        listed = ", ".join(list(self.columns)[:12])
        raise error(
            "E0502", f"{self.origin} has no column `{name}`", notes=[f"its columns are {listed}"],
            help=did_you_mean(str(name), self.columns),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of source: its name, its arguments by name, and how it is read.

    `read` is given the arguments and the folder of the file that declares the data set.
    """

    name: str
    doc: str
    arguments: tuple[str, ...]
    read: Callable[[Mapping[str, object], Path], Table]
