"""Class numbers: texts numbered in sorted order, and numbers that must be classes already."""

from collections.abc import Mapping

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.training import Field
from fml.engine.ir.types import Label
from fml.engine.ops.record import Array
from fml.engine.sources.table import Table, is_text

# Class texts by label field, in the order of their numbers; fields of numbers have none.
Classes = Mapping[str, tuple[str, ...]]


def class_count(field: Field) -> int | None:
    """K of a field `label[K]`, None for any other."""
    element = field.type.element
    if isinstance(element, Label):
        return element.classes.size
    return None


def texts_of(field: Field, column: Array, table: Table) -> tuple[str, ...]:
    """Return the distinct texts of a label column, sorted.

    Raises:
        FmlError: E0504, a cell is empty; E0508, there are not as many as declared.
    """
    for row, *_ in np.argwhere(column == "")[:1].tolist():
        raise _fault(field, "E0504", f"{table.place(row)} has no class for `{field.name}`",
                     help="fill the cell in, or leave the line out")  # fmt: skip
    return declared(field, tuple(sorted(set(column.reshape(-1).tolist()))), table)


def declared(field: Field, found: tuple[str, ...], table: Table) -> tuple[str, ...]:
    """Return classes that were found if they are as many as are declared.

    Raises:
        FmlError: E0508, they are not.
    """
    if len(found) != class_count(field):
        more = f" and {len(found) - 12} more" if len(found) > 12 else ""
        classes = "1 class was found" if len(found) == 1 else f"{len(found)} classes were found"
        raise _fault(
            field, "E0508", f"`{field.name}` is declared {field.type}, and {classes}",
            f"in {table.origin}: {', '.join(map(_shown, found[:12]))}{more}",
            help=f"declare `label[{len(found)}]`",
        )  # fmt: skip
    return found


def numbered(field: Field, column: Array, classes: Classes, table: Table) -> Array:
    """Return a label column as class numbers, i32.

    Raises:
        FmlError: E0508, an entry is none of the classes.
    """
    known = classes.get(field.name)
    if known is None:
        was = "it holds text, and its classes were numbers"
        problem = was if is_text(column) else problem_of(field, column)
        if problem:
            raise _fault(
                field, "E0508", f"`{field.name}` of {table.origin} is not {field.type}: {problem}",
                help="number the classes from 0, or call them by words",
            )  # fmt: skip
        return column.astype(np.int32)
    numbers = {text: number for number, text in enumerate(known)}
    flat = column.reshape(-1).tolist()
    texts = flat if is_text(column) else [f"{number:g}" for number in flat]
    for place, text in enumerate(texts):
        if text not in numbers:
            row = place * len(column) // len(flat)
            raise _fault(
                field, "E0508", f"{table.place(row)} has `{text}`, no class of `{field.name}`",
                f"the classes are {', '.join(known[:12])}", help=did_you_mean(text, known),
            )  # fmt: skip
    return np.asarray([numbers[text] for text in texts], np.int32).reshape(column.shape)


def problem_of(field: Field, column: Array) -> str:
    """Say what keeps numbers from being class numbers; nothing if they are."""
    classes = class_count(field) or 0
    values = column.astype(np.float64) if column.dtype.kind == "b" else column
    if not values.size:
        return ""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "a class is missing"
        if (values != np.floor(values)).any():
            return f"classes are whole numbers, found {values[values != np.floor(values)][0]:g}"
    if values.min() < 0 or values.max() >= classes:
        return f"classes are 0 to {classes - 1}, found {values.min():g} to {values.max():g}"
    return ""


def _shown(text: str) -> str:
    """A class as it can be read: spaces, line ends and commas are told apart from the list."""
    return text if text.isprintable() and any(map(str.isalnum, text)) else repr(text)


def _fault(field: Field, code: str, message: str, *notes: str, help: str = "") -> FmlError:
    marks = (Mark(field.span, str(field.type)),) if field.span else ()
    return FmlError([Diagnostic(code, message, marks, notes, help)])
