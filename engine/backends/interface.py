"""What a backend is, in CUDA's terms: memory, streams, events, kernels.

The CPU and the GPU implement the same few names; the executor knows no others.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from fml.engine.ir.graph import Node
from fml.engine.ir.types import TensorType
from fml.engine.ops.record import Array

# Memory and views of it are the backend's own: numpy arrays here, CuPy arrays on a GPU.
Memory: TypeAlias = Any
View: TypeAlias = Any
Launch: TypeAlias = Callable[[], None]


class Event(Protocol):
    """A point in a stream's work."""

    def synchronize(self) -> None:
        """Wait on the host until that point is reached."""
        ...


class Stream(Protocol):
    """Work in order of issue."""

    def enqueue(self, launch: Launch) -> None:
        """Add work."""
        ...

    def record(self) -> Event:
        """Return an event behind the work added so far."""
        ...

    def wait(self, event: Event) -> None:
        """Let later work wait for an event of another stream."""
        ...

    def synchronize(self) -> None:
        """Wait on the host for all work added so far."""
        ...


class Backend(Protocol):
    """A way to run plans."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    def allocate(self, nbytes: int) -> Memory:
        """Return bytes set to 0."""
        ...

    def view(self, memory: Memory, offset: int, type: TensorType) -> View:
        """Return a part of a memory as an array of a definite type."""
        ...

    def kernel(self, node: Node, inputs: Sequence[View], output: View) -> Launch:
        """Return what computes a node from its inputs' views into its output's."""
        ...

    def copy(self, source: View, target: View) -> Launch:
        """Return what copies one view into another."""
        ...

    def upload(self, array: Array, target: View) -> None:
        """Copy from the host, now; numpy's rules of broadcasting and casting hold."""
        ...

    def download(self, source: View) -> Array:
        """Return a copy on the host."""
        ...

    def stream(self) -> Stream:
        """Make a stream."""
        ...

    def at_work(self) -> AbstractContextManager[object]:
        """Return what has to hold while kernels run, and no longer."""
        ...
