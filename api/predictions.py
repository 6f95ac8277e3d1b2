"""Predictions for new rows: the columns of a source in, a column of predictions out."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from fml.engine.ir.diagnostics import FmlError, did_you_mean, error
from fml.engine.ir.training import Dataset
from fml.engine.ir.training import Model as LoweredModel
from fml.engine.ir.types import Label
from fml.engine.ops.record import Array
from fml.engine.sources.csv import read_csv
from fml.engine.sources.images import read_new
from fml.engine.sources.load import transform
from fml.engine.sources.read import arguments_of
from fml.engine.sources.table import Table, is_number

if TYPE_CHECKING:
    from fml.run import Run


def predictions(run: "Run", rows: Path | Mapping[str, object]) -> dict[str, Array]:
    """Return columns of predictions, an entry a row, in order.

    `rows` are the columns that the data set's fields are computed from: a CSV file, or arrays by
    name; for a data set of images, an image or a folder of them. A classifier gives `prediction`,
    the class, and a column `score_CLASS` for each with the model's own outputs; any other model
    `prediction` alone. Rows from images begin with `file`, its name.

    Raises:
        FmlError: E0742 and E0743, the model is not one for rows; E05xx, the rows do not fit.
    """
    model, lowered = run.model, _lowered(run)
    dataset = _dataset(run, lowered)
    table = _table(dataset, rows, run.program.base)
    loaded = run.data[dataset.name]
    fields = list(dict.fromkeys(lowered.fed.values()))
    values = transform(dataset, table, loaded.statistics, loaded.classes, fields)
    result = model(**{argument: values[field] for argument, field in lowered.fed.items()})
    named = {"file": np.array(table.files, object)} if table.files else {}
    return {**named, **_columns(result, _label(lowered, dataset, result), loaded.classes)}


def is_for_rows(run: "Run") -> bool:
    """Whether the plan has one model, fed from what a row of a file, or an image, holds."""
    try:
        lowered = _lowered(run)
        dataset = _dataset(run, lowered)
    except FmlError:
        return False
    fed = [field for field in dataset.fields if field.name in lowered.fed.values()]
    return dataset.source == "images" or all(field.type.rank < 2 for field in fed)


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


def _table(dataset: Dataset, rows: Path | Mapping[str, object], base: Path) -> Table:
    if isinstance(rows, Mapping):
        return Table(_named_columns(rows), "the table")
    of_images = dataset.source == "images"
    way_out = "give the images" if of_images else "give the CSV file that the rows are in"
    if not rows.exists():
        near = did_you_mean(rows.name, (file.name for file in rows.parent.glob("*.csv*")))
        raise error("E0501", f"`{rows}` does not exist", help=near or way_out)
    if of_images:
        return read_new(rows)
    # Other files for prediction are CSV, whatever the data set was read from.
    if rows.is_dir():
        raise error("E0503", f"`{rows}` is a folder", help=way_out)
    header = {"header": True} if dataset.source != "csv" else arguments_of(dataset)
    return read_csv({**header, "path": str(rows.absolute())}, base)


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


def _label(lowered: LoweredModel, dataset: Dataset, result: Array) -> str | None:
    """Return the label field that a model's scores are for, if it is a classifier."""
    if result.ndim > 2 or (result.ndim == 2 and lowered.label_field is None):
        raise error(
            "E0743",
            f"`{lowered.name}` gives {lowered.result}, which is no column of predictions",
            help=f'apply it from Python: run.models["{lowered.name}"](...)',
        )
    if result.ndim == 2:
        return lowered.label_field
    labels = [f for f in dataset.fields if isinstance(f.type.element, Label)]
    binary = [f.name for f in labels if str(f.type.element) == "label[2]"]
    return binary[0] if len(labels) == len(binary) == 1 else None


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
    else:
        shown = names or range(result.shape[1])
        scores = {f"score_{name}": result[:, k] for k, name in enumerate(shown)}
        chosen = result.argmax(1)
    return {"prediction": np.asarray(names)[chosen] if names else chosen, **scores}
