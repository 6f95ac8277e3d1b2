"""Diagnostics as text for people, as JSON for programs, and as GitHub's annotations."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.source import Source

TAB = 4
# A line of more characters than this is shown from a little before its first mark.
_LONGEST, _BEFORE = 200, 60
_RED, _YELLOW, _BLUE, _GREEN, _BOLD, _RESET = (
    "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[32m", "\x1b[1m", "\x1b[0m",
)  # fmt: skip
_Paint: TypeAlias = Callable[[str, str], str]


def render(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """Write diagnostics for a terminal, an empty line between two, with ANSI colours on request.

    Every line of a text that has marks is shown once, with all of them: the last says what it
    has to say beside its carets, the others below theirs. Tabs are shown 4 wide, and control
    characters as `�`, so that no text can steer the terminal.
    """
    paint = _in_colour if colour else _plain
    return "\n\n".join(_one(d, paint) for d in diagnostics)


def _one(d: Diagnostic, paint: _Paint) -> str:
    tone = _RED if d.severity == "error" else _YELLOW
    lines = [paint(f"{d.severity}[{d.code}]", _BOLD + tone) + paint(f": {d.message}", _BOLD)]
    width = len(str(max((m.span.line for m in d.marks), default=0)))
    margin = " " * width
    for source, marks in _by_source(d.marks):
        lines.append(paint(f"{margin}--> ", _BLUE) + marks[0].span.place)
        lines += _excerpt(source, marks, width, paint, tone)
    for note in d.notes:
        lines.append(paint(f"{margin} = ", _BLUE) + note.replace("\n", f"\n{margin}   "))
    if d.help:
        lines.append(paint("help", _BOLD + _GREEN) + f": {d.help}")
    return "\n".join(lines)


def _by_source(marks: Sequence[Mark]) -> list[tuple[Source, list[Mark]]]:
    """The marks of each file together, the first mark's file first."""
    grouped: dict[int, tuple[Source, list[Mark]]] = {}
    for mark in marks:
        grouped.setdefault(id(mark.span.source), (mark.span.source, []))[1].append(mark)
    return list(grouped.values())


def _excerpt(source: Source, marks: list[Mark], width: int, paint: _Paint, tone: str) -> list[str]:
    """Each marked line once, all its marks below it."""
    lines: list[str] = []
    ordered = sorted(marks, key=lambda m: m.span.order)
    last = 0
    for number, group in groupby(ordered, key=lambda m: m.span.line):
        if last and number > last + 1:
            lines.append(paint("...", _BLUE))
        of_line = list(group)
        shown = _Shown.of(source.line(number), of_line[0].span.column - 1)
        lines.append(paint(f"{number:>{width}} | ", _BLUE) + shown.text)
        gutter = paint(" " * width + " | ", _BLUE)
        lines += [gutter + line for line in _underlines(shown, of_line, paint, tone)]
        last = number
    return lines


@dataclass(frozen=True, slots=True)
class _Shown:
    """A line as a terminal shows it; `columns[i]` is where its character i begins, from 0.

    Of a very long line only a part is shown, and `i` counts from `skipped` on.
    """

    text: str
    columns: tuple[int, ...]
    skipped: int = 0

    @staticmethod
    def of(line: str, first: int) -> "_Shown":
        """Show a line in which the character `first` is to be seen."""
        begin = max(first - _BEFORE, 0) if len(line) > _LONGEST else 0
        end = begin + _LONGEST
        part = ("…" if begin else "") + line[begin:end] + ("…" if end < len(line) else "")
        text, columns = "", [0]
        for character in part:
            at = columns[-1]
            if character in "\t\ufeff":
                wide = TAB - at % TAB if character == "\t" else 1
                text += " " * wide
            else:
                wide = _width(character)
                text += character if character.isprintable() or wide == 0 else "�"
            columns.append(at + wide)
        return _Shown(text.rstrip(), tuple(columns), begin - 1 if begin else 0)

    def extent(self, mark: Mark) -> tuple[int, int]:
        """Where a mark begins and ends on the screen; to the line's end if it goes on below."""
        span, past = mark.span, len(self.columns) - 1
        start = self.columns[min(span.column - 1 - self.skipped, past)]
        end = self.columns[min(span.end_column - 1 - self.skipped, past)]
        if span.end_line > span.line:
            end = len(self.text)
        return start, max(end, start + 1)


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _underlines(shown: _Shown, marks: list[Mark], paint: _Paint, tone: str) -> list[str]:
    """The carets of a line's marks and what the marks say, from the last to the first."""
    starts = [shown.extent(mark)[0] for mark in marks]
    carets = [" "] * max(shown.extent(mark)[1] for mark in marks)
    for mark in marks:
        start, end = shown.extent(mark)
        carets[start:end] = "^" * (end - start)
    last = f" {marks[-1].text}" if marks[-1].text else ""
    lines = [paint("".join(carets) + last, tone)]
    for place in range(len(marks) - 2, -1, -1):
        if marks[place].text:
            line = ""
            for start, mark in zip(starts[:place], marks[:place], strict=True):
                line = line.ljust(start) + ("|" if mark.text else "")
            lines.append(paint(line.ljust(starts[place]) + marks[place].text, tone))
    return lines


def _in_colour(text: str, codes: str) -> str:
    return f"{codes}{text}{_RESET}"


def _plain(text: str, _: str) -> str:
    return text


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """Write diagnostics as a JSON list: code, severity, message, marks, notes, help."""
    return json.dumps([_as_dict(d) for d in diagnostics], indent=2)


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
    place = f" title={d.code}"
    if d.span:
        name = _escaped(d.span.source.name).replace(",", "%2C").replace(":", "%3A")
        place = f" file={name},line={d.span.line},endLine={d.span.end_line},col={d.span.column}"
        # The last column counts as marked, and has a meaning only within one line.
        if d.span.line == d.span.end_line:
            place += f",endColumn={max(d.span.end_column - 1, d.span.column)}"
        place += f",title={d.code}"
    return f"::{d.severity}{place}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
