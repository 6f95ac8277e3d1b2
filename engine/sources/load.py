"""Data sets as arrays: source, splits, statistics of the training samples, fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, error
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Dataset, Field, Role, Variable
from fml.engine.ir.types import Label
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.planner import make_plan
from fml.engine.runtime.executor import Executable, VariableStore
from fml.engine.sources.csv import CSV
from fml.engine.sources.given import label_problem, table_of
from fml.engine.sources.split import cut
from fml.engine.sources.table import SourceKind, Table

SOURCES: Mapping[str, SourceKind] = {CSV.name: CSV}


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A data set: arrays by split and field, [samples, ...] each in the field's dtype.

    `statistics` are by variable; `classes` are the texts of text labels by field, in the order of
    their class numbers.
    """

    splits: Mapping[str, Mapping[str, Array]]
    statistics: Mapping[str, Array]
    classes: Mapping[str, tuple[str, ...]]


def load(dataset: Dataset, given: object, base: Path) -> LoadedData:
    """Read a data set.

    Raises:
        FmlError: E05xx, the data are not there, or are not as declared.
    """
    table = read_table(dataset, given, base)
    classes = {f.name: _classes(table, f) for f in dataset.fields if _is_text(table, f)}
    rows = _rows(dataset, table, classes)
    statistics: dict[str, Array] = {}
    train = rows.get("train", np.arange(table.samples))
    for statistic in dataset.statistics:
        values = _compute(dataset, table, train, statistics, classes, [statistic.of])[statistic.of]
        exact = values.astype(np.float64)
        figure = exact.mean(0) if statistic.figure == "mean" else exact.std(0)
        if statistic.figure == "std":
            figure = np.where(figure == 0, 1.0, figure)  # a column of one value is left as it is
        statistics[statistic.variable] = figure.astype(np.float32)
    names = [f.name for f in dataset.fields]
    whole = _compute(dataset, table, np.arange(table.samples), statistics, classes, names)
    splits = {name: {f: whole[f][part] for f in names} for name, part in rows.items()}
    return LoadedData(splits, statistics, classes)


def transform(
    dataset: Dataset,
    table: Table,
    statistics: Mapping[str, Array],
    classes: Mapping[str, tuple[str, ...]],
    fields: list[str],
) -> dict[str, Array]:
    """Compute fields of new samples with the figures of the training samples."""
    rows = np.arange(table.samples)
    return _compute(dataset, table, rows, statistics, classes, fields)


def read_table(dataset: Dataset, given: object, base: Path) -> Table:
    """Read the source of a data set."""
    if dataset.source == "given":
        return table_of(dataset, given)
    kind = SOURCES.get(dataset.source)
    if kind is None:
        raise _placed(
            dataset,
            "E0902",
            f"the source `{dataset.source}` cannot be read yet",
            f"there are {', '.join([*SOURCES, 'given'])}",
        )
    unknown = [name for name in dataset.arguments if name not in kind.arguments]
    if unknown or "path" not in dataset.arguments:
        wanted = ", ".join(kind.arguments)
        raise _placed(dataset, "E0507", f"`{kind.name}` takes {wanted}", "")
    return kind.read(dataset.arguments, base)


def _placed(dataset: Dataset, code: str, message: str, help: str) -> FmlError:
    marks = (Mark(dataset.span),) if dataset.span else ()
    return FmlError([Diagnostic(code, message, marks, (), help)])


# --- labels --------------------------------------------------------------------------------------


def _key(field: Field) -> str | int:
    name = field.text_column or field.name
    return int(name) if name.isdecimal() else name


def _is_text(table: Table, field: Field) -> bool:
    if not isinstance(field.type.element, Label):
        return False
    return table.column(_key(field)).dtype.kind == "U"


