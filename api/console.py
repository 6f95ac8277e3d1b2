"""Where the command line writes: tables and progress by rich, diagnostics as they are."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from fml.engine.ir.diagnostics import Diagnostic

# Wide enough for any of our tables, where there is no terminal to ask.
_FILE_WIDTH = 120


def output() -> "Console":
    """Return the console of the results: plain text of a fixed width unless it is a terminal."""
    return _console(sys.stdout)


def messages() -> "Console":
    """Return the console of progress and diagnostics, the standard error stream."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    # Decided by the stream alone: FORCE_COLOR must not put control characters into a file.
    is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    # Without a colour system rich writes no bold either; `no_color` would take colours alone away.
    is_plain = not is_terminal or bool(os.environ.get("NO_COLOR"))
    return Console(
        file=stream,
        force_terminal=is_terminal,
        color_system=None if is_plain else "auto",
        width=None if is_terminal else _FILE_WIDTH,
        highlight=False,
        soft_wrap=False,
        emoji=False,
        markup=False,
    )


def write_at_once(file: TextIO, line: str) -> None:
    """Write a line past the stream's buffers, as a signal's handler must.

    What it has interrupted may be a write to the same stream, and Python refuses another one there.
    """
    try:
        number = file.fileno()
    except (OSError, ValueError):  # no file
        print(line, file=file)
    else:
        os.write(number, f"{line}\n".encode(file.encoding or "utf-8", "replace"))


def is_coloured(console: "Console") -> bool:
    """Say whether colours may be used: a terminal, and no NO_COLOR."""
    return console.color_system is not None


def print_diagnostics(
    diagnostics: Sequence["Diagnostic"], console: "Console | None" = None
) -> None:
    """Write diagnostics to a console, or else to the standard error stream."""
    if not diagnostics:
        return
    from fml.dsl.report import render

    console = console or messages()
    print(render(diagnostics, colour=is_coloured(console)), file=console.file)
