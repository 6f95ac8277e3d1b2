"""`fml predict`: the model of a finished run applied to new rows."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fml.commands import arguments

if TYPE_CHECKING:
    from fml.engine.ops.record import Array


@click.command("predict", short_help="Apply the model of a finished run to new rows.")
@arguments.run
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The CSV file to write; without it, to the standard output.",
)
def command(run: Path, data: Path, output: Path | None) -> None:
    """Predict a value for each row of DATA, in order, with the model of RUN.

    RUN is the folder of a run, or its name in runs/.
    DATA is a file or folder of the kind that the run's data set reads, or a CSV, Parquet, `.npz` or
    `.npy` file with the columns that its fields are computed from; the answers may be missing. A
    classifier writes `prediction` and a column `score_CLASS` for each class with what the model
    gives, mostly logits, of which the highest decides; any other model writes `prediction`. Rows
    from images begin with the name of their `file`. The status is 2 if the run had diverged: such
    predictions are of no use.
    """
    from fml.closing import has_diverged, of_no_use, print_if_killed
    from fml.console import messages
    from fml.predictions import note_on_scores, predictions, write_csv
    from fml.run import open_run

    opened = open_run(run)
    print_if_killed(opened, messages())
    columns = predictions(opened, data)
    if output is None:
        write_csv(columns, sys.stdout)
    else:
        _write(columns, output)
    if note := note_on_scores(columns):
        messages().print(note, soft_wrap=True)
    if has_diverged(opened, opened.figures):
        raise of_no_use(opened, run, opened.figures)


def _write(columns: Mapping[str, "Array"], output: Path) -> None:
    from fml.engine.files import writing
    from fml.predictions import write_csv

    with writing(output), output.open("w", encoding="utf-8", newline="") as file:
        write_csv(columns, file)
    rows = len(columns["prediction"])
    click.echo(f"wrote {rows:,} prediction{'' if rows == 1 else 's'} to {output}")
