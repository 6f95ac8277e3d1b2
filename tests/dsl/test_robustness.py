"""No input whatever crashes the parser: there is a tree, or there are diagnostics."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.dsl import ast
from fml.dsl.parse import parse, parse_expression
from fml.dsl.report import render, render_github, render_json
from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.source import Source

HERE = Path(__file__).parent
TEXTS = [p.read_text(encoding="utf-8") for p in sorted((HERE / "corpus").glob("*.fml"))]
TOKENS = (
    "option", "import", "from", "as", "in", "data", "split", "by", "fn", "layer", "model",
    "optimizer", "strategy", "train", "param", "state", "where", "feed", "minimize", "over",
    "using", "descend", "along", "measure", "on", "every", "at", "end", "stop", "after", "when",
    "stops", "falling", "rising", "for", "keep", "lowest", "highest", "log", "seed",
    "precision", "each", "use", "learners", "per", "device", "if", "then", "else", "and", "or",
    "not", "true", "false", "steps", "epoch", "x", "y", "net", "1", "0.5", "10%", '"s"', "f32",
    "label", "<-", "->", "|>", "..", "...", "=", ",", ":", "~", ".", "(", ")", "[", "]", "{",
    "}", "==", "<", "+", "-", "*", "/", "@", "^", "**", ";", "\n", "#", "##", '"', "%", "η",
    "ŷ",
)  # fmt: skip


def survives(text: str) -> None:
    """A tree, or diagnostics of syntax, each with a place inside the text, that can be shown."""
    for read in (parse, parse_expression):
        try:
            assert isinstance(read(Source("test.fml", text)), ast.Syntax)
        except FmlError as error:
            check(text, error.diagnostics)


def check(text: str, diagnostics: Sequence[Diagnostic]) -> None:
    assert diagnostics
    lines = text.split("\n")
    for found in diagnostics:
        assert found.code.startswith("E01")
        assert found.span
        assert 1 <= found.span.line <= len(lines)
        assert 1 <= found.span.column <= len(lines[found.span.line - 1]) + 1
    for show in (render, render_json, render_github):
        assert show(diagnostics)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=60))
def test_random_text(text: str) -> None:
    survives(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=40))
def test_random_tokens(tokens: list[str]) -> None:
    survives(" ".join(tokens))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_mutated_files(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(["", *TOKENS])) + text[end:]
    survives(text)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_files_cut_short(text: str, data: st.DataObject) -> None:
    survives(text[: data.draw(st.integers(0, len(text)))])


@pytest.mark.parametrize(
    "text",
    [
        "\x00", "x = \x1b[31m", "x = \ud800", '"\udfff"', "# \ud800", "\ufeff\ufeff", "x = 1\r",
        "\r", "x\t=\t1 \x0b 2", "x = 1\x85y = 2", "x = 1\u2028y = 2", "{" * 500, "(" * 10_000,
        "}" * 1000, "x = " + "9" * 10_000, "x = 1e" + "9" * 5000, "x = " + "a" * 100_000,
        '"' * 1001, "\\", "x = f(\n" * 300, "train {\n" * 300, "#" * 10_000, "\n" * 10_000,
        "x = 1 # " + "|>" * 1000, "a." * 5000, "a[" * 5000, "x = ١٢", "x = ①", "x = a\u0301\u0301",
        "x = ½", "\u0301 = 1", "x = 𝑥", "x = \u202e1", "if " * 5000, "x = 1 .. 2 .. 3", "ｉｆ = 1",
        "x = ]\n" + "#" * 5000 + "\n|> y", "x = ]\n" + "# \n" * 5000, "train { ]" + "\n" * 20_000,
        "f(" + "\n" * 20_000 + "]" + "\n" * 20_000, "x = ]\n\t \t" * 500, "a.b" * 5000,
    ],
)  # fmt: skip
def test_strange_texts(text: str) -> None:
    survives(text)
