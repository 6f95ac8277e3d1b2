"""`given`: arrays handed over from Python, as they are or split by split."""

from collections.abc import Mapping

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.foreign import as_mapping, in_words
from fml.engine.ir.source import Span
from fml.engine.ir.training import Dataset, Field
from fml.engine.ir.types import Element
from fml.engine.ops.record import Array
from fml.engine.sources.labels import class_count, problem_of
from fml.engine.sources.table import Table, one_behind_the_other


def table_of(dataset: Dataset, given: object) -> Table:
    """Return the arrays of a data set as a table, one column a field.

    `given` is `{"x": X, "y": y}`, or such a mapping for each split. Arrays are [samples, ...] of
    the fields' shapes, or what numpy makes into such; labels are whole numbers or text.

    Raises:
        FmlError: E0505, wrong names, lengths, shapes or types, naming the field.
    """
    arrays = as_mapping(given)
    if not arrays:
        names = ", ".join(f'"{f.name}": ...' for f in dataset.fields)
        found = (
            "there are none" if given is None or arrays is not None else f"found {in_words(given)}"
        )
        raise _fault(
            dataset.span, f"`{dataset.name}` takes its arrays from Python, and {found}",
            help=f'data={{"{dataset.name}": {{{names}}}}}',
        )  # fmt: skip
    origin = f"`{dataset.name}`"
    nested = splits_of(dataset, arrays)
    if not nested:
        return Table(_fields(dataset, arrays, ""), origin)
    for name in arrays:
        if name not in nested:
            raise _mixed(dataset, str(name), [*nested])
    if dataset.split is not None and dataset.split.of is None:
        raise _fault(
            dataset.span, f"`{dataset.name}` is split twice: by its declaration and from Python",
            help="leave out the `split`, or hand over all samples together",
        )  # fmt: skip
    splits = {name: _fields(dataset, part, f" of `{name}`") for name, part in nested.items()}
    _require_labels_of_one_kind(dataset, splits)
    columns = {f.name: np.concatenate([p[f.name] for p in splits.values()]) for f in dataset.fields}
    counts = {name: len(next(iter(part.values()))) for name, part in splits.items()}
    return Table(columns, origin, splits=one_behind_the_other(counts))


def _require_labels_of_one_kind(
    dataset: Dataset, splits: Mapping[str, Mapping[str, Array]]
) -> None:
    for field in dataset.fields:
        words = [name for name, part in splits.items() if part[field.name].dtype.kind == "O"]
        numbers = [name for name in splits if name not in words]
        if words and numbers:
            raise _fault(
                field.span,
                f"`{field.name}` of `{dataset.name}` is text in `{words[0]}` and numbers in "
                f"`{numbers[0]}`",
                help="hand over the same kind in every split",
            )


def splits_of(dataset: Dataset, arrays: Mapping[str, object]) -> Mapping[str, Mapping[str, object]]:
    """Return the splits among what is handed over, each a mapping of fields."""
    fields = {field.name for field in dataset.fields}
    found: dict[str, Mapping[str, object]] = {}
    for name, value in arrays.items():
        part = as_mapping(value)
        # A data frame may also be the array of one field.
        if part is not None and (name not in fields or isinstance(value, Mapping)):
            found[name] = part
    return found


def _mixed(dataset: Dataset, name: str, nested: list[str]) -> FmlError:
    """Say that fields stand beside splits."""
    fields = [field.name for field in dataset.fields]
    listed = ", ".join(f"`{split}`" for split in nested)
    all_fields = ", ".join(f'"{field}": ...' for field in fields)
    if name in fields:
        return _fault(
            dataset.span,
            f"the field `{name}` of `{dataset.name}` stands beside the splits {listed}",
            help=f'a split has all its fields: {{"{nested[0]}": {{"{name}": ...}}}}',
        )  # fmt: skip
    return _fault(
        dataset.span, f"the split `{name}` of `{dataset.name}` is no dict of its fields",
        help=f'{{"{name}": {{{all_fields}}}}}',
    )  # fmt: skip


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
    problem, way_out = _problem(field, array, value)
    if problem:
        message = f"`{field.name}` of `{dataset.name}`{where} is not {field.type}: {problem}"
        raise _fault(field.span, message, help=way_out)
    return array


