"""Dry runs: plans are carried out, and nothing is computed."""

from collections.abc import Sequence

from fml.engine.backends.interface import Code, Launch
from fml.engine.backends.numpy import NodeByNode, NumpyBackend
from fml.engine.ir.graph import Graph
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.plan.task import Work


class NullBackend(NumpyBackend):
    """Has memory, streams and an order like any other; every kernel does nothing."""

    name = "null"

    def compile(self, graph: Graph) -> Code:
        """Return the nodes, none of which does anything."""
        return _Idle(graph)

    def copy(self, source: Array, target: Array) -> Launch:
        """Return what does nothing."""
        return _nothing


class _Idle(NodeByNode):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        for work in self.works:
            if OPS[graph[work.nodes[0]].op].compute is None:
                raise ValueError(f"`{graph[work.nodes[0]].op}` has nothing to compute")

    def launch(
        self,
        work: Work,
        inputs: Sequence[Array],
        results: Sequence[Array],
        scratch: Sequence[Array],
    ) -> Launch:
        return _nothing


def _nothing() -> None:
    return None
