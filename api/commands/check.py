"""`fml check`: all errors of files, in one of three formats."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fml.engine.ir.diagnostics import Diagnostic

# A large file leaves 150,000 objects, and they go with the process: passes over all of them for the
# garbage among them are for those who check many files.
_OBJECTS = 500_000


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

    Data that are there are compared with their declarations: small files whole, of large tables
    the first lines. The exit status is 2 if there is an error in any of the files or their data.
    """
    gc.set_threshold(_OBJECTS)
    found: list[Diagnostic] = []
    left_out: list[str] = []
    for file in files:
        _check(file, found, left_out)
    errors = sum(d.severity == "error" for d in found)
    _PRINTERS[form](found, len(files))
    if form == "text":
        for words in left_out:
            click.echo(f"note: {words}", err=True)
    ctx.exit(2 if errors else 0)


def _check(file: Path, found: list["Diagnostic"], left_out: list[str]) -> None:
    """Add what is wrong with a file and its data, and which data were not looked at."""
    from fml.engine.ir.diagnostics import FmlError
    from fml.engine.sources.presence import absence
    from fml.program import load

    try:
        program = load(file)
    except FmlError as error:
        found += error.diagnostics
        return
    found += program.check()
    for dataset in program.checked.datasets.values():
        if missing := absence(dataset, program.base):
            left_out.append(missing)
            continue
        from fml.engine.sources.look import look

        try:
            warnings, words = look(dataset, program.base, program.checked.draws)
        except FmlError as error:
            found += error.diagnostics
        else:
            found += warnings
            left_out += [words] if words else []


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
