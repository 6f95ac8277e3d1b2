"""Train models written in `.fml`: `fml.load("model.fml").train()`.

Names are imported when first used, so that `import fml` and the command line start at once.
"""

TYPE_CHECKING = False  # to those who check types, it is true; importing it takes a while

if TYPE_CHECKING:
    from fml.engine.ir.diagnostics import FmlError
    from fml.program import Program, load, loads
    from fml.run import Run, open_run, resume
    from fml.version import __version__

__all__ = ["FmlError", "Program", "Run", "__version__", "load", "loads", "open_run", "resume"]

_HOMES = {
    "FmlError": "fml.engine.ir.diagnostics",
    "Program": "fml.program",
    "Run": "fml.run",
    "__version__": "fml.version",
    "load": "fml.program",
    "loads": "fml.program",
    "open_run": "fml.run",
    "resume": "fml.run",
}


def __getattr__(name: str) -> object:
    """Import a public name from where it is defined (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module `fml` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
