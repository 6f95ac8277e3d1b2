"""`fml explain`: the page of an error code."""

from importlib import resources
from importlib.resources.abc import Traversable

import click


@click.command("explain", short_help="Explain an error code, with an example.")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain an error CODE such as E0301, with a wrong and a right example; without, list all."""
    pages = _pages()
    if code is None:
        for name, page in pages.items():
            click.echo(f"{name}  {_title(page)}")
        return
    name = code.strip().upper()
    if name not in pages:
        from fml.engine.ir.diagnostics import did_you_mean, error

        listed = "`fml explain` lists all codes"
        raise error("E0738", f"there is no code `{code}`", help=did_you_mean(name, pages) or listed)
    _print(pages[name].read_text(encoding="utf-8"))


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
