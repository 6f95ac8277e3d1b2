"""`fml eval`: the figures of a finished run, measured again."""

from pathlib import Path

import click


@click.command("eval", short_help="Measure a finished run again on its data.")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Measure the parameters that RUN ended with again, on all splits of its data."""
    from fml.closing import figures_table
    from fml.console import output
    from fml.run import open_run

    output().print(figures_table(open_run(run).evaluate()))
