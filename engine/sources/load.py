"""Data sets as arrays: source, splits, statistics of the training samples, fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Dataset, Split
from fml.engine.ops.record import Array
from fml.engine.runtime.feeding import Samples, Selection
from fml.engine.sources.columns import Columns, columns_of, source_column
from fml.engine.sources.fields import (
    check,
    checked,
    column_key,
    columns_behind,
    is_read_late,
    pieces,
    reading,
)
from fml.engine.sources.labels import Classes
from fml.engine.sources.read import read_table
from fml.engine.sources.split import cut
from fml.engine.sources.table import Table, declared_at, is_text

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A data set: by split what there is of its samples, [samples, ...].

    That is fields by name, in their dtype, and for fields that are computed batch by batch the
    columns that `late` is fed; its outputs are these fields.

    `statistics` are by variable; `classes` are the texts of text labels by field, in the order of
    their class numbers. `warnings` are what is odd about the data.
    """

    splits: Mapping[str, Mapping[str, Samples]]
    statistics: Mapping[str, Array]
    classes: Classes
    warnings: tuple[Diagnostic, ...] = ()
    late: Graph | None = None


def load(dataset: Dataset, given: object, base: Path) -> LoadedData:
    """Read a data set.

    Args:
        dataset: what is declared.
        given: arrays from Python for `given` data, by field, or by split and field.
        base: the folder of the file that declares it, where relative paths begin.

    Raises:
        FmlError: E0501 to E0513, the data are not there, or are not as declared; E0512, a
            package that reads them is not installed; E0521, a part of the split is empty.
    """
    columns = columns_of(dataset, read_table(dataset, given, base))
    rows = _rows(dataset, columns.table)
    statistics, warnings = _statistics(columns, rows)
    late = [field.name for field in dataset.fields if is_read_late(columns, field)]
    fields = checked(columns, [f.name for f in dataset.fields if f.name not in late], statistics)
    splits = {
        split: {
            **{name: array[part] for name, array in fields.items()},
            **{key: Selection(array, part) for key, array in _held(columns, late).items()},
        }
        for split, part in rows.items()
    }
    graph = None
    if late:
        check(columns, late, statistics)
        graph = reading(columns, late, statistics)
    return LoadedData(splits, statistics, columns.classes, warnings, graph)


def _held(columns: Columns, fields: Sequence[str]) -> dict[str, Array]:
    """The columns behind some fields as they are held, by their key."""
    nodes = (node for field in fields for node in columns_behind(columns, field))
    return {column_key(node): columns.shaped(node) for node in nodes}


def transform(
    dataset: Dataset,
    table: Table,
    statistics: Mapping[str, Array],
    classes: Classes,
    fields: Sequence[str],
) -> dict[str, Array]:
    """Compute fields of new samples, [samples, ...], with what training has found out.

    Columns that only other fields read may be missing.

    Raises:
        FmlError: E0502 no such column, E0504 a cell that is no number, E0508 no such class, E0509
            a field that is not finite.
    """
    return checked(Columns(dataset, table, classes), fields, statistics)


def _rows(dataset: Dataset, table: Table) -> dict[str, Array]:
    """The rows of each split."""
    split = dataset.split
    if split is None:
        return dict(table.splits) or {TRAIN: np.arange(table.samples)}
    if split.of is None and table.splits:
        raise _placed(
            dataset, "E0506", f"`split` would mix the splits that `{dataset.name}` has already",
            (f"its source has {', '.join(table.splits)}",),
            f"say which one is cut: `from {next(iter(table.splits))}` behind the parts",
        )  # fmt: skip
    rows = np.arange(table.samples) if split.of is None else table.splits.get(split.of)
    if rows is None:
        listed = ", ".join(table.splits) or "no splits of its own"
        raise _placed(
            dataset, "E0506", f"`{dataset.name}` has no split `{split.of}` to cut",
            (f"{table.origin} has {listed}",), _way_to(split.of or "", dataset, table),
        )  # fmt: skip
    labels: Array | None = None
    if split.by is not None:
        field = next(f for f in dataset.fields if f.name == split.by)
        labels = table.column(source_column(dataset, field))[rows]
    kept = {} if split.of is None else {n: r for n, r in table.splits.items() if n != split.of}
    with declared_at(dataset.span):
        made = cut(split, rows, labels, dataset.name)
    _require_samples(dataset, split, made, len(rows))
    return {**kept, **made}


