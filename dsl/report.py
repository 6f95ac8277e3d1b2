"""Diagnostics as text for people, as JSON for programs, and as GitHub's annotations."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby

from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.source import Source

_RED, _YELLOW, _BLUE, _GREEN, _BOLD, _RESET = (
    "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[32m", "\x1b[1m", "\x1b[0m",
)  # fmt: skip


def render(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """Write diagnostics as section 8 of the language shows them, with ANSI colours on request."""
    paint = _paint if colour else _plain
    return "\n\n".join(_one(d, paint) for d in diagnostics)


def _one(d: Diagnostic, paint: "Paint") -> str:
    tone = _RED if d.severity == "error" else _YELLOW
    lines = [paint(f"{d.severity}[{d.code}]", _BOLD + tone) + paint(f": {d.message}", _BOLD)]
    width = len(str(max((m.span.line for m in d.marks), default=0)))
    margin = " " * width
    for place, (source, marks) in enumerate(_by_source(d.marks)):
        arrow = "-->" if place == 0 else ":::"
        lines.append(paint(f"{margin} {arrow} ", _BLUE) + marks[0].span.place)
        lines += _excerpt(source, marks, width, paint, tone)
    lines += [paint(f"{margin} = ", _BLUE) + note for note in d.notes]
    if d.help:
        lines.append(paint("help", _BOLD + _GREEN) + f": {d.help}")
    return "\n".join(lines)


def _by_source(marks: Sequence[Mark]) -> list[tuple[Source, list[Mark]]]:
    """The marks of each file together, the first mark's file first."""
    grouped: dict[int, tuple[Source, list[Mark]]] = {}
    for mark in marks:
        grouped.setdefault(id(mark.span.source), (mark.span.source, []))[1].append(mark)
    return list(grouped.values())


def _excerpt(
    source: Source, marks: list[Mark], width: int, paint: "Paint", tone: str
) -> list[str]:
    """Each marked line once, all its marks below it."""
    lines: list[str] = []
    ordered = sorted(enumerate(marks), key=lambda m: (m[1].span.line, m[1].span.column))
    last = 0
    for number, group in groupby(ordered, key=lambda m: m[1].span.line):
        if last and number > last + 1:
            lines.append(paint(f"{'.' * max(width, 3)}", _BLUE))
        text = source.line(number)
        lines.append(paint(f"{number:>{width}} | ", _BLUE) + text.expandtabs(4))
        lines += _underlines(text, [m for _, m in group], width, paint, tone)
        last = number
    return lines


def _underlines(
    text: str, marks: list[Mark], width: int, paint: "Paint", tone: str
) -> list[str]:
    """The carets of a line; what there is to say stands behind the last, then below the others."""
    gutter = paint(" " * width + " | ", _BLUE)
    carets = ""
    for mark in marks:
        start, end = _columns(text, mark)
        carets = carets.ljust(start) + "^" * max(end - max(start, len(carets)), 0)
    lines = [gutter + paint(carets, tone) + _said(marks[-1], tone, paint)]
    for place in range(len(marks) - 2, -1, -1):
        if marks[place].text:
            start, _ = _columns(text, marks[place])
            lines.append(gutter + " " * start + paint(marks[place].text, tone))
    return lines


def _said(mark: Mark, tone: str, paint: "Paint") -> str:
    return paint(f" {mark.text}", tone) if mark.text else ""


def _columns(text: str, mark: Mark) -> tuple[int, int]:
    """Where a mark begins and ends on the screen: tabs are 4 wide, wide characters 2."""
    span = mark.span
    last = span.end_column if span.end_line == span.line else len(text) + 1
    start = _screen(text[: span.column - 1])
    return start, max(_screen(text[: last - 1]), start + 1)


def _screen(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text.expandtabs(4))
    bare = sum(unicodedata.combining(c) != 0 for c in text)
    return len(text.expandtabs(4)) + wide - bare


class Paint:
    """How a piece of text is coloured."""

    def __call__(self, text: str, codes: str) -> str:
        """Return the text in colours."""
        return f"{codes}{text}{_RESET}" if text else text


class _Plain(Paint):
    def __call__(self, text: str, codes: str) -> str:
        return text


_paint, _plain = Paint(), _Plain()


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """Write diagnostics as a JSON list: code, severity, message, marks, notes, help."""
    return json.dumps([_as_dict(d) for d in diagnostics], ensure_ascii=False, indent=2)


def _as_dict(d: Diagnostic) -> dict[str, object]:
    marks = [
        {
            "file": m.span.source.name,
            "line": m.span.line,
            "column": m.span.column,
            "end_line": m.span.end_line,
            "end_column": m.span.end_column,
            "text": m.text,
        }
        for m in d.marks
    ]
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        "marks": marks,
        "notes": list(d.notes),
        "help": d.help,
    }


def render_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Write diagnostics as workflow commands, which GitHub shows beside the lines."""
    return "\n".join(_annotation(d) for d in diagnostics)


def _annotation(d: Diagnostic) -> str:
    text = "\n".join([d.message, *d.notes, *([f"help: {d.help}"] if d.help else [])])
    message = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    place = ""
    if d.span:
        name = d.span.source.name.replace("%", "%25").replace(",", "%2C").replace(":", "%3A")
        place = (
            f" file={name},line={d.span.line},endLine={d.span.end_line},col={d.span.column},"
            f"endColumn={d.span.end_column},title={d.code}"
        )
    return f"::{d.severity}{place}::{message}"
