"""Packages that one source needs and the others do not: imported where they are used."""

from importlib import import_module
from typing import Any

from fml.engine.ir.diagnostics import error


def imported(module: str, package: str, source: str) -> Any:
    """Import a module of the package that a source reads with; the extra has the source's name.

    Raises:
        FmlError: E0512, the package is not installed, or cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as reason:
        raise error(
            "E0512", f"`{source}` reads with {package}, which is not installed",
            notes=[str(reason)], help=f"pip install 'fml-lang[{source}]'",
        ) from None  # fmt: skip
