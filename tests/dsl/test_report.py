"""Diagnostics as people, programs and GitHub see them."""

import json
import re

import pytest

from fml.dsl.report import render, render_github, render_json
from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.source import Source, Span

SOFTMAX = Source("softmax.fml", "\n" * 17 + "  x @ W + b\nnext = 1\n\n\nlast = 2\n")


def mark(source: Source, line: int, column: int, length: int = 1, text: str = "") -> Mark:
    return Mark(Span(source, line, column, line, column + length), text)


def shown(*marks: Mark) -> str:
    return render([Diagnostic("E0301", "wrong", marks)])


@pytest.mark.parametrize("before", [0, 10, 500, 99_000])
def test_a_very_long_line_is_shown_around_its_mark(before: int) -> None:
    line = "x" * before + "?!" + "y" * (100_000 - before)
    excerpt, carets = shown(mark(Source("long.fml", line), 1, before + 1, 2)).splitlines()[2:4]
    assert len(excerpt) < 250
    at = carets.index("^^")
    assert carets.count("^") == 2
    assert excerpt[at : at + 2] == "?!"


def test_the_example_of_the_language() -> None:
    found = Diagnostic(
        "E0301",
        "inner axes differ in `x @ W`",
        (mark(SOFTMAX, 18, 3, 1, "f32[N, D=4]"), mark(SOFTMAX, 18, 7, 1, "f32[K=3, D=4]")),
        ("`x: f32[4]` gives D = 4 (line 10); `@` needs D = 4 first, found K = 3",),
        "declare `param W: f32[D, K]`",
    )
    assert render([found]) == (
        "error[E0301]: inner axes differ in `x @ W`\n"
        "  --> softmax.fml:18:3\n"
        "18 |   x @ W + b\n"
        "   |   ^   ^ f32[K=3, D=4]\n"
        "   |   f32[N, D=4]\n"
        "   = `x: f32[4]` gives D = 4 (line 10); `@` needs D = 4 first, found K = 3\n"
        "help: declare `param W: f32[D, K]`"
    )


def test_three_marks_of_a_line() -> None:
    assert shown(
        mark(SOFTMAX, 18, 11, 1, "three"), mark(SOFTMAX, 18, 3, 1, "one"),
        mark(SOFTMAX, 18, 7, 3, "two"),
    ).split("\n")[2:] == [
        "18 |   x @ W + b",
        "   |   ^   ^^^ ^ three",
        "   |   |   two",
        "   |   one",
    ]  # fmt: skip


def test_marks_inside_each_other() -> None:
    whole, part = mark(SOFTMAX, 18, 3, 9, "all"), mark(SOFTMAX, 18, 7, 1, "part")
    assert shown(whole, part).split("\n")[2:] == [
        "18 |   x @ W + b",
        "   |   ^^^^^^^^^ part",
        "   |   all",
    ]  # fmt: skip


def test_marks_of_several_lines() -> None:
    assert shown(mark(SOFTMAX, 22, 1, 4), mark(SOFTMAX, 18, 3), mark(SOFTMAX, 19, 8)) == (
        "error[E0301]: wrong\n"
        "  --> softmax.fml:22:1\n"
        "18 |   x @ W + b\n"
        "   |   ^\n"
        "19 | next = 1\n"
        "   |        ^\n"
        "...\n"
        "22 | last = 2\n"
        "   | ^^^^"
    )


def test_a_mark_across_lines_goes_to_the_end_of_the_first() -> None:
    across = Mark(Span(SOFTMAX, 18, 7, 19, 3), "from here")
    assert shown(across).split("\n")[2:] == ["18 |   x @ W + b", "   |       ^^^^^ from here"]


def test_marks_of_several_files() -> None:
    other = Source("other.fml", "y = 2")
    assert shown(mark(other, 1, 1, 1, "here"), mark(SOFTMAX, 18, 3, 1, "and there")) == (
        "error[E0301]: wrong\n"
        "  --> other.fml:1:1\n"
        " 1 | y = 2\n"
        "   | ^ here\n"
        "  --> softmax.fml:18:3\n"
        "18 |   x @ W + b\n"
        "   |   ^ and there"
    )


@pytest.mark.parametrize(
    ("line", "column", "length", "text", "carets"),
    [
        ("\tx = 1", 2, 1, "    x = 1", "    ^"),
        ("ab\tx\ty", 6, 1, "ab  x   y", "        ^"),
        ("日本 = x", 6, 1, "日本 = x", "       ^"),
        ("日本 = x", 1, 2, "日本 = x", "^^^^"),
        ("日\tx", 3, 1, "日  x", "    ^"),
        ("y\u0302 = x", 6, 1, "y\u0302 = x", "    ^"),
        ("x = 1", 6, 1, "x = 1", "     ^"),
        ("x = \x1b[31m1", 5, 1, "x = �[31m1", "    ^"),
        ("x = \ud800", 5, 1, "x = �", "    ^"),
        ("\u202ex", 2, 1, "�x", " ^"),
        ("x = 1\r", 5, 1, "x = 1", "    ^"),
        ("", 1, 1, "", "^"),
    ],
)
def test_carets_stand_below_what_they_mean(
    line: str, column: int, length: int, text: str, carets: str
) -> None:
    source = Source("a.fml", line)
    assert shown(mark(source, 1, column, length)).split("\n")[2:] == [
        f"1 | {text}",
        f"  | {carets}",
    ]


def test_without_a_place() -> None:
    found = Diagnostic("W0701", "no run", notes=("one\ntwo",), help="train first")
    assert render([found]) == "warning[W0701]: no run\n  = one\n    two\nhelp: train first"


def test_several_are_an_empty_line_apart() -> None:
    found = Diagnostic("E0701", "no run")
    assert render([found, found]) == "error[E0701]: no run\n\nerror[E0701]: no run"
    assert render([]) == ""


def test_colour_changes_nothing_but_colour() -> None:
    found = [Diagnostic("E0301", "wrong", (mark(SOFTMAX, 18, 3, 1, "x"),), ("n",), "h")]
    painted = render(found, colour=True)
    assert painted.count("\x1b[31m") == 2
    assert re.sub(r"\x1b\[\d+m", "", painted) == render(found)
    assert "\x1b" not in render(found)


def test_json() -> None:
    found = Diagnostic("W0301", "η", (mark(SOFTMAX, 18, 3, 2, "x"),), ("n",), "h")
    assert json.loads(render_json([found])) == [
        {
            "code": "W0301", "severity": "warning", "message": "η",
            "marks": [{"file": "softmax.fml", "line": 18, "column": 3, "end_line": 18,
                       "end_column": 5, "text": "x"}],
            "notes": ["n"], "help": "h",
        }
    ]  # fmt: skip
    assert json.loads(render_json([])) == []


def test_github() -> None:
    source = Source("a:b,c%.fml", "x\ny")
    found = [
        Diagnostic("E0301", "100%\nwrong", (mark(source, 1, 1, 3),), ("n",), "h"),
        Diagnostic("W0301", "long", (Mark(Span(source, 1, 1, 2, 2)),)),
        Diagnostic("E0701", "nowhere"),
    ]
    assert render_github(found) == (
        "::error file=a%3Ab%2Cc%25.fml,line=1,endLine=1,col=1,endColumn=3,title=E0301"
        "::100%25%0Awrong%0An%0Ahelp: h\n"
        "::warning file=a%3Ab%2Cc%25.fml,line=1,endLine=2,col=1,title=W0301::long\n"
        "::error title=E0701::nowhere"
    )
