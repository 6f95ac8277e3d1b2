"""`fml visualize`: a plan's graph as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click

from fml.commands import arguments


@click.command("visualize", short_help="Draw the graph of a plan.")
@arguments.file
@arguments.options_of_file
@arguments.plan
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("graph.svg"),
    show_default=True,
    help="Where to; the ending .svg, .png, .pdf or .dot says how.",
)
@click.option(
    "--graph",
    type=click.Choice(["step", "init", "model", "measure", "data"]),
    default="step",
    show_default=True,
    help="One iteration, the first values, the model alone, what is measured, "
    "or how the data's fields are computed.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=1),
    help="Draw layers so deep as a box each: 1 is the model, 2 its layers; "
    "without it, as deep as fits a page.",
)
@click.option("--unroll", is_flag=True, help="Draw every learner, and not one for all.")
def command(
    file: Path,
    settings: Sequence[str],
    plan: str | None,
    output: Path,
    graph: str,
    *,
    depth: int | None,
    unroll: bool,
) -> None:
    """Draw the graph of a plan of FILE."""
    from fml.picture import GraphName
    from fml.program import load

    program = load(file)
    options = arguments.parsed(settings)
    program.visualize(
        output, plan, cast("GraphName", graph), max_depth=depth, unroll=unroll, options=options
    )
    click.echo(f"wrote {output}")
