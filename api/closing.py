"""What the command line says when a run is over, or is measured again."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fml.run import Run

_SPLITS = ("train", "valid", "test")


def print_closing(run: "Run", console: Console) -> None:
    """Print the final figures, why the run ended, where it is, and what to type next."""
    if run.figures:
        console.print(figures_table(run.figures))
    seconds = f"{run.seconds:.1f} s" if run.seconds < 60 else f"{run.seconds / 60:.1f} min"
    console.print(f"stopped: {run.stopped_by} ({run.steps:,} steps in {seconds})")
    if kept := _kept(run):
        console.print(kept)
    if run.folder is not None:
        folder = shlex.quote(str(run.folder))
        console.print(f"run:     {run.folder}")
        if run.interrupted:
            console.print(f"go on:   fml train --resume {folder}", soft_wrap=True)
        console.print(f"next:    fml predict {folder} DATA.csv -o predictions.csv", soft_wrap=True)


def print_if_killed(run: "Run", console: Console) -> None:
    """Say that the parameters of a run that has no end are those of its last checkpoint."""
    if run.figures or run.folder is None or run.stopped_by != "killed":
        return
    console.print(
        f"note: the run was killed; this is its last checkpoint, of step {run.steps:,}. "
        f"`fml train --resume {shlex.quote(str(run.folder))}` goes on from there.",
        soft_wrap=True,
    )


def figures_table(figures: Mapping[str, float]) -> Table:
    """Return figures as a table: a row a figure, a column a split."""
    splits = [*dict.fromkeys(name.partition(".")[0] for name in figures)]
    splits.sort(key=lambda name: _SPLITS.index(name) if name in _SPLITS else len(_SPLITS))
    rows = dict.fromkeys(name.partition(".")[2] for name in figures)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")
    for row in rows:
        cells = (figures.get(f"{split}.{row}") for split in splits)
        table.add_row(row, *("" if value is None else f"{value:.4g}" for value in cells))
    return table


def _kept(run: "Run") -> str:
    """Say which parameters the run ended with, where the plan says `keep`."""
    keep = run.training.keep
    if keep is None or keep.series not in run.metrics:
        return ""
    choose = max if keep.highest else min
    best = choose(run.metrics[keep.series], key=lambda point: point.value)
    which = "highest" if keep.highest else "lowest"
    return f"kept:    step {best.step:,}, the {which} {keep.series} ({best.value:.4g})"
