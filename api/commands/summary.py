"""`fml summary`: what a plan consists of and costs, as a table."""

from collections.abc import Sequence
from pathlib import Path

import click

from fml.commands import arguments


@click.command("summary", short_help="Show a plan's layers, shapes, parameters and costs.")
@arguments.file
@arguments.options_of_file
@arguments.plan
def command(file: Path, settings: Sequence[str], plan: str | None) -> None:
    """Show the layers of a plan of FILE: shapes, parameters and the cost of a forward pass."""
    from fml.console import output
    from fml.program import load

    console = output()
    summary = load(file).summary(plan, options=arguments.parsed(settings))
    console.print(summary.text(console.width), soft_wrap=True)
