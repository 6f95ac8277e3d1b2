"""`fml train`: a plan run to its end, with progress, and kept in a folder."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from fml.commands import arguments

if TYPE_CHECKING:
    from fml.run import Run


@click.command(
    "train",
    short_help="Train a plan of a file.",
    add_help_option=False,
)
@click.argument(
    "file",
    type=click.Path(path_type=Path),
    required=False,
    callback=arguments.not_a_setting,
)
@arguments.options_of_file
@arguments.plan
@click.option(
    "--device",
    metavar="NAME",
    help="Where to train, instead of the file's `on`: `cpu`, or `numpy`, its slow oracle.",
)
@arguments.devices
@click.option(
    "--cores",
    metavar="N",
    type=click.IntRange(min=1),
    help="Use so many cores at most; the result does not depend on it.",
)
@arguments.streams
@click.option(
    "--on-fault",
    type=click.Choice(["stop", "restart"]),
    default="stop",
    help="When a learner raises or its loss is not finite: stop, or restart that learner.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the plan's `seed`.")
@click.option("--run", "name", metavar="NAME", help="Name of the run's folder in runs/.")
@click.option(
    "--trace",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a timeline of the last steps, as planned and as done, for ui.perfetto.dev.",
)
@click.option(
    "--resume",
    metavar="RUN",
    is_eager=True,
    type=click.Path(path_type=Path),
    help="Go on with the run in this folder, which was interrupted or killed.",
)
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Compile and plan everything, and compute nothing; the data need not be there.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-h", "--help", "wants_help", is_flag=True, help="Show this, and FILE's options.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    file: Path | None,
    settings: Sequence[str],
    plan: str | None,
    device: str | None,
    devices: int,
    cores: int | None,
    streams: int,
    on_fault: Literal["stop", "restart"],
    seed: int | None,
    name: str | None,
    trace: Path | None,
    resume: Path | None,
    is_dry: bool,
    quiet: bool,
    wants_help: bool,
) -> None:
    """Train a plan of FILE, and keep the run in a folder of runs/.

    NAME=VALUE sets an option of the file: `fml train model.fml lr=0.1`.
    `fml train FILE --help` lists them. `fml train --resume RUN` goes on with a run that was
    stopped, with the same result as if it had not been.
    """
    if wants_help:
        click.echo(ctx.get_help())
        if file is not None:
            _print_options(file)
        return
    if resume is not None:
        _require_nothing_else(ctx)
        ctx.exit(_resume(resume, quiet, cores, streams if _is_given(ctx, "streams") else None))
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.", ctx)
    if is_dry and trace is not None:
        raise click.UsageError("--dry-run takes no step, so that there is nothing to --trace", ctx)
    from fml.console import messages, print_diagnostics
    from fml.leaving import undoing
    from fml.program import load
    from fml.progress import listener_for
    from fml.training import Request, train

    options = arguments.parsed(settings)
    program = load(file)
    print_diagnostics(program.checked.warnings)
    if is_dry:
        dry = program.dry_run(plan, devices=devices, streams=streams, options=options)
        print_diagnostics(dry.warnings)
        click.echo(dry)
        return
    request = Request(
        plan,
        options,
        {},
        seed,
        device,
        folder=name,
        cores=cores,
        devices=devices,
        on_fault=on_fault,
        trace=trace,
        streams=streams,
    )
    if not quiet:
        request = replace(request, watch=partial(listener_for, console=messages()))
    with undoing():
        run = train(program, request)
    ctx.exit(_close(run, quiet, trace))


def _require_nothing_else(ctx: click.Context) -> None:
    """A run that goes on has its file, plan, options, seed and device already."""
    allowed = {"resume", "quiet", "cores", "streams"}
    if any(_is_given(ctx, name) for name in ctx.params if name not in allowed):
        raise click.UsageError(
            "--resume takes the folder of a run, --cores, --streams and --quiet: file, plan, "
            "options, seed and device are those that the run was begun with",
            ctx,
        )


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _resume(path: Path, quiet: bool, cores: int | None, streams: int | None) -> int:
    from fml.console import messages
    from fml.leaving import undoing
    from fml.progress import listener_for
    from fml.training import resume

    console = messages()
    with undoing():
        run = resume(
            path, {}, lambda plan: None if quiet else listener_for(plan, console), cores, streams
        )
    return _close(run, quiet)


def _close(run: "Run", quiet: bool, trace: Path | None = None) -> int:
    from fml.cli import BAD_INPUT
    from fml.closing import print_closing
    from fml.console import output, print_diagnostics
    from fml.leaving import INTERRUPTED

    print_diagnostics([w for data in run.data.values() for w in data.warnings])
    if run.failure is not None:
        print_diagnostics([run.failure])
    if not quiet:
        print_closing(run, output())
        if trace is not None and run.steps and trace.exists():
            output().print(f"trace:   {trace}, for https://ui.perfetto.dev", soft_wrap=True)
    if run.failure is not None:
        return BAD_INPUT
    return INTERRUPTED if run.interrupted else 0


def _print_options(file: Path) -> None:
    from fml.program import load

    program = load(file)
    # As wide as click's own help above it.
    formatter = click.HelpFormatter()
    rows: list[tuple[str, str]] = []
    for option in program.options.values():
        allowed = f"(in {option.allowed})" if option.allowed else ""
        words = " ".join(filter(None, (option.doc, allowed)))
        rows.append((f"{option.name}={_shown(option.default)}", words))
    with formatter.section(f"Options of {file}"):
        formatter.write_dl(rows or [("none", "")])
    plans = [(plan.name or "(unnamed)", plan.doc) for plan in program.checked.plans]
    with formatter.section(f"Plans of {file}"):
        formatter.write_dl(plans or [("none", "")])
    click.echo("\n" + formatter.getvalue().rstrip())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, cast('tuple[object, ...]', value)))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
