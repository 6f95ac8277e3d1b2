"""`fml eval`: the figures of a finished run, measured again."""

from pathlib import Path

import click

from fml.commands import arguments


@click.command("eval", short_help="Measure a finished run again on its data.")
@arguments.run
def command(run: Path) -> None:
    """Measure the parameters that RUN ended with again, on all splits of its data.

    RUN is the folder of a run, or its name in runs/.
    """
    from fml.closing import (
        figures_table,
        has_diverged,
        not_finite,
        only_measured,
        print_if_killed,
    )
    from fml.console import messages, output
    from fml.engine.ir.diagnostics import error
    from fml.run import open_run

    opened = open_run(run)
    print_if_killed(opened, messages())
    figures = opened.evaluate()
    output().print(figures_table(figures))
    if has_diverged(opened, figures):
        wrong = ", ".join(f"`{name}`" for name in not_finite(figures)) or "its parameters"
        raise error(
            "E0713",
            f"the run `{run}` has figures that are not finite: {wrong}",
            notes=[f"it was stopped: {opened.stopped_by}"],
            help="train again with a lower rate; this run's model is of no use",
        )
    if not_finite(figures):
        messages().print(f"note: {only_measured(figures)}", soft_wrap=True)
