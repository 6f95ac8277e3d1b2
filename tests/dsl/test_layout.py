"""Newlines: which end a statement, and which count for nothing."""

import pytest

from fml.dsl.parse import parse
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source

from .shown import shown


def read(text: str) -> str:
    return shown(parse(Source("test.fml", text)))


SUM = "(File [(Constant 'x' (+ a b))])"
PIPE = "(File [(Constant 'x' (|> a b))])"
CHOICE = "(File [(Constant 'x' (If a b c))])"
TWO = "(File [(Constant 'x' 1) (Constant 'y' 2)])"
CALL = "(File [(Constant 'x' (Call f [a b]))])"
OPEN = "(File [(Option 'a' 1 (Interval 0 '{}' None)) (Constant 'y' 2)])"
PLAN = "(File [(Train '' [(Seed 1) (Bind 'a' 2)])])"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        # A newline or `;` ends a statement; several are one.
        ("x = 1\ny = 2", TWO),
        ("x = 1; y = 2", TWO),
        ("\n;\nx = 1;;\n\n;y = 2;\n;", TWO),
        ("x = 1 # one\n# between\ny = 2 # two", TWO),
        ("x = 1\r\ny = 2\r\n", TWO),
        ("   x = 1\n\t\ty = 2", TWO),
        # Not behind a token that cannot end a statement.
        ("x =\na + b", SUM),
        ("x = a +\nb", SUM),
        ("x = a + # comment\n\n  # another\nb", SUM),
        ("x\n= a + b", None),
        ("x = a |>\nb", PIPE),
        ("x = if a then\nb else\nc", CHOICE),
        ("x = if\na then b else c", CHOICE),
        # Behind `in`, a range may have no end, and does not go on.
        ("x = 1 ..\n2", "(File [(Constant 'x' (.. 1 2))])"),
        ("option a = 1 in 0 ..\ny = 2", OPEN.format("..")),
        ("option a = 1 in 0 .. # comment\ny = 2", OPEN.format("..")),
        ("option a = 1 in 0 <..\ny = 2", OPEN.format("<..")),
        ("option a = 1 in 0 ..<\n2", "(File [(Option 'a' 1 (Interval 0 '..<' 2))])"),
        (
            "option a = 1 in\n0 .. 2\nx = 1 ..\n2",
            "(File [(Option 'a' 1 (.. 0 2)) (Constant 'x' (.. 1 2))])",
        ),
        # Not inside ( ) and [ ].
        ("x = f(\na\n,\nb\n)", CALL),
        ("x = f(a, # comment\n  b)", CALL),
        ("x = (a\n+ b)", SUM),
        ("x = [\n1\n]", "(File [(Constant 'x' (ListOf [1]))])"),
        ("x = y[\n0\n]", "(File [(Constant 'x' (Index y [0]))])"),
        # Not before a line that begins with `|>`, `then` or `else`, comments in between or not.
        ("x = a\n|> b", PIPE),
        ("x = a # |> c\n\n  # |> d\n  |> b", PIPE),
        ("x = if a\nthen b\nelse c", CHOICE),
        ("x = if a # then\n# else\n then b\n\n else c", CHOICE),
        ("x = a\r\n  |> b\r\n", PIPE),
        # But before a line that begins with a name that begins so.
        ("x = 1\nthenx = 2", "(File [(Constant 'x' 1) (Constant 'thenx' 2)])"),
        ("x = 1\nelse_ = 2", "(File [(Constant 'x' 1) (Constant 'else_' 2)])"),
        ("x = 1\nelseŷ = 2", "(File [(Constant 'x' 1) (Constant 'elseŷ' 2)])"),
        # And before other operators.
        ("x = a\n+ b", None),
        ("x = a\n, b", None),
        # Blocks on one line or several, brackets of several kinds inside each other.
        ("train { seed 1; a = 2 }", PLAN),
        ("train { seed 1\na = 2 }", PLAN),
        ("train {\n\n  seed 1 ;\n  a = 2;\n}", PLAN),
        ("train\n{\nseed 1\na = 2\n}\n", PLAN),
        ("train {; seed 1; a = 2;}", PLAN),
        # A separator is needed.
        ("train { seed 1 a = 2 }", None),
        ("x = 1 y = 2", None),
        ("train { } train { }", None),
        # `;` stands in no bracket.
        ("x = f(a; b)", None),
        ("x = [1; 2]", None),
    ],
)
def test_newlines(text: str, tree: str | None) -> None:
    if tree is None:
        with pytest.raises(FmlError):
            read(text)
    else:
        assert read(text) == tree


@pytest.mark.parametrize("token", ["; 2", "2", "}", "= 2", "]", "~"])
def test_the_unexpected_inside_a_bracket_is_reported_at_the_bracket(token: str) -> None:
    with pytest.raises(FmlError) as caught:
        read(f"y = 1\nx = f(\n  1 {token})")
    first = caught.value.diagnostics[0]
    assert first.code == "E0103"
    assert [m.span.place for m in first.marks] == ["test.fml:2:6", "test.fml:3:5"]


def test_a_bracket_that_stays_open_is_reported_where_it_was_opened() -> None:
    with pytest.raises(FmlError) as caught:
        read("x = f(a, [1, 2\n\n\n")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span and found.span.place) == ("E0103", "test.fml:1:10")