def _way_to(split: str, dataset: Dataset, table: Table) -> str:
    """What to write where a source has no such split."""
    if table.splits:
        return (
            did_you_mean(split, table.splits) or f"cut another: `from {next(iter(table.splits))}`"
        )
    without = f"leave out `from {split}`"
    if dataset.source != "npz":
        return without
    names = ", ".join(f"`{split}_{name}`" for name in table.columns)
    return f"{without}, or call its arrays {names}"


def _require_samples(dataset: Dataset, split: Split, made: Mapping[str, Array], count: int) -> None:
    """A part that comes out empty is not what was meant, whether it is used or not."""
    for part in split.parts:
        if len(made[part.name]):
            continue
        asked = f"{part.amount * 100:g}%" if part.is_share else f"{part.amount:g}"
        raise FmlError([Diagnostic(
            "E0521", f"the split `{part.name}` of `{dataset.name}` is empty",
            (Mark(part.span),) if part.span else (),
            (f"{asked} of {count} samples {'is' if count == 1 else 'are'} none",),
            "give it samples, or leave it out",
        )])  # fmt: skip


def _statistics(
    columns: Columns, rows: Mapping[str, Array]
) -> tuple[dict[str, Array], tuple[Diagnostic, ...]]:
    """Mean and standard deviation over the training samples, in float64 and kept in float32."""
    dataset = columns.dataset
    statistics: dict[str, Array] = {}
    exact: dict[str, tuple[Array, Array]] = {}
    warnings: list[Diagnostic] = []
    if not dataset.statistics:
        return statistics, ()
    train = rows.get(TRAIN)
    if train is None or not len(train):
        raise _placed(
            dataset, "E0506", f"`{dataset.name}` has no samples in a split `train`",
            ("`standardize` takes mean and standard deviation from there",),
            "give the split that the plan trains on the name `train`",
        )  # fmt: skip
    for statistic in dataset.statistics:
        of = statistic.of
        if of not in exact:
            exact[of] = _mean_and_std(columns, of, train, statistics)
        mean, std = exact[of]
        figure = mean if statistic.figure == "mean" else std
        if statistic.figure == "std" and not figure.all():
            warnings.append(_constant(columns, of, train))
            figure = np.where(figure == 0, 1.0, figure)
        statistics[statistic.variable] = np.asarray(figure, np.float32)
    return statistics, tuple(warnings)


def _mean_and_std(
    columns: Columns, output: str, rows: Array, statistics: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Mean over the rows, and standard deviation from it in a second pass, in float64."""
    total = sum(
        v[output].sum(0, np.float64) for _, v in pieces(columns, [output], rows, statistics)
    )
    mean = np.asarray(total) / len(rows)
    total = sum(
        np.square(v[output] - mean).sum(0) for _, v in pieces(columns, [output], rows, statistics)
    )
    return mean, np.sqrt(np.asarray(total) / len(rows))


def _constant(columns: Columns, of: str, train: Array) -> Diagnostic:
    """Say which columns are the same in every training sample."""
    graph = columns.dataset.graph
    behind = (graph[n] for n in sorted(graph.ancestors([graph.outputs[of]])))
    names = [node.attributes["name"] for node in behind if node.op == "column"]
    values = {name: columns.table.column(name)[train] for name in names}
    constant = [f"`{n}`" for n, v in values.items() if not is_text(v) and (v == v[0]).all()]
    subject = ", ".join(constant) or "a number given to `standardize`"
    marks = (Mark(columns.dataset.span),) if columns.dataset.span else ()
    return Diagnostic(
        "W0501",
        f"{subject} of `{columns.dataset.name}` is the same in every training sample",
        marks,
        ("its standard deviation is 0 and was taken as 1",),
        "leave it out: a model learns nothing from it",
    )


def _placed(
    dataset: Dataset, code: str, message: str, notes: tuple[str, ...], help: str
) -> FmlError:
    marks = (Mark(dataset.span),) if dataset.span else ()
    return FmlError([Diagnostic(code, message, marks, notes, help)])
