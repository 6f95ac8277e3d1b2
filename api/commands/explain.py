"""`fml explain`: the page of an error code, or a definition of `std`."""

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

import click

# How many codes are told where there is none of the number that was given.
_NEAR = 4


@click.command("explain", short_help="Explain an error code, or show a definition of std.")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain an error CODE, with a wrong and a right example; without CODE, list all.

    `E0301`, `e301` and `301` are the same code. A name such as `adam` or `conv` is shown as it is
    defined in std.
    """
    pages = _pages()
    if code is None:
        for name, page in pages.items():
            click.echo(f"{name}  {_title(page)}")
        return
    name = _code(code)
    if name not in pages and _show_definition(code.strip()):
        return
    if name not in pages:
        from fml.engine.ir.diagnostics import error

        near = [f"{near}  {_title(pages[near])}" for near in _near(name, pages)]
        listed = "`fml explain` lists all codes"
        raise error("E0738", f"there is no code `{code}`", notes=near, help=listed)
    _print(pages[name].read_text(encoding="utf-8"))


def _show_definition(name: str) -> bool:
    """Print what `std` says of a name; False if there is none."""
    from fml.dsl.modules import std_index

    entry = std_index().get(name)
    if entry is None:
        return False
    click.echo(f"# std/{entry.file}\n{entry.text.strip()}")
    return True


def _code(text: str) -> str:
    """Return a code as it is written: `E0301` for `e301` and `301`."""
    written = re.fullmatch(r"([EW]?)(\d{1,4})", text.strip().upper())
    return f"{written[1] or 'E'}{written[2]:0>4}" if written else text.strip()


def _near(name: str, pages: Mapping[str, Traversable]) -> list[str]:
    """The nearest codes of the same hundred; for words, those that have them in their titles."""
    if not re.fullmatch(r"[EW]\d{4}", name):
        words = name.lower()
        return [c for c, page in pages.items() if words and words in _title(page).lower()]
    family = [code for code in pages if code[:3] == name[:3]]
    family = family or [code for code in pages if code[0] == name[0]]
    nearest = sorted(family, key=lambda code: abs(int(code[1:]) - int(name[1:])))
    return sorted(nearest[:_NEAR])


def _pages() -> dict[str, Traversable]:
    """The pages by code; they are `docs/errors` in the repository."""
    folder = resources.files("fml").joinpath("errors")
    files = (file for file in folder.iterdir() if file.name.endswith(".md"))
    return {file.name.removesuffix(".md"): file for file in sorted(files, key=lambda f: f.name)}


def _title(page: Traversable) -> str:
    first = page.read_text(encoding="utf-8").partition("\n")[0]
    return first.partition(":")[2].strip()


def _print(page: str) -> None:
    from fml.console import output

    console = output()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(page, code_theme="ansi_dark"))
    else:
        click.echo(page.rstrip())
