"""Source -> syntax tree, or diagnostics: the first stage, which no input can crash."""

from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree

from fml import grammar
from fml.dsl import ast
from fml.dsl.explain import surrogate
from fml.dsl.reader import Reader
from fml.dsl.tables import load_parser
from fml.dsl.tree import ToSyntax
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark
from fml.engine.ir.source import Source, Span

MAX_DEPTH = 400


def parse(source: Source) -> ast.File:
    """Return a file's syntax tree.

    Raises:
        FmlError: what is not fml, every fault of the text in order (E01xx).
    """
    return _parse(source, "start")


def parse_expression(source: Source) -> ast.Expression:
    """Return one expression, as behind `name=` on a command line.

    Raises:
        FmlError: it is no expression (E01xx).
    """
    return _parse(source, "expression")


def _parse(source: Source, start: str) -> Any:
    half = _first_surrogate(source.text)
    if half is not None:
        raise FmlError([surrogate(source, half)])
    reader = Reader(_parser(), source, start)
    tree = reader.read()
    found = reader.found
    if tree is None:
        raise FmlError(found)
    deep = _too_deep(tree)
    if deep is not None:
        raise FmlError([*found, _beyond_reading(source, deep)])
    make = ToSyntax(source)
    made = make.build(tree)
    # Where statements are missing, a body without its value is no fault of its own.
    found += [d for d in make.found if not found or d.code != "E0104"]
    if found:
        raise FmlError(found)
    return made


@cache
def _parser() -> Lark:
    return load_parser(Path(grammar.__file__).parent)


def _first_surrogate(text: str) -> int | None:
    """Where half of a character stands, which no encoding can write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def _too_deep(tree: Tree[Token]) -> Tree[Token] | None:
    """Return a part of a tree below which there are more levels than the stages can walk."""
    depths: dict[int, int] = {}
    for part in tree.iter_subtrees():
        below = (depths[id(c)] for c in part.children if isinstance(c, Tree))
        depths[id(part)] = 1 + max(below, default=0)
        if depths[id(part)] > MAX_DEPTH:
            return part
    return None


def _beyond_reading(source: Source, part: Tree[Token]) -> Diagnostic:
    meta = part.meta
    span = Span(source, meta.line, meta.column, meta.line, meta.column + 1)
    return Diagnostic(
        "E0107", "this expression has too many parts inside each other", (Mark(span),), (),
        "bind a part of it to a name",
    )  # fmt: skip
