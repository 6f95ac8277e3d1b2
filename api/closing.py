"""What the command line says when a run is over, or is measured again."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ir.training import Role
from fml.predictions import example_data

if TYPE_CHECKING:
    from fml.run import Run

# What options for the rate of learning are called.
_RATES = frozenset({"lr", "rate", "learning_rate", "step_size", "eta", "η"})
_SPLITS = ("train", "valid", "test")


def print_closing(run: "Run", console: Console) -> None:
    """Print the final figures, why the run ended, where it is, and what to type next."""
    is_of_use = not has_diverged(run, run.figures)
    if run.figures and is_of_use:
        console.print(figures_table(run.figures))
    seconds = f"{run.seconds:.1f} s" if run.seconds < 60 else f"{run.seconds / 60:.1f} min"
    steps = f"{run.steps:,} step{'' if run.steps == 1 else 's'}"
    console.print(f"stopped: {run.stopped_by} ({steps} in {seconds})")
    if not is_of_use:
        console.print("figures: not finite; the model of this run is of no use")
    elif not_finite(run.figures):
        console.print(f"note:    {only_measured(run.figures)}", soft_wrap=True)
    if kept := _kept(run):
        console.print(kept)
    if run.folder is not None:
        folder = shlex.quote(str(run.folder))
        console.print(f"run:     {run.folder}")
        if run.interrupted:
            console.print(f"go on:   fml train --resume {folder}", soft_wrap=True)
        next_step = _after_failure(run) if run.failure else _usual_next(run, run.folder)
        console.print(f"next:    {next_step}", soft_wrap=True)


def _usual_next(run: "Run", folder: Path) -> str:
    """What to type after a run: a command that works as it stands."""
    data = example_data(run)
    if data is None:
        return shlex.join(["fml", "eval", str(folder)])
    shown, here = data.absolute(), Path.cwd()
    shown = shown.relative_to(here) if shown.is_relative_to(here) else shown
    return shlex.join(["fml", "predict", str(folder), str(shown), "-o", "predictions.csv"])


def print_if_killed(run: "Run", console: Console) -> None:
    """Say that the parameters of a run that has no end are those of its last checkpoint."""
    from fml.keeping import KILLED

    if run.figures or run.folder is None or run.stopped_by != KILLED:
        return
    from fml.engine.runtime.run_folder import RunFolder

    if by := RunFolder(run.folder).trained_by:
        console.print(
            f"note: the run is being trained by {by}; this is its last checkpoint, "
            f"of step {run.steps:,}.",
            soft_wrap=True,
        )
        return
    console.print(
        f"note: the run was killed; this is its last checkpoint, of step {run.steps:,}. "
        f"`fml train --resume {shlex.quote(str(run.folder))}` goes on from there.",
        soft_wrap=True,
    )


def has_diverged(run: "Run", figures: Mapping[str, float]) -> bool:
    """Whether what is minimised is not finite on some split, or a parameter is not.

    A figure that is only measured may be: a quotient whose divisor is 0, the logarithm of 0.
    """
    losses = {series.output for series in run.training.train_series}
    if any(name.partition(".")[2] in losses for name in not_finite(figures)):
        return True
    variables = run.training.variables
    trained = (v for n, v in run.variables.items() if variables[n].role is Role.PARAM)
    return not all(np.isfinite(value).all() for value in trained)


def of_no_use(run: "Run", path: Path, figures: Mapping[str, float]) -> FmlError:
    """Say that a run has diverged, by its figures or its parameters: E0713."""
    wrong = ", ".join(f"`{name}`" for name in not_finite(figures))
    what = (
        f"has figures that are not finite: {wrong}"
        if wrong
        else "has parameters that are not finite"
    )
    return error(
        "E0713", f"the run `{path}` has {what}", notes=[f"it was stopped: {run.stopped_by}"],
        help="train again with a lower rate; this run's model is of no use",
    )  # fmt: skip


def not_finite(figures: Mapping[str, float]) -> list[str]:
    """The names of the figures that are infinite or no number."""
    return [name for name, value in figures.items() if not math.isfinite(value)]


def only_measured(figures: Mapping[str, float]) -> str:
    """Say which figures are not finite, of a run whose loss and parameters are."""
    names = not_finite(figures)
    listed = ", ".join(f"`{name}`" for name in names)
    verb = "is" if len(names) == 1 else "are"
    return f"{listed} {verb} not finite, and only measured: the loss and the parameters are finite"


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


def _after_failure(run: "Run") -> str:
    """What to do after a run that failed: train at the rate's default, or else at a tenth of it."""
    from fml.engine.runtime.run_folder import RunFolder

    advice = "train again with a lower rate"
    # Before the first update the rate is not to blame, nor for what an operation raises.
    if not run.steps or (run.failure is not None and run.failure.code != "E0703"):
        return "mend what is named above, and train again"
    if run.folder is None:
        return advice
    origin = RunFolder(run.folder).origin()
    for name in _RATES & run.program.options.keys():
        default = run.program.options[name].default
        try:
            used, usual = float(str(origin.options.get(name, default))), float(str(default))
        except ValueError:  # an expression, as it was typed
            continue
        options = {**origin.options, name: f"{usual if used > usual else used / 10:.3g}"}
        plan = ["--plan", origin.plan] if origin.plan else []
        settings = [f"{name}={value}" for name, value in options.items()]
        return shlex.join(["fml", "train", origin.file, *settings, *plan])
    return advice


def _kept(run: "Run") -> str:
    """Say which parameters the run ended with, where the plan says `keep`."""
    keep = run.training.keep
    if keep is None or keep.series not in run.metrics:
        return ""
    choose = max if keep.highest else min
    best = choose(run.metrics[keep.series], key=lambda point: point.value)
    which = "highest" if keep.highest else "lowest"
    return f"kept:    step {best.step:,}, the {which} {keep.series} ({best.value:.4g})"
