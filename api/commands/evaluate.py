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
        of_no_use,
        only_measured,
        print_if_killed,
    )
    from fml.console import messages, output
    from fml.progress import measuring_alone
    from fml.run import open_run

    opened = open_run(run)
    print_if_killed(opened, messages())
    with measuring_alone(opened.training, messages()) as listener:
        figures = opened.evaluate(on_event=listener)
    output().print(figures_table(figures))
    if has_diverged(opened, figures):
        raise of_no_use(opened, run, figures)
    if not_finite(figures):
        messages().print(f"note: {only_measured(figures)}", soft_wrap=True)
