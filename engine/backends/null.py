"""Dry runs: plans are carried out, and nothing is computed."""

from collections.abc import Sequence

from fml.engine.backends.interface import Launch
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.graph import Node
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS


class NullBackend(NumpyBackend):
    """Has memory, streams and an order like any other; every kernel does nothing."""

    name = "null"

    def kernel(self, node: Node, inputs: Sequence[Array], output: Array) -> Launch:
        """Return what does nothing, for a node that could be computed."""
        if OPS[node.op].compute is None:
            raise ValueError(f"`{node.op}` has nothing to compute: the runtime provides it")
        return _nothing

    def copy(self, source: Array, target: Array) -> Launch:
        """Return what does nothing."""
        return _nothing


def _nothing() -> None:
    return None
