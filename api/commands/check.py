"""`fml check`: all errors of files, in one of three formats."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fml.engine.ir.diagnostics import Diagnostic


@click.command("check", short_help="Report all errors of files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For people, for tools, or as annotations of a GitHub workflow.",
)
@click.pass_context
def command(ctx: click.Context, files: Sequence[Path], form: str) -> None:
    """Report all errors of FILES, and run nothing.

    The exit status is 2 if there is an error in any of them.
    """
    found = [d for file in files for d in _diagnostics(file)]
    errors = sum(d.severity == "error" for d in found)
    _PRINTERS[form](found, len(files))
    ctx.exit(2 if errors else 0)


def _diagnostics(file: Path) -> Sequence["Diagnostic"]:
    from fml.engine.ir.diagnostics import FmlError
    from fml.program import load

    try:
        return load(file).check()
    except FmlError as error:
        return error.diagnostics


def _print_text(found: Sequence["Diagnostic"], files: int) -> None:
    from fml.console import print_diagnostics

    print_diagnostics(found)
    errors = sum(d.severity == "error" for d in found)
    warnings = len(found) - errors
    counts = [_count(errors, "error"), *([_count(warnings, "warning")] if warnings else [])]
    click.echo(f"{' and '.join(counts)} in {_count(files, 'file')}", err=bool(errors))


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _print_json(found: Sequence["Diagnostic"], files: int) -> None:
    from fml.dsl.report import render_json

    click.echo(render_json(found))


def _print_github(found: Sequence["Diagnostic"], files: int) -> None:
    from fml.dsl.report import render_github

    if found:
        click.echo(render_github(found))


_PRINTERS = {"text": _print_text, "json": _print_json, "github": _print_github}
