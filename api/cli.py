"""The command `fml`: finds its subcommands, and turns whatever goes wrong into an exit status.

Nothing heavy is imported before a subcommand needs it, so that `fml --help` answers at once.
"""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from fml.leaving import INTERRUPTED

BAD_INPUT, BUG, BROKEN_PIPE = 2, 70, 141
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

# Name: what it does. Each is the `command` of the module of its name in `fml.commands`.
COMMANDS = {
    "train": "Train a plan of a file.",
    "check": "Report all errors of files, and run nothing.",
    "eval": "Measure a finished run again on its data.",
    "predict": "Apply the model of a finished run to new rows.",
    "visualize": "Draw the graph of a plan.",
    "summary": "Show a plan's layers, shapes, parameters and costs.",
    "plan": "Show what a plan will do, before it runs.",
    "profile": "Show where the time of a training step goes.",
    "explain": "Explain an error code, with an example.",
}
_MODULES = {"eval": "evaluate"}


class Commands(click.Group):
    """Subcommands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"fml.commands.{_MODULES.get(cmd_name, cmd_name)}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand that is called; a wrong word gets its near ones."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_no_such_command(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _no_such_command(word: str) -> str:
    from fml.engine.ir.diagnostics import did_you_mean

    if word.endswith(".fml"):
        return f"there is no command `{word}`; did you mean `fml train {word}`?"
    return f"there is no command `{word}`; {did_you_mean(word, COMMANDS) or 'see `fml --help`'}"


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from fml.version import __version__

        click.echo(f"fml {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Train models that are written in .fml files."""


def run() -> NoReturn:
    """Run `main`, and go the shortest way out.

    Taking a program's objects apart one by one before the process ends took as long as `--help`.
    """
    warnings.showwarning = _show_warning
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _show_warning(message: Warning | str, *_: object) -> None:
    """Write what the user is warned of: the line of Python that does it is of no use to him."""
    click.echo(f"warning: {message}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 70 for a bug."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a letter shows another in its place.
            stream.reconfigure(errors="replace")  # pyright: ignore
    try:
        status = cli.main(args=arguments, prog_name="fml", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _leave_broken_pipe()
    except SystemExit as leaving:
        # Click's own way out of a broken pipe, and of a shell's questions for completion.
        return _leave_broken_pipe() if leaving.code == 1 else 0
    except KeyboardInterrupt:
        click.echo(err=True)
        return _report(click.Abort())
    except Exception as fault:
        return _report(fault)
    return status if isinstance(status, int) else 0


def _report(fault: Exception) -> int:
    """Print what went wrong to the standard error stream, in the words of its kind."""
    if isinstance(fault, click.Abort):
        click.echo("fml: interrupted", err=True)
        return INTERRUPTED
    if isinstance(fault, click.ClickException):
        if isinstance(fault, click.NoSuchOption):
            fault = _with_settings(fault)
        fault.show()
        return BAD_INPUT
    from fml.console import print_diagnostics
    from fml.engine.ir.diagnostics import FmlError, error

    # Files are written by name, and their faults told of as E0732: what has no name is the output.
    if isinstance(fault, OSError) and fault.errno in _FULL and fault.filename is None:
        _write_no_more()
        fault = error(
            "E0732", f"the output cannot be written: {fault.strerror}",
            help="make room for it, and type the command again",
        )  # fmt: skip
    if isinstance(fault, MemoryError):
        fault = error(
            "E0714", "there is not enough memory", notes=[str(fault)] if str(fault) else [],
            help="make the batches or the model smaller; `fml summary FILE` tells what they need",
        )  # fmt: skip
    if isinstance(fault, FmlError):
        print_diagnostics(fault.diagnostics)
        return BAD_INPUT
    return _report_bug(fault)


def _with_settings(fault: click.NoSuchOption) -> click.UsageError:
    """Say how options of a file are set, unless an option of the command is nearly meant."""
    from fml.engine.ir.diagnostics import did_you_mean

    if fault.ctx is None:
        return fault
    command = fault.ctx.command
    known = [name.lstrip("-") for parameter in command.params for name in parameter.opts]
    name = fault.option_name.lstrip("-")
    if "settings" not in known or did_you_mean(name, known):
        return fault
    words = f"Options of a file stand behind it: `fml {command.name} FILE {name}=...`"
    return click.UsageError(f"{fault.message} {words}", fault.ctx)


def _report_bug(fault: Exception) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(fault))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="fml-bug-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"fml {' '.join(sys.argv[1:])}\n\n{text}")
        where = f"what happened is in {file.name}"
    except OSError:
        where = f"it could not be saved: {traceback.format_exception_only(fault)[-1].strip()}"
    click.echo(f"fml: this is a bug in fml; {where}", err=True)
    return BUG


def _leave_broken_pipe() -> int:
    """Whoever read the output has gone (`fml check ... | head`): say nothing more."""
    _write_no_more()
    return BROKEN_PIPE


def _write_no_more() -> None:
    """Let the output go nowhere: Python would try to flush it once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
