"""`fml summary`: what a plan consists of and costs, as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fml.commands import arguments

if TYPE_CHECKING:
    from rich.console import Console
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

    print_summary(load(file).summary(plan, **arguments.parsed(settings)), output())


def print_summary(summary: "Summary", console: "Console") -> None:
    """Print the table of the layers and the totals."""
    table = _table(summary, console)
    console.width = max(console.width, _width(table, console))
    console.print(table)
    for line in _totals(summary):
        console.print(line)


def _table(summary: "Summary", console: "Console") -> "Table":
    """A row a layer, with as many columns as stand side by side: names are never broken."""
    columns = _columns(summary)
    while True:
        table = _side_by_side(columns)
        if len(columns) == 1 or _width(table, console) <= console.width:
            return table
        columns.popitem()


def _width(table: "Table", console: "Console") -> int:
    unbounded = console.options.update(max_width=10_000)
    return console.measure(table, options=unbounded).maximum


def _columns(summary: "Summary") -> dict[str, list[str]]:
    """The cells by heading, the most important columns first."""
    layers = summary.layers
    return {
        "layer": [layer.scope or "(outside layers)" for layer in layers],
        "output": [str(layer.output or "") if layer.scope else "" for layer in layers],
        "parameters": [f"{layer.parameters:,}" if layer.parameters else "" for layer in layers],
        "flops": [quantity(layer.flops, 1000, "") for layer in layers],
        "activations": [quantity(layer.nbytes, 1024, "B") for layer in layers],
    }


def _side_by_side(columns: Mapping[str, Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns:
        words = heading in {"layer", "output"}
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _totals(summary: "Summary") -> list[str]:
    sizes = ", ".join(f"{name} = {size:,}" for name, size in summary.sizes.items())
    frozen = summary.parameters - summary.trained
    parameters = f"{summary.parameters:,} parameter{'' if summary.parameters == 1 else 's'}"
    variables, peak = (
        quantity(n, 1024, "B") for n in (summary.variables_nbytes, summary.peak_nbytes)
    )
    return [
        parameters + (f", {frozen:,} of them frozen" if frozen else ""),
        f"one forward pass (the table): {quantity(summary.forward_flops, 1000, 'flop')} at {sizes}",
        f"one step: {quantity(summary.step_flops, 1000, 'flop')} in {summary.nodes:,} operations",
        f"memory of a run: {variables} of parameters, optimizer slots and states,",
        f"  and at most {peak} of values at once within a step",
    ]


def quantity(number: int, base: int, unit: str) -> str:
    """Write a number with three digits and a prefix: `12.3 M`, `1.50 KiB`."""
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    value, power = float(number), 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    digits = f"{value:.3g}" if value < 1000 and power else f"{value:,.0f}"
    return f"{digits} {prefixes[power]}{unit}".strip()
