"""Predictions for new rows: the columns of a source in, a column of predictions out."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ir.training import Dataset, Field
from fml.engine.ir.training import Model as LoweredModel
from fml.engine.ir.types import Label, TensorType
from fml.engine.ops.record import Array
from fml.engine.sources.load import transform
from fml.engine.sources.new import example_of, read_new
from fml.engine.sources.table import Table, is_number

if TYPE_CHECKING:
    from fml.run import Run


def predictions(run: "Run", rows: Path | Mapping[str, object]) -> dict[str, Array]:
    """Return columns of predictions, an entry a row, in order.

    `rows` are the columns that the data set's fields are computed from: arrays by name, or a file
    or folder as `read_new` takes. A classifier gives `prediction`, the class, and a column
    `score_CLASS` for each with the model's own outputs; any other model `prediction` alone, and
    where a sample has a class at each of its places, they are one text. Rows from images begin
    with `file`, its name.

    Raises:
        FmlError: E0742 and E0743, the model is not one for rows; E05xx, the rows do not fit.
    """
    model, lowered = run.model, _lowered(run)
    dataset = _dataset(run, lowered)
    label = _label(lowered, dataset)
    if isinstance(rows, Mapping):
        table = Table(_named_columns(rows), "the table")
    else:
        table = read_new(dataset, rows)
    loaded = run.data[dataset.name]
    fields = list(dict.fromkeys(lowered.fed.values()))
    values = transform(dataset, table, loaded.statistics, loaded.classes, fields)
    result = model(**{argument: values[field] for argument, field in lowered.fed.items()})
    named = {"file": np.array(table.files, object)} if table.files else {}
    return {**named, **_columns(result, label, loaded.classes)}


def example_data(run: "Run") -> Path | None:
    """A file or folder that `fml predict` takes: the run's own; None if there is none."""
    try:
        lowered = _lowered(run)
        dataset = _dataset(run, lowered)
        _label(lowered, dataset)
    except FmlError:
        return None
    return example_of(dataset, run.program.base)


def note_on_scores(columns: Mapping[str, Array]) -> str:
    """Say what the columns of scores are, unless they are probabilities."""
    scores = [column for name, column in columns.items() if name.startswith("score")]
    if not scores:
        return ""
    if len(scores) == 1:
        return "note: `score` is what the model gives, no probability; above 0 means class 1"
    rows = np.stack(scores, axis=1)
    if np.all(rows >= 0) and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return ""
    return (
        "note: `score_...` are what the model gives (logits), no probabilities; the highest decides"
    )


def write_csv(columns: Mapping[str, Array], file: TextIO) -> None:
    """Write columns as CSV with a header."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_texts(column) for column in columns.values()), strict=True))


def _texts(column: Array) -> Sequence[str]:
    # numpy writes as many digits of its own scalars as tell them apart, and no more.
    return [str(value) for value in column]


def _lowered(run: "Run") -> LoweredModel:
    """The only model of a run, as it was lowered."""
    name = run.model.name
    return next(model for model in run.training.models if model.name == name)


def _dataset(run: "Run", lowered: LoweredModel) -> Dataset:
    """Find the data set whose fields the plan feeds to a model."""
    wanted = set(lowered.fed.values())
    if wanted and lowered.fed.keys() == lowered.inputs.keys():
        for feed in run.training.feeds:
            if wanted <= set(feed.fields):
                return run.training.datasets[feed.data]
    raise error(
        "E0743",
        f"`{lowered.name}` is not fed from the fields of one data set",
        help=f'apply it from Python: run.models["{lowered.name}"](...)',
    )


def _named_columns(rows: Mapping[str, object]) -> dict[str, Array]:
    """Return columns of one length.

    Raises:
        FmlError: E0505, a value is no column, or one is longer than another.
    """
    columns = {name: _column(name, values) for name, values in rows.items()}
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise error("E0505", f"the columns differ in length: {listed}",
                    help="an entry of every column is a row")  # fmt: skip
    return columns


def _column(name: str, values: object) -> Array:
    try:
        column = np.asarray(values)
    except ValueError:  # nested lists of different lengths
        column = np.asarray(None)
    if column.ndim and column.dtype.kind in "biuf":
        return column
    if column.ndim and all(isinstance(value, str) for value in column.flat):
        # As in a file: a column of numbers is one, however it is written.
        numeric = len(column) > 0 and all(map(is_number, column.flat))
        return column.astype(np.float64 if numeric else object)
    raise error("E0505", f"the column `{name}` is no list of numbers or of texts",
                help=f'{{"{name}": [5.1, 4.9]}}, an entry a row')  # fmt: skip


def _label(lowered: LoweredModel, dataset: Dataset) -> str | None:
    """Return the label field that a model's scores are for, if it is a classifier.

    Raises:
        FmlError: E0743, what it gives is neither that nor a number a sample.
    """
    rank = lowered.result.rank
    answers = [f for f in dataset.fields if f.name not in lowered.fed.values()]
    labels = [f for f in answers if isinstance(f.type.element, Label)]
    if rank == 1:
        binary = [f.name for f in labels if str(f.type.element) == "label[2]"]
        return binary[0] if len(labels) == len(binary) == 1 else None
    if rank == 2 and lowered.label_field is not None:
        return lowered.label_field
    if rank > 2:
        by_place = [f.name for f in labels if _scores_of(f, lowered.result)]
        if len(by_place) == 1:
            return by_place[0]
    raise error(
        "E0743",
        f"`{lowered.name}` gives {lowered.result}, which is no column of predictions",
        help=f'apply it from Python: run.models["{lowered.name}"](...)',
    )


def _scores_of(field: Field, result: TensorType) -> bool:
    """Whether a result has a score for each class at each place of a sample of labels."""
    element = field.type.element
    classes = element.classes if isinstance(element, Label) else None
    return result.shape[1:] == (*field.type.shape, classes)


def _columns(
    result: Array, label: str | None, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, Array]:
    if label is None:
        return {"prediction": result}
    names = classes.get(label)
    if result.ndim == 1:
        # As in `binary_cross_entropy` and `binary_accuracy`: a score above 0 means class 1.
        scores = {"score": result}
        chosen = (result > 0).astype(np.int64)
    elif result.ndim == 2:
        shown = names or range(result.shape[1])
        scores = {f"score_{name}": result[:, k] for k, name in enumerate(shown)}
        chosen = result.argmax(1)
    else:
        return {"prediction": _joined(result.argmax(-1), names)}
    return {"prediction": np.asarray(names)[chosen] if names else chosen, **scores}


def _joined(chosen: Array, names: tuple[str, ...] | None) -> Array:
    """The classes at all places of each sample as one text."""
    mark = "" if names and all(len(name) == 1 for name in names) else " "
    texts = np.asarray(names)[chosen] if names else chosen.astype(str)
    return np.array([mark.join(map(str, row.flat)) for row in texts], object)
