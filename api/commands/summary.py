"""`fml summary`: what a plan consists of and costs, as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fml.commands import arguments

if TYPE_CHECKING:
    from rich.table import Table

    from fml.engine.summary import Summary


@click.command("summary", short_help="Show a plan's layers, shapes, parameters and costs.")
@arguments.file
@arguments.options_of_file
@arguments.plan
def command(file: Path, settings: Sequence[str], plan: str | None) -> None:
    """Show the layers of a plan of FILE: shapes, parameters and the cost of a forward pass."""
    from fml.console import output
    from fml.program import load

    summary = load(file).summary(plan, **arguments.parsed(settings))
    console = output()
    console.print(_table(summary))
    for line in _totals(summary):
        console.print(line)


def _table(summary: "Summary") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("layer", "output"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "flops", "memory"):
        table.add_column(heading, justify="right")
    for layer in summary.layers:
        table.add_row(
            layer.scope or "(the plan)",
            str(layer.output or ""),
            f"{layer.parameters:,}" if layer.parameters else "",
            quantity(layer.flops, 1000, ""),
            quantity(layer.nbytes, 1024, "B"),
        )
    return table


def _totals(summary: "Summary") -> list[str]:
    sizes = ", ".join(f"{name} = {size:,}" for name, size in summary.sizes.items())
    frozen = summary.parameters - summary.trained
    parameters = f"{summary.parameters:,} parameters"
    variables, peak = (
        quantity(n, 1024, "B") for n in (summary.variables_nbytes, summary.peak_nbytes)
    )
    return [
        parameters + (f", {frozen:,} of them frozen" if frozen else ""),
        f"one forward pass: {quantity(summary.forward_flops, 1000, 'flop')} at {sizes}",
        f"one step: {quantity(summary.step_flops, 1000, 'flop')} in {summary.nodes:,} operations",
        f"memory: {variables} of variables, and at most {peak} within a step",
    ]


def quantity(number: int, base: int, unit: str) -> str:
    """Write a number with three digits and a prefix: `12.3 M`, `1.50 KiB`."""
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    value, power = float(number), 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    digits = f"{value:.3g}" if value < 1000 and power else f"{value:,.0f}"
    return f"{digits} {prefixes[power]}{unit}".strip()
