"""`fml profile`: where the time of a training step goes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fml.commands import arguments

if TYPE_CHECKING:
    from fml.engine.profile.profile import Profile


@click.command("profile", short_help="Show where the time of a training step goes.")
@arguments.file
@arguments.options_of_file
@arguments.plan
@click.option(
    "--device",
    metavar="NAME",
    default="cpu",
    help="What is measured, instead of the file's `on`: `cpu`, or `numpy`, its slow oracle.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the plan's `seed`.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=2.0,
    show_default=True,
    help="How long steps are measured, and tasks by themselves as long again.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many operations and tasks are shown, the slowest first.",
)
@click.option(
    "--trace",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write some real steps as a timeline, for ui.perfetto.dev or chrome://tracing.",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON, for tools.")
def command(
    file: Path,
    settings: Sequence[str],
    *,
    plan: str | None,
    device: str,
    seed: int | None,
    seconds: float,
    top: int,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Train some steps of a plan of FILE, and show where their time goes; nothing is kept.

    NAME=VALUE sets an option of the file. Times are those of one core, by layer, operation and
    task, beside what that core can do at most. Data that are not there are made up.
    """
    from fml.console import output, print_diagnostics
    from fml.program import load
    from fml.tracing import require_writable

    if trace is not None:
        require_writable(trace)
    program = load(file)
    print_diagnostics(program.checked.warnings)
    found = program.profile(
        plan, device=device, seed=seed, seconds=seconds, options=arguments.parsed(settings)
    )
    if trace is not None:
        _write(found, trace)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1))
        return
    from fml.engine.profile.report import report

    console = output()
    if console.is_terminal:
        console.print(report(found, console.width, top))
    else:  # whoever reads a file looks for whole names
        click.echo(found.text(None, top))
    if trace is not None:
        console.print(f"trace:  {trace}, for https://ui.perfetto.dev", soft_wrap=True)


def _write(profile: "Profile", path: Path) -> None:
    from fml.engine.files import writing

    with writing(path), path.open("w", encoding="utf-8") as file:
        json.dump(profile.trace(), file)