def _problem(field: Field, array: Array, value: object) -> tuple[str, str]:
    """What keeps an array from being samples of a field, and the way out."""
    sizes, is_label = field.type.sizes, class_count(field) is not None
    if array.dtype.kind == "O" and not (is_label and array.ndim and _is_all_text(array)):
        return _object_problem(field, array, value)
    if array.dtype.kind not in "biufO":
        return f"it holds {array.dtype}", "hand over numbers in an array"
    if array.ndim != len(sizes) + 1 or array.shape[1:] != sizes:
        wanted = ", ".join(["samples", *map(str, sizes)])
        return (
            f"its shape is {list(array.shape)} instead of [{wanted}]",
            _reshaped(field, array) or "samples are the first axis",
        )
    if not len(array):
        return "it has no samples", "hand over at least one"
    return _label_problem(field, array) if is_label else _number_problem(field, array)


def _object_problem(field: Field, array: Array, value: object) -> tuple[str, str]:
    """What to say of what numpy has no element type for."""
    name = field.name
    if array.ndim == 0:
        if isinstance(value, list | tuple):
            return "its rows differ in length", "hand over rows of one length"
        if hasattr(value, "toarray"):
            return f"it is {in_words(value)}", f"`{name}.toarray()`"
        is_lazy = hasattr(value, "__next__")
        return (
            f"it is {in_words(value)}",
            f"`list({name})`" if is_lazy else "hand over numbers in an array",
        )
    if _is_all_text(array):
        return "it holds text", f"`{name}.astype(float)`, if it is numbers written as text"
    return "it holds objects of several kinds", f"`{name}.astype(float)`, if they are numbers"


def _reshaped(field: Field, array: Array) -> str:
    """How an array of another shape becomes samples of a field, where that is plain."""
    name, sizes = field.name, field.type.sizes
    if class_count(field) is not None and array.ndim == 2 and array.shape[1] == class_count(field):
        return f"classes are numbers: `{name}.argmax(1)`, if they are one-hot"
    if not sizes and array.ndim == 2 and array.shape[1] == 1:
        return f"`{name}[:, 0]`"
    if sizes == (1,) and array.ndim == 1:
        return f"`{name}[:, None]`"
    if sizes == array.shape:
        return f"one sample is a batch of one: `{name}[None]`"
    if array.ndim == len(sizes) + 1 == 2 and array.shape[0] == sizes[0]:
        return f"samples are the first axis: `{name}.T`"
    return ""


def _label_problem(field: Field, array: Array) -> tuple[str, str]:
    if array.dtype.kind == "O":
        return "", ""
    problem = problem_of(field, array)
    if array.dtype.kind == "f" and not problem:
        return f"its classes are {array.dtype}", f"`{field.name}.astype(int)`, as they are whole"
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array != np.floor(array)).any():
        return problem, f"a number that is predicted is declared `{field.name}: f32`"
    if not np.isfinite(array).all():
        return "it holds NaN or infinities", "leave those samples out"
    return problem, "classes count from 0"


def _number_problem(field: Field, array: Array) -> tuple[str, str]:
    """What a conversion to the field's element would lose, and the way out."""
    name, element = field.name, field.type.element
    if element is Element.BOOL:
        fits = array.dtype.kind == "b"
        return ("", "") if fits else (f"it holds {array.dtype}", f"`{name} != 0`")
    finite = np.isfinite(array)
    if not finite.all():
        odd, bad = int((~finite).sum()), np.argwhere(~finite)[0]
        entries = "1 entry is" if odd == 1 else f"{odd} entries are"
        return (
            f"{entries} NaN or infinite, the first of them at [{', '.join(map(str, bad))}]",
            "leave those samples out, or fill the entries in",
        )
    if field.type.is_float:
        with np.errstate(over="ignore"):
            fits = np.isfinite(array.astype(field.type.dtype)).all()
        too_large = f"its numbers are too large for {element}"
        return ("", "") if fits else (too_large, "scale them down, or declare f64")
    if array.dtype.kind == "f":
        return f"it holds {array.dtype}", f"`{name}.astype(int)`, if they are whole, or declare f32"
    limits = np.iinfo(str(field.type.dtype))
    low, high = int(array.min()), int(array.max())
    fits = limits.min <= low and high <= limits.max
    if fits:
        return "", ""
    return (
        f"{element} is {limits.min} to {limits.max}, found {low} to {high}",
        "declare an element type that holds them",
    )


def _is_all_text(array: Array) -> bool:
    return array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array.flat)


def _fault(span: Span | None, message: str, *notes: str, help: str = "") -> FmlError:
    marks = (Mark(span, "declared here"),) if span else ()
    return FmlError([Diagnostic("E0505", message, marks, notes, help)])