def _classes(table: Table, field: Field) -> tuple[str, ...]:
    """Text labels become class numbers in sorted order."""
    found = tuple(str(text) for text in np.unique(table.column(_key(field))))
    wanted = str(field.type.element.classes) if isinstance(field.type.element, Label) else ""
    if str(len(found)) != wanted:
        marks = (Mark(field.span),) if field.span else ()
        raise FmlError(
            [
                Diagnostic(
                    "E0508",
                    f"`{field.name}` is declared {field.type}, and {len(found)} classes were found",
                    marks,
                    (f"in {table.origin}: {', '.join(found[:12])}",),
                    f"declare `label[{len(found)}]`",
                )
            ]
        )
    return found


def _rows(
    dataset: Dataset, table: Table, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, Array]:
    split = dataset.split
    if split is None:
        return dict(table.splits) or {"train": np.arange(table.samples)}
    rows = np.arange(table.samples) if split.of is None else table.splits.get(split.of)
    if rows is None:
        listed = ", ".join(table.splits) or "none of its own"
        raise _placed(
            dataset, "E0506", f"there is no split `{split.of}` to cut", f"it has {listed}"
        )
    labels: Array | None = None
    if split.by is not None:
        field = next(f for f in dataset.fields if f.name == split.by)
        labels = table.column(_key(field))[rows]
    kept = {name: part for name, part in table.splits.items() if name != split.of}
    return {**cut(split, rows, labels, dataset.name), **(kept if split.of else {})}


# --- fields --------------------------------------------------------------------------------------


def _compute(
    dataset: Dataset,
    table: Table,
    rows: Array,
    statistics: Mapping[str, Array],
    classes: Mapping[str, tuple[str, ...]],
    outputs: list[str],
) -> dict[str, Array]:
    """Run the graph of the fields over some samples."""
    graph = dataset.graph
    part = Graph(graph.name, [*graph], {name: graph.outputs[name] for name in outputs})
    graph = optimise(part, {"N": len(rows)})
    nodes = graph.of_op("variable")
    variables = {
        str(n.attributes["name"]): Variable(str(n.attributes["name"]), n.type, Role.STATISTIC)
        for n in nodes
    }
    backend = NumpyBackend()
    store = VariableStore(variables, backend)
    store.restore({name: statistics[name] for name in variables})
    executable = Executable(make_plan(graph, store.layout), backend, store)
    for node in graph.of_op("column"):
        name = node.attributes["name"]
        values = _values(dataset, table, name, classes, isinstance(node.type.element, Label))
        executable.upload(node.id, values[rows])
    executable.run()
    return {name: executable.output(name) for name in outputs}


def _values(
    dataset: Dataset,
    table: Table,
    name: object,
    classes: Mapping[str, tuple[str, ...]],
    is_label: bool,
) -> Array:
    """A column as numbers; text only where it is a label."""
    column = table.column(name)
    if is_label:
        key = str(name)
        fields = (f for f in dataset.fields if isinstance(f.type.element, Label))
        field = next(f for f in fields if (f.text_column or f.name) == key)
        return _numbered(table, column, field, classes)
    if column.dtype.kind == "U":
        number = next(i for i, text in enumerate(column) if not _is_number(str(text)))
        raise error(
            "E0504",
            f"the column `{name}` of {table.origin} has `{column[number]}` on line "
            f"{number + table.first_line}, and a number is needed",
            help="correct the cell, or use the column as a `label`",
        )
    return column


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbered(
    table: Table, column: Array, field: Field, classes: Mapping[str, tuple[str, ...]]
) -> Array:
    known = classes.get(field.name)
    if known is not None:
        numbers = {text: number for number, text in enumerate(known)}
        missing = next((str(t) for t in column if str(t) not in numbers), None)
        if missing is not None:
            raise error(
                "E0508",
                f"`{missing}` is not a class of `{field.name}`",
                notes=[f"the classes are {', '.join(known[:12])}"],
            )
        return np.asarray([numbers[str(text)] for text in column], np.int32)
    problem = label_problem(column, field)
    if problem:
        marks = (Mark(field.span),) if field.span else ()
        raise FmlError(
            [
                Diagnostic(
                    "E0508",
                    f"`{field.name}` of {table.origin} does not fit {field.type}: {problem}",
                    marks,
                )
            ]
        )
    return column
