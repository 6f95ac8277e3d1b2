"""numpy under its usual name, imported when something of it is first asked for.

The language asks operations for types alone, and `fml check` does not wait for numpy. What stands
at the top of a file of this folder must not ask: annotations are quoted, or `Array` and
`Generator` of `record.py`.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING


class _Later(ModuleType):
    """Stands for the module of its name, and keeps what was asked for."""

    def __getattr__(self, name: str) -> object:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import numpy as np
else:
    np = _Later("numpy")

__all__ = ["np"]
