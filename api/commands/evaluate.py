"""`fml eval`: the figures of a finished run, measured again."""

from pathlib import Path

import click


@click.command("eval", short_help="Measure a finished run again on its data.")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Measure the parameters that RUN ended with again, on all splits of its data."""
    from fml.closing import figures_table, print_if_killed
    from fml.console import messages, output
    from fml.run import open_run

    opened = open_run(run)
    print_if_killed(opened, messages())
    output().print(figures_table(opened.evaluate()))
