"""numpy and the forms of kernels, imported when something of them is first asked for.

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

    from fml.engine.kernels import along, blocks, expr, loops
    from fml.engine.kernels import nest as nests
    from fml.engine.ops import lowering, max_pool_nests, philox_nest
else:
    np = _Later("numpy")
    along = _Later("fml.engine.kernels.along")
    blocks = _Later("fml.engine.kernels.blocks")
    expr = _Later("fml.engine.kernels.expr")
    loops = _Later("fml.engine.kernels.loops")
    nests = _Later("fml.engine.kernels.nest")
    lowering = _Later("fml.engine.ops.lowering")
    max_pool_nests = _Later("fml.engine.ops.max_pool_nests")
    philox_nest = _Later("fml.engine.ops.philox_nest")

__all__ = [
    "along", "blocks", "expr", "loops", "lowering", "max_pool_nests", "nests", "np", "philox_nest",
]  # fmt: skip
