"""What all syntax has in common: a place, and equality that does not look at it."""

from dataclasses import dataclass, field, fields
from functools import cache
from typing import TypeVar, dataclass_transform

from fml.engine.ir.source import Span

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def syntax(made: type[_T]) -> type[_T]:
    """Make a kind of syntax: a frozen dataclass that is compared and shown as `Syntax` says.

    To write these methods anew for each of sixty classes took a thirtieth of `fml check`.
    """
    return dataclass(frozen=True, slots=True, eq=False, repr=False)(made)


@syntax
class Syntax:
    """Anything that was written; two trees are equal if their words are, wherever they stand."""

    span: Span = field(compare=False, repr=False, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _words(type(self)))

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in _words(type(self)))))

    def __repr__(self) -> str:
        shown = (f.name for f in fields(self) if f.repr)
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"


@cache
def _words(kind: type[Syntax]) -> tuple[str, ...]:
    """The fields of a kind of syntax that count where two are compared."""
    return tuple(f.name for f in fields(kind) if f.compare)
