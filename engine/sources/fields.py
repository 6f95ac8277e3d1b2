"""The fields of a data set, computed by its graph over the columns of a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, error
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Dataset, Field, Role, Variable
from fml.engine.ir.types import Label, TensorType
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.planner import make_plan
from fml.engine.runtime.executor import Executable, VariableStore
from fml.engine.sources.labels import Classes, class_count, numbered, texts_of
from fml.engine.sources.table import Table, declared_at, is_number, is_text


@dataclass(frozen=True, slots=True)
class Columns:
    """A table as a data set takes it: with the texts of its label columns known."""

    dataset: Dataset
    table: Table
    classes: Classes

    def compute(
        self, outputs: Sequence[str], rows: Array, statistics: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return outputs of the data set's graph for some samples, [rows, ...].

        Raises:
            FmlError: E0502 no such column, E0504 a cell that is no number, E0508 no such class.
        """
        graph = self.dataset.graph
        wanted = {name: graph.outputs[name] for name in outputs}
        graph = optimise(Graph(graph.name, [*graph], wanted), {"N": len(rows)})
        variables = {
            (name := str(n.attributes["name"])): Variable(name, n.type, Role.STATISTIC)
            for n in graph.of_op("variable")
        }
        backend = NumpyBackend()
        store = VariableStore(variables, backend)
        store.restore({name: statistics[name] for name in variables})
        executable = Executable(make_plan(graph, store.layout), backend, store)
        for node in graph.of_op("column"):
            name, is_label = node.attributes["name"], isinstance(node.type.element, Label)
            with declared_at(node.span):
                read = self._classed if is_label else self._numeric
                values = read(name, rows, node.type)
            executable.upload(node.id, values)
        executable.run()
        return {name: executable.output(name) for name in outputs}

    def checked(self, fields: Sequence[str], statistics: Mapping[str, Array]) -> dict[str, Array]:
        """Return fields for all samples, every number of them finite.

        Raises:
            FmlError: as `compute`; E0509, a field's expression gave NaN or an infinity.
        """
        computed = self.compute(fields, np.arange(self.table.samples), statistics)
        for field in self.dataset.fields:
            if field.name in computed and field.type.is_float:
                self._check_finite(field, computed[field.name])
        return computed

    def _check_finite(self, field: Field, values: Array) -> None:
        by_sample = values.reshape(len(values), -1)
        for row in np.flatnonzero(~np.isfinite(by_sample).all(axis=1))[:1]:
            found = by_sample[row][~np.isfinite(by_sample[row])][0]
            marks = (Mark(field.span),) if field.span else ()
            raise FmlError([Diagnostic(
                "E0509", f"`{field.name}` is {found} for {self.table.place(row)}", marks, (),
                "check the cell, and what the expression does to it (log of 0, division by 0)",
            )])  # fmt: skip

    def _classed(self, name: object, rows: Array, type: TensorType) -> Array:
        field = next(
            f for f in label_fields(self.dataset) if source_column(self.dataset, f) == name
        )
        column = self._shaped(self.table.column(name), _shown(name), type)
        return numbered(field, column, self.classes, self.table)[rows]

    def _numeric(self, name: object, rows: Array, type: TensorType) -> Array:
        """Samples of a column in the shape that a node of the graph has."""
        column = self.table.column(name)
        shown = _shown(name)
        if is_text(column):
            row = next(i for i, cell in enumerate(column) if not is_number(cell))
            raise self._no_number(row, shown, str(column[row]))
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
        if wanted and math.prod(column.shape[1:]) == math.prod(wanted):
            return column.reshape(len(column), *wanted)
        found = "x".join(map(str, column.shape[1:])) or "a single number"
        needed = "x".join(map(str, wanted)) or "a single number"
        raise error(
            "E0511", f"a sample of {shown} is {found}, and {needed} is needed",
            notes=[f"in {self.table.origin}"],
            help="write the sizes of the field as they are in the data",
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


def _shown(column: object) -> str:
    return f"`{column}`" if isinstance(column, str) else f"column {column}"


def columns_of(dataset: Dataset, table: Table) -> Columns:
    """Return the columns of a table, its text labels numbered in sorted order.

    Raises:
        FmlError: E0502 no such column, E0504 an empty cell, E0508 not as many classes as declared.
    """
    classes: dict[str, tuple[str, ...]] = {}
    for field in label_fields(dataset):
        with declared_at(field.span):
            column = table.column(source_column(dataset, field))
        if is_text(column):
            classes[field.name] = texts_of(field, column, table)
    return Columns(dataset, table, classes)


def label_fields(dataset: Dataset) -> list[Field]:
    """The fields of a data set that are class numbers."""
    return [field for field in dataset.fields if class_count(field) is not None]


def source_column(dataset: Dataset, field: Field) -> object:
    """The column that a label field is: its name or its place."""
    return dataset.graph[dataset.graph.outputs[field.name]].attributes["name"]
