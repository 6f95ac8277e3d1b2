"""What Python hands over, in words: for diagnostics about values that are not of their kind."""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from fml.engine.ir.diagnostics import FmlError, error

_LONGEST = 40


def in_words(value: object) -> str:
    """Say what a value of Python is: `None`, `a list`, `an array [4, 2] of float64`."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        sizes = ", ".join(map(str, cast("tuple[object, ...]", shape)))
        return f"an array [{sizes}] of {dtype}"
    match value:
        case None | bool():
            return str(value)
        case int() | float():
            return _short(f"the number {value}")
        case str():
            return _short(f'the text "{value}"')
        case _:
            name = type(value).__name__
            return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def not_of_kind(name: str, wanted: str, value: object, help: str) -> FmlError:
    """Return E0744: an argument from Python is no value of its kind."""
    return error("E0744", f"`{name}` must be {wanted}, found {in_words(value)}", help=help)


def as_mapping(value: object) -> Mapping[str, object] | None:
    """Return what has named parts as a mapping, a dict or a data frame; None for all else."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value)
    # A series has an element type, and keys that are no names of parts.
    keys: Callable[[], Iterable[str]] | None = getattr(value, "keys", None)
    if callable(keys) and hasattr(value, "__getitem__") and not hasattr(value, "dtype"):
        parts = cast("Mapping[str, object]", value)
        return {name: parts[name] for name in keys()}
    return None


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if line == text and len(text) <= _LONGEST else f"{line[:_LONGEST]}..."
