"""Texts parsed, and the codes of their faults."""

import pytest

from fml.dsl import ast
from fml.dsl.parse import parse, parse_expression
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source


def expression(text: str) -> ast.Expression:
    return parse_expression(Source("<text>", text))


def file(text: str) -> ast.File:
    return parse(Source("test.fml", text))


def codes(text: str) -> list[str]:
    with pytest.raises(FmlError) as caught:
        file(text)
    return [d.code for d in caught.value.diagnostics]
