"""Dry runs: plans are carried out, and nothing is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fml.engine.backends.interface import Backend, Code, Launch
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.graph import Graph
from fml.engine.ops.record import Array
from fml.engine.plan.task import Work


@dataclass(frozen=True)
class NullBackend(NumpyBackend):
    """Has memory, streams and an order like any other; every kernel does nothing.

    Attributes:
        like: the backend whose works are planned: a dry run of its plans takes their memory.
    """

    like: Backend = field(default_factory=NumpyBackend)
    name = "null"

    @property
    def streams(self) -> int:  # pyright: ignore
        """Those that the other one has."""
        return self.like.streams

    def compile(self, graph: Graph) -> Code:
        """Return the other backend's works, none of which does anything."""
        return _Idle(self.like.compile(graph).works)

    def copy(self, source: Array, target: Array) -> Launch:
        """Return what does nothing."""
        return _nothing


@dataclass(frozen=True, slots=True)
class _Idle:
    works: Sequence[Work]

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
