"""Looking through syntax without following it."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import cast

from fml.dsl import ast

_PLACES = {"span", "name_span", "doc", "text"}


def walk(node: object) -> Iterator[object]:
    """All syntax from a node down, in text order."""
    if isinstance(node, tuple):
        for part in cast("tuple[object, ...]", node):
            yield from walk(part)
    elif is_dataclass(node):
        yield node
        for name in _parts(type(node)):
            yield from walk(getattr(node, name))


@cache
def _parts(kind: type[object]) -> tuple[str, ...]:
    assert is_dataclass(kind)
    return tuple(field.name for field in fields(kind) if field.name not in _PLACES)


def names_in(node: object) -> set[str]:
    """All names that stand in it."""
    return {n.name for n in walk(node) if isinstance(n, ast.Name)}


def assigns(body: object, name: str) -> bool:
    """Whether a statement of a body assigns to a name."""
    assigned = (node for node in walk(body) if isinstance(node, ast.Assign))
    return any(isinstance(a.place, ast.Name) and a.place.name == name for a in assigned)
