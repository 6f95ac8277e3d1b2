"""`given`: arrays handed over from Python, as they are or split by split."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean, error
from fml.engine.ir.training import Dataset, Field
from fml.engine.ir.types import Label
from fml.engine.ops.record import Array
from fml.engine.sources.table import Table


def table_of(dataset: Dataset, given: object) -> Table:
    """Return the arrays of a data set as a table, one column a field.

    Raises:
        FmlError: E0505, wrong names, lengths, shapes or types, naming the field.
    """
    if not isinstance(given, Mapping) or not given:
        names = ", ".join(f'"{f.name}": ...' for f in dataset.fields)
        raise error(
            "E0505",
            f"`{dataset.name}` takes its arrays from Python",
            help=f'train(data={{"{dataset.name}": {{{names}}}}})',
        )
    arrays = cast("Mapping[str, object]", given)
    if all(isinstance(value, Mapping) for value in arrays.values()):
        return _of_splits(dataset, cast("Mapping[str, Mapping[str, object]]", arrays))
    fields = _fields(dataset, arrays, "")
    return Table(fields, f"`{dataset.name}`")


def _of_splits(dataset: Dataset, given: Mapping[str, Mapping[str, object]]) -> Table:
    parts = {split: _fields(dataset, arrays, f" of `{split}`") for split, arrays in given.items()}
    columns = {f.name: np.concatenate([p[f.name] for p in parts.values()]) for f in dataset.fields}
    rows: dict[str, Array] = {}
    start = 0
    for split, arrays in parts.items():
        count = len(next(iter(arrays.values())))
        rows[split] = np.arange(start, start + count)
        start += count
    return Table(columns, f"`{dataset.name}`", splits=rows)


def _fields(dataset: Dataset, given: Mapping[str, object], where: str) -> dict[str, Array]:
    wanted = {field.name: field for field in dataset.fields}
    for name in given:
        if name not in wanted:
            raise error(
                "E0505",
                f"`{dataset.name}` has no field `{name}`",
                notes=[f"its fields are {', '.join(wanted)}"],
                help=did_you_mean(name, wanted),
            )
    for name in wanted:
        if name not in given:
            raise error("E0505", f"`{dataset.name}` needs an array for its field `{name}`{where}")
    arrays = {name: _array(dataset, wanted[name], given[name], where) for name in wanted}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in lengths.items())
        raise error(
            "E0505", f"the fields of `{dataset.name}`{where} differ in length", notes=[listed]
        )
    return arrays


def _array(dataset: Dataset, field: Field, value: object, where: str) -> Array:
    array = np.asarray(value)
    sizes = field.type.sizes
    problem = ""
    if array.dtype.kind not in "biuf":
        problem = f"it holds {array.dtype}"
    elif array.ndim != len(sizes) + 1 or array.shape[1:] != sizes:
        wanted = ", ".join(["samples", *map(str, sizes)])
        problem = f"its shape is {list(array.shape)} instead of [{wanted}]"
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        problem = "it holds NaN or infinities"
    elif isinstance(field.type.element, Label):
        problem = label_problem(array, field)
    if problem:
        marks = (Mark(field.span, "declared here"),) if field.span else ()
        what = f"`{field.name}` of `{dataset.name}`{where}"
        message = f"{what} does not fit {field.type}: {problem}"
        raise FmlError([Diagnostic("E0505", message, marks)])
    return array


def label_problem(array: Array, field: Field) -> str:
    """Say what keeps numbers from being class numbers; nothing if they are."""
    numbers = array.astype(np.float64)
    classes = int(str(field.type.element.classes)) if isinstance(field.type.element, Label) else 0
    if array.size and (numbers != np.floor(numbers)).any():
        return "classes are whole numbers"
    if array.size and (numbers.min() < 0 or numbers.max() >= classes):
        return f"classes are 0 to {classes - 1}, found {numbers.min():g} to {numbers.max():g}"
    return ""
