"""`given`: arrays handed over from Python, as they are or split by split."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.source import Span
from fml.engine.ir.training import Dataset, Field
from fml.engine.ir.types import Element
from fml.engine.ops.record import Array
from fml.engine.sources.labels import class_count, problem_of
from fml.engine.sources.table import Table


def table_of(dataset: Dataset, given: object) -> Table:
    """Return the arrays of a data set as a table, one column a field.

    `given` is `{"x": X, "y": y}`, or such a mapping for each split. Arrays are [samples, ...] of
    the fields' shapes; labels are whole numbers or text.

    Raises:
        FmlError: E0505, wrong names, lengths, shapes or types, naming the field.
    """
    if not isinstance(given, Mapping) or not given:
        names = ", ".join(f'"{f.name}": ...' for f in dataset.fields)
        raise _fault(
            dataset.span, f"`{dataset.name}` takes its arrays from Python, and there are none",
            help=f'train(data={{"{dataset.name}": {{{names}}}}})',
        )  # fmt: skip
    arrays = cast("Mapping[str, object]", given)
    origin = f"`{dataset.name}`"
    if not all(isinstance(value, Mapping) for value in arrays.values()):
        return Table(_fields(dataset, arrays, ""), origin)
    if dataset.split is not None and dataset.split.of is None:
        raise _fault(
            dataset.span, f"`{dataset.name}` is split twice: by its declaration and from Python",
            help="leave out the `split`, or hand over all samples together",
        )  # fmt: skip
    splits = cast("Mapping[str, Mapping[str, object]]", arrays)
    parts = {name: _fields(dataset, part, f" of `{name}`") for name, part in splits.items()}
    columns = {f.name: np.concatenate([p[f.name] for p in parts.values()]) for f in dataset.fields}
    counts = [len(next(iter(part.values()))) for part in parts.values()]
    rows = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    return Table(columns, origin, splits=dict(zip(parts, rows, strict=True)))


def _fields(dataset: Dataset, given: Mapping[str, object], where: str) -> dict[str, Array]:
    wanted = {field.name: field for field in dataset.fields}
    for name in given:
        if name not in wanted:
            raise _fault(
                dataset.span, f"`{dataset.name}` has no field `{name}`",
                f"its fields are {', '.join(wanted)}", help=did_you_mean(str(name), wanted),
            )  # fmt: skip
    for field in dataset.fields:
        if field.name not in given:
            raise _fault(
                field.span, f"`{dataset.name}` needs an array for its field `{field.name}`{where}"
            )
    arrays = {name: _array(dataset, wanted[name], given[name], where) for name in wanted}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in lengths.items())
        raise _fault(
            dataset.span, f"the fields of `{dataset.name}`{where} differ in length: {listed}"
        )
    return arrays


def _array(dataset: Dataset, field: Field, value: object, where: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind == "U" or _is_all_text(array):
        array = array.astype(object)
    problem, way_out = _problem(field, array)
    if problem:
        message = f"`{field.name}` of `{dataset.name}`{where} is not {field.type}: {problem}"
        raise _fault(field.span, message, help=way_out)
    return array


def _problem(field: Field, array: Array) -> tuple[str, str]:
    """What keeps an array from being samples of a field, and the way out."""
    sizes = field.type.sizes
    kind, is_label = array.dtype.kind, class_count(field) is not None
    if kind not in "biuf" and not (is_label and kind == "O" and _is_all_text(array)):
        return (
            f"it holds {'objects' if kind == 'O' else array.dtype}",
            "hand over numbers in an array",
        )
    if array.ndim != len(sizes) + 1 or array.shape[1:] != sizes:
        wanted = ", ".join(["samples", *map(str, sizes)])
        return (
            f"its shape is {list(array.shape)} instead of [{wanted}]",
            "samples are the first axis",
        )
    if not len(array):
        return "it has no samples", ""
    if is_label:
        if kind == "f":
            return (
                f"its classes are {array.dtype}",
                f"`{field.name}.astype(int)`, if they are whole",
            )
        return ("" if kind == "O" else problem_of(field, array)), "classes count from 0"
    return _number_problem(field, array), ""


def _number_problem(field: Field, array: Array) -> str:
    """What a conversion to the field's element would lose."""
    element = field.type.element
    if element is Element.BOOL:
        return "" if array.dtype.kind == "b" else f"it holds {array.dtype}"
    if not np.isfinite(array).all():
        return "it holds NaN or infinities"
    if field.type.is_float:
        with np.errstate(over="ignore"):
            fits = np.isfinite(array.astype(field.type.dtype)).all()
        return "" if fits else f"its numbers are too large for {element}"
    if array.dtype.kind == "f":
        return f"it holds {array.dtype}"
    limits = np.iinfo(str(field.type.dtype))
    low, high = int(array.min()), int(array.max())
    fits = limits.min <= low and high <= limits.max
    return "" if fits else f"{element} is {limits.min} to {limits.max}, found {low} to {high}"


def _is_all_text(array: Array) -> bool:
    return array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array.flat)


def _fault(span: Span | None, message: str, *notes: str, help: str = "") -> FmlError:
    marks = (Mark(span, "declared here"),) if span else ()
    return FmlError([Diagnostic("E0505", message, marks, notes, help)])
