"""What is wrong with an input, where, and the way out: data only, printed by `fml.dsl.report`.

Every stage reports through these types; no stage lets a Python traceback reach a user.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from fml.engine.ir.source import Span


@dataclass(frozen=True, slots=True)
class Mark:
    """A place and what to say about it (`f32[K=3, D=4]`); the text may be empty."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning.

    `code` is `E0301` or `W0601`; `marks` are the exact places, the first of which is where
    editors jump to (none for a fault outside any text); `notes` tell origins; `help` is one
    way out.
    """

    code: str
    message: str
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()
    help: str = ""

    @property
    def severity(self) -> str:
        """`error` or `warning`, told by the first letter of the code."""
        return "warning" if self.code.startswith("W") else "error"

    @property
    def span(self) -> Span | None:
        """The place that comes first, if there is one."""
        return self.marks[0].span if self.marks else None


class FmlError(Exception):
    """Bad input: carries all the diagnostics of a stage, in the order of the text.

    `str` of it has their messages, places, notes and ways out.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = in_text_order(diagnostics)
        super().__init__("\n".join(map(_as_text, self.diagnostics)))


def _as_text(d: Diagnostic) -> str:
    """All that a diagnostic says, without the lines of the text: for Python's own tracebacks."""
    place = f" ({d.span.place})" if d.span else ""
    rest = [f"\n  = {note}" for note in d.notes] + ([f"\n  help: {d.help}"] if d.help else [])
    return f"{d.code}: {d.message}{place}{''.join(rest)}"


def error(code: str, message: str, *, notes: Iterable[str] = (), help: str = "") -> FmlError:
    """Return an `FmlError` of one diagnostic that stands nowhere in a text."""
    return FmlError([Diagnostic(code, message, (), tuple(notes), help)])


def in_text_order(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sort by place, those without one last, and keep the first of each code and place."""
    seen: dict[object, Diagnostic] = {}
    for number, diagnostic in enumerate(diagnostics):
        span = diagnostic.span
        key = (diagnostic.code, span.order) if span else number
        seen.setdefault(key, diagnostic)
    placed = [d for d in seen.values() if d.span]
    placed.sort(key=lambda d: d.span.order if d.span else ("", 0, 0, 0, 0))
    return (*placed, *(d for d in seen.values() if not d.span))


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean `near`?`` for the nearest candidates, or nothing."""
    known = sorted(set(candidates))
    same = [candidate for candidate in known if candidate.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, known, n=2, cutoff=0.65)
    return f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""
