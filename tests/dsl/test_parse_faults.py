"""Texts that are no program, or hardly: how deep they may nest, and how many faults are told."""

import pytest

from fml.engine.ir.diagnostics import FmlError
from tests.dsl.texts import codes, expression, file


def test_long_pipes_are_no_deep_nesting() -> None:
    text = "model m(x) = x" + " |> relu" * 200
    assert len(file(text).declarations) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("(" * 100 + "1" + ")" * 100, None),
        ("(" * 101 + "1" + ")" * 101, "E0107"),
        ("(" * 5000, "E0107"),
        ("-" * 5000 + "1", "E0107"),
        ("not " * 5000 + "1", "E0107"),
        ("1" + "+1" * 5000, "E0107"),
        ("1" + "^1" * 5000, "E0107"),
        ("x" + "[0]" * 5000, "E0107"),
        ("if a then b else " * 5000 + "1", "E0107"),
    ],
)
def test_nesting_is_limited(text: str, code: str | None) -> None:
    if code is None:
        assert expression(text)
    else:
        assert codes(f"x = {text}") == [code]


def test_every_fault_of_a_file_is_reported() -> None:
    text = (
        "x = 1 2\ny = ]\ntrain {\n  feed x y\n  a = 1\n  every 3 { b = ; c = 2 }\n  seed\n}\n"
        "fn f(x = 1\nmodel m(x) = x\nz = a < b < c\n"
    )
    with pytest.raises(FmlError) as caught:
        file(text)
    found = [(d.code, d.span.line) for d in caught.value.diagnostics if d.span]
    assert found == [
        ("E0102", 1), ("E0102", 2), ("E0102", 4), ("E0102", 6), ("E0102", 8), ("E0103", 9),
        ("E0105", 11),
    ]  # fmt: skip


def test_too_many_faults_end_the_reading() -> None:
    assert len(codes("x = ]\n" * 1000)) == 50


@pytest.mark.parametrize("text", ["", "\n", "# only\n# this", "\ufeff", "  \t\r\n", ";;\n;"])
def test_nothing_is_a_file(text: str) -> None:
    assert file(text).declarations == ()


@pytest.mark.parametrize("text", ["", "1 2", "a = b", "1;2", "f(", '"', "# one", "\x00"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(FmlError):
        expression(text)
