"""The columns of a table as a data set takes them: numbers checked, texts of labels numbered."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ir.graph import Node
from fml.engine.ir.source import Span
from fml.engine.ir.training import Dataset, Field
from fml.engine.ir.types import Label, TensorType
from fml.engine.ops.record import Array
from fml.engine.sources.labels import Classes, class_count, declared, numbered, texts_of
from fml.engine.sources.table import Table, declared_at, is_number, is_text


@dataclass(frozen=True, slots=True)
class Columns:
    """A table as a data set takes it: with the texts of its label columns known."""

    dataset: Dataset
    table: Table
    classes: Classes

    def values(self, column: Node, rows: Array) -> Array:
        """Return samples of a `column` of the data set's graph, [rows, ...] in its shape.

        Numbers have the type that they are held in.

        Raises:
            FmlError: E0502 no such column, E0504 a cell that is no number, E0508 no such class,
                E0511 a sample of another shape.
        """
        name, is_label = column.attributes["name"], isinstance(column.type.element, Label)
        with declared_at(self._span(column)):
            read = self._classed if is_label else self._numeric
            return read(name, rows, column.type)

    def held(self, column: Node) -> Array:
        """Return all samples of a `column` as they are, [samples, ...].

        Raises:
            FmlError: E0502, no such column.
        """
        with declared_at(self._span(column)):
            return self._column(column.attributes["name"])

    def _span(self, column: Node) -> Span | None:
        """Where a column is written; that of a label is its field."""
        name = column.attributes["name"]
        fields = (f for f in label_fields(self.dataset) if source_column(self.dataset, f) == name)
        return column.span or next((field.span for field in fields), None)

    def _column(self, name: object) -> Array:
        """A column; one that another field reads is not meant by a name that is near to it."""
        return self.table.column(name, wanted_columns(self.dataset))

    def is_numbered(self, name: object) -> bool:
        """Whether a label's column holds class numbers already, and no texts."""
        fields = (f for f in label_fields(self.dataset) if source_column(self.dataset, f) == name)
        return name in self.table.classes or not any(f.name in self.classes for f in fields)

    def shaped(self, column: Node) -> Array:
        """Return all samples of a `column` of numbers as they are, in the shape of the node.

        Raises:
            FmlError: E0511, a sample has another shape.
        """
        with declared_at(self._span(column)):
            return self._shaped(self.held(column), _shown(column.attributes["name"]), column.type)

    def _classed(self, name: object, rows: Array, type: TensorType) -> Array:
        field = next(
            f for f in label_fields(self.dataset) if source_column(self.dataset, f) == name
        )
        column = self._shaped(self._column(name), _shown(name), type)
        if self.is_numbered(name) and not is_text(column):
            return numbered(field, column[rows], {}, self.table)
        return numbered(field, column, self.classes, self.table)[rows]

    def _numeric(self, name: object, rows: Array, type: TensorType) -> Array:
        """Samples of a column in the shape that a node of the graph has."""
        column = self._column(name)
        shown = _shown(name)
        if is_text(column):
            cells, width = column.reshape(-1), math.prod(column.shape[1:])
            place = next((i for i, cell in enumerate(cells) if not is_number(cell)), None)
            # All may be numbers to read, and were strings to whoever saved them.
            cell = f'"{cells[0]}"' if place is None else str(cells[place])
            raise self._no_number((place or 0) // width, shown, cell)
        chosen = self._shaped(column, shown, type)[rows]
        wrong = ~np.isfinite(chosen) if chosen.dtype.kind == "f" else np.zeros(0, bool)
        if type.dtype.kind in "iu" and not np.can_cast(chosen.dtype, type.dtype):
            with np.errstate(invalid="ignore"):
                wrong = chosen != chosen.astype(type.dtype)
        if wrong.any():
            place = tuple(map(int, np.argwhere(wrong)[0]))
            kind = f"a number that {type.element} holds is" if type.dtype.kind in "iu" else ""
            raise self._no_number(int(rows[place[0]]), shown, str(chosen[place]), kind)
        return chosen

    def _shaped(self, column: Array, shown: str, type: TensorType) -> Array:
        """A column whose samples have the shape of a type; axes of 1 and flat ones do not count."""
        wanted = type.with_shape(type.shape[1:]).sizes
        if column.shape[1:] == wanted:
            return column
        if _is_alike(column.shape[1:], wanted):
            return column.reshape(len(column), *wanted)
        found = "x".join(map(str, column.shape[1:])) or "a single number"
        needed = "x".join(map(str, wanted)) or "a single number"
        raise error(
            "E0511", f"a sample of {shown} is {found}, and {needed} is needed",
            notes=[f"in {self.table.origin}"],
            help=_reshaped(column, shown, type),
        )  # fmt: skip

    def _no_number(self, row: int, column: str, cell: str, kind: str = "") -> FmlError:
        found = (
            f"has `{cell}` in {column}, and {kind or 'a number is'} needed"
            if cell
            else f"has nothing in {column}"
        )
        return error(
            "E0504", f"{self.table.place(row)} {found}",
            help="correct the cell or leave the line out; words are read by a field `label[K]`",
        )  # fmt: skip


def _reshaped(column: Array, shown: str, type: TensorType) -> str:
    """The way out of a sample of another shape."""
    element, sizes = type.element, column.shape[1:]
    if isinstance(element, Label) and sizes == (element.classes.size,):
        return f"classes are numbers: save {shown} as its `argmax(1)`, if it is one-hot"
    return f"write the sizes of the field as they are in the data: {list(sizes)}"


def _is_alike(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether the entries of one shape are those of the other in the same order and places."""
    if 1 in (len(found), len(wanted)):
        return math.prod(found) == math.prod(wanted)
    return [n for n in found if n != 1] == [n for n in wanted if n != 1]


def _shown(column: object) -> str:
    return f"`{column}`" if isinstance(column, str) else f"column {column}"


def columns_of(dataset: Dataset, table: Table) -> Columns:
    """Return the columns of a table, its text labels numbered in sorted order.

    Raises:
        FmlError: E0502 no such column, E0504 an empty cell, E0508 not as many classes as declared.
    """
    classes: dict[str, tuple[str, ...]] = {}
    for field in label_fields(dataset):
        name = source_column(dataset, field)
        with declared_at(field.span):
            column = table.column(name, wanted_columns(dataset))
        if isinstance(name, str) and name in table.classes:
            classes[field.name] = declared(field, table.classes[name], table)
        elif is_text(column):
            classes[field.name] = texts_of(field, column, table)
    return Columns(dataset, table, classes)


def wanted_columns(dataset: Dataset) -> Iterator[object]:
    """The columns that the fields of a data set are computed from, looked for one by one."""
    return (node.attributes["name"] for node in dataset.graph if node.op == "column")


def label_fields(dataset: Dataset) -> list[Field]:
    """The fields of a data set that are class numbers."""
    return [field for field in dataset.fields if class_count(field) is not None]


def source_column(dataset: Dataset, field: Field) -> object:
    """The column that a label field is: its name or its place."""
    return dataset.graph[dataset.graph.outputs[field.name]].attributes["name"]
