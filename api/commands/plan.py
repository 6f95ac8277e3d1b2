"""`fml plan`: what a plan will do, before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import click

from fml.commands import arguments


@click.command("plan", short_help="Show what a plan will do, before it runs.")
@arguments.file
@arguments.options_of_file
@arguments.plan
@arguments.devices
@arguments.streams
@click.option("--all", "every", is_flag=True, help="A row for each task, however many there are.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tables", "text"]),
    default="tables",
    show_default=True,
    help="Tables for people, or a line a task with all its memory.",
)
def command(
    file: Path,
    settings: Sequence[str],
    *,
    plan: str | None,
    devices: int,
    streams: int,
    every: bool,
    form: str,
) -> None:
    """Show how a step of a plan of FILE is carried out; nothing is computed.

    NAME=VALUE sets an option of the file. Shown are the tasks in their order with their streams and
    what they wait for, the longest chain of them, and the memory that a run takes. Times are
    estimates at typical rates; `fml profile` measures.
    """
    from fml.console import output, print_diagnostics
    from fml.program import load

    program = load(file)
    print_diagnostics(program.checked.warnings)
    options = arguments.parsed(settings)
    found = program.outlook(plan, devices=devices, streams=streams, options=options)
    print_diagnostics(found.dry.warnings)
    if form == "text":
        click.echo(found.text(), nl=False)
        return
    from fml.engine.profile.outlook_report import report

    output().print(report(found, every=every))
