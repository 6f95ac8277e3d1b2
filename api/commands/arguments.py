"""What several subcommands take: a file, options of that file, a plan, a run."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def options_of_file(function: F) -> F:
    """Let a subcommand take `name=value` behind the file."""
    return click.argument("settings", nargs=-1, metavar="[NAME=VALUE]...")(function)


def plan(function: F) -> F:
    """Let a subcommand take `--plan`."""
    words = "The plan to take; the first in the file without it."
    return click.option("--plan", metavar="NAME", help=words)(function)


def streams(function: F) -> F:
    """Let a subcommand take `--streams`."""
    words = "Plan for so many streams at most of each learner and device; the result is the same."
    option = click.option(
        "--streams", metavar="N", type=click.IntRange(min=1), default=1, help=words
    )
    return option(function)


def devices(function: F) -> F:
    """Let a subcommand take `--devices`."""
    words = "The CPU as so many devices, groups of cores, each with the plan's learners per device."
    kind = click.IntRange(min=1)
    return click.option("--devices", metavar="N", type=kind, default=1, help=words)(function)


def not_a_setting(ctx: click.Context, _: click.Parameter, file: Path | None) -> Path | None:
    """Refuse `lr=0.1` where the file belongs, and say what comes first; not beside `--resume`.

    Raises:
        FmlError: E0736.
    """
    if ctx.params.get("resume") is not None:
        return file  # there is no file to come first, and the subcommand says so
    if file is None or "=" not in str(file) or file.suffix == ".fml" or file.exists():
        return file
    from fml.engine.ir.diagnostics import error

    raise error(
        "E0736",
        f"`{file}` stands where the file belongs",
        help=f"the file comes first: `fml {ctx.command.name} FILE {file}`",
    )


file = click.argument("file", type=click.Path(path_type=Path), callback=not_a_setting)
run = click.argument("run", type=click.Path(path_type=Path))


def parsed(settings: Iterable[str]) -> dict[str, object]:
    """Return `name=value` arguments by name, values as they were typed.

    Raises:
        FmlError: one has no `=` or no name (E0736), or a name comes twice (E0737).
    """
    from fml.engine.ir.diagnostics import error

    values: dict[str, object] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        name = name.strip()
        if not sign or not name:
            raise error(
                "E0736",
                f"`{setting}` does not set an option of the file",
                help="write `name=value`, as in `lr=0.1`",
            )
        if name in values:
            raise error("E0737", f"`{name}` is set twice", help="set each option once")
        values[name] = value.strip()
    return values
