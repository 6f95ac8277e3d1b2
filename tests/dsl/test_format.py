"""Syntax tree -> text: what is printed parses to what was printed, and reads well."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from fml.dsl import ast, std
from fml.dsl.format import WIDTH, format_expression, format_file
from fml.dsl.parse import parse, parse_expression
from fml.engine.ir.source import Source

from . import trees

HERE = Path(__file__).parent
FILES = [
    *sorted((HERE / "../../examples").resolve().glob("*.fml")),
    *sorted((HERE / "corpus").glob("*.fml")),
    *sorted(Path(std.__file__).parent.glob("*.fml")),
]


def read(text: str) -> ast.File:
    return parse(Source("test.fml", text))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_files_survive(path: Path) -> None:
    file = read(path.read_text(encoding="utf-8"))
    text = format_file(file)
    assert read(text) == file
    assert docs(read(text)) == docs(file)
    assert format_file(read(text)) == text


def docs(file: ast.File) -> list[str]:
    return [d.doc for d in file.declarations if not isinstance(d, ast.Import | ast.ImportFrom)]


@settings(max_examples=300, deadline=None)
@given(trees.expressions)
def test_random_expressions_survive(e: ast.Expression) -> None:
    assert parse_expression(Source("test.fml", format_expression(e))) == e


@settings(max_examples=200, deadline=None)
@given(trees.files)
def test_random_files_survive(file: ast.File) -> None:
    text = format_file(file)
    assert read(text) == file
    assert format_file(read(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "a + b * c", "(a + b) * c", "a - (b - c)", "a - b - c", "-a^2", "(-a)^2", "2^-a^2",
        "(2^a)^b", "not a == b", "(not a) == b", "a |> f(b) |> g", "a |> (b |> c)",
        "(if a then b else c) + 1", "if a then b else if c then d else e", "(a .. b)[0]",
        "tau steps", "1 step", "(a + b) epochs", "(a |> f).x", "a[1:, :2, ..., *]", "[a, b]",
        "f(x, y = a |> b)", "a and (b or c)", "1 - -1", "(a < b) == c", "net.**.W",
    ],
)  # fmt: skip
def test_parentheses_are_the_fewest(text: str) -> None:
    assert format_expression(parse_expression(Source("test.fml", text))) == text


def test_redundant_parentheses_go() -> None:
    e = parse_expression(Source("test.fml", "((a) + (b * (c))) |> (f(x))"))
    assert format_expression(e) == "a + b * c |> f(x)"


def test_layout_is_fixed() -> None:
    text = (
        "import 'b.fml' as b\n\noption a=1## one\n## long\noption c = 2\ntrain t{a=1;every 1 step{"
        "seed   1}}\nfn f(x)=x\nlayer g(n)(x){y=x;y}\n"
    ).replace("'", '"')
    assert format_file(read(text)) == (
        'import "b.fml" as b\noption a = 1  ## one\noption c = 2  ## long\n\n'
        "train t {\n  a = 1\n  every 1 step {\n    seed 1\n  }\n}\n\nfn f(x) = x\n\n"
        "layer g(n)(x) {\n  y = x\n  y\n}\n"
    )


def test_long_pipes_have_a_line_for_each_stage() -> None:
    stages = [f"convolution_{n}(64, 3)" for n in range(6)]
    text = format_file(read("model m(x) = x |> " + " |> ".join(stages)))
    assert text == "model m(x) =\n  x\n" + "".join(f"    |> {s}\n" for s in stages)


def test_long_choices_have_a_line_for_each_branch() -> None:
    long = "a_rather_long_name_for_a_thing"
    text = format_file(read(f"x = if {long} then {long} else if {long} then {long} else {long}"))
    assert text == (f"x = if {long} then {long}\n  else if {long} then {long}\n  else {long}\n")


def test_lines_are_broken_at_the_width() -> None:
    for length in range(60, 80):
        text = format_file(read(f"train {{ {'n' * length} = abcdefgh |> ijklmno |> pq }}"))
        line = f"  {'n' * length} = abcdefgh |> ijklmno |> pq"
        assert (line in text) == (len(line) <= WIDTH)


def test_documentation_is_printed() -> None:
    text = "## two\n##\n## lines\nfn f() = 1\n"
    assert format_file(read(text)) == text
