"""What a backend is, in CUDA's terms: memory, streams, events, kernels.

The CPU and the GPU implement the same few names; the executor knows no others.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from fml.engine.ir.graph import Graph
from fml.engine.ir.types import TensorType
from fml.engine.ops.record import Array
from fml.engine.plan.task import Work

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


class Code(Protocol):
    """A graph of definite sizes as a backend computes it."""

    @property
    def works(self) -> Sequence[Work]:
        """What it does in one go each, in an order in which it can be done."""
        ...

    def launch(
        self,
        work: Work,
        inputs: Sequence[View],
        results: Sequence[View],
        scratch: Sequence[Memory],
    ) -> Launch:
        """Return what does one of the works, from its inputs' views into its results'."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Before iteration i, a view is given entry i of a table on the host."""

    view: View
    table: Array

    def at(self, iteration: int) -> Array:
        """What the view is given."""
        return self.table[iteration]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Before iteration i, a view is given rows of an array on the host: those of `order[i]`.

    `order` is i64[iterations, rows].
    """

    view: View
    source: Array
    order: Array

    def at(self, iteration: int) -> Array:
        """What the view is given."""
        return self.source[self.order[iteration]]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """After iteration i, a view is copied to entry i of a table on the host.

    The loop ends there if `ends` and the value is not finite.
    """

    view: View
    table: Array
    ends: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """In iteration i, `ticks[i]` has the time before each thing that a loop does, and at its end.

    The things are what is given, the launches, and what is taken, in this order; `ticks` is
    i64[iterations, things + 1], in a unit of the backend's own that does not change.
    """

    ticks: Array


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """One thing of a loop on several streams.

    Attributes:
        thing: what is done in every iteration.
        stream: on which; things of one stream are done in their order, iteration after iteration.
        waits: things of other streams that must be done first: pairs of a place among all things
            and how many iterations before. What lies before the first iteration is done.
        is_critical: no two critical things are done at the same time. Those that follow each
            other on one stream are one critical section: nothing critical comes between them, and
            it begins when everything that any of them waits for is done.
        is_apart: it begins another section though it follows on a critical one.
    """

    thing: Launch | Given | Gathered | Taken
    stream: int = 0
    waits: tuple[tuple[int, int], ...] = ()
    is_critical: bool = False
    is_apart: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """In iteration i, `rows[i]` has of each issue when it began, when it ended, and who did it.

    `rows` is i64[iterations, issues, 3]; times are in a unit of the backend's own that does not
    change, and those who do something at the same time have different numbers, from 0 on. What one
    thing waits for has ended before it begins.
    """

    rows: Array


class LaunchError(Exception):
    """A thing of a loop raised, which is the cause of this.

    Attributes:
        thing: which; what stands before it in the loop is done, and nothing behind it.
        iteration: in which iteration of the call.
    """

    def __init__(self, thing: Launch | Given | Gathered | Taken, iteration: int) -> None:
        self.thing, self.iteration = thing, iteration
        super().__init__(f"a launch failed in iteration {iteration}")


class Loop(Protocol):
    """Launches that are repeated, without Python wherever the backend can."""

    def run(self, iterations: int) -> int:
        """Carry out so many iterations, or fewer if one ends the loop; return how many.

        Raises:
            LaunchError: one of the things is done in Python, and raised.
        """
        ...

    def end(self) -> None:
        """Let the iteration under way, or else the first of the next call, be the last of it."""
        ...


class Backend(Protocol):
    """A way to run plans."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def steps_at_once(self) -> int:
        """How many iterations a loop may be asked for, so that it comes back soon enough."""
        ...

    @property
    def streams(self) -> int:
        """How many streams of each learner, and of each device, a step may be planned for."""
        ...

    def oracle(self) -> "Backend":
        """Return a backend on the same memory that computes every node for itself."""
        ...

    def compile(self, graph: Graph) -> Code:
        """Return how a graph of definite sizes is computed."""
        ...

    def allocate(self, nbytes: int) -> Memory:
        """Return bytes set to 0."""
        ...

    def view(self, memory: Memory, offset: int, type: TensorType) -> View:
        """Return a part of a memory as an array of a definite type."""
        ...

    def part(self, memory: Memory, offset: int, nbytes: int) -> Memory:
        """Return a part of a memory."""
        ...

    def copy(self, source: View, target: View) -> Launch:
        """Return what copies one view into another."""
        ...

    def guarded(self, launch: Launch, guard: View) -> Launch:
        """Return what does the same where a bool is true, and else nothing."""
        ...

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
        clock: Clock | None = None,
    ) -> Loop:
        """Return what repeats launches in their order, and looks at a clock between any two."""
        ...

    def capture(
        self, issues: Sequence[Issue], devices: Sequence[int], trace: Trace | None = None
    ) -> Loop:
        """Return what repeats things on streams, as one graph of events captured once.

        They stand in an order in which one stream could do them all; `devices[s]` is the device of
        stream s. When `run` returns, all streams have done the same number of iterations: the
        last is the furthest that one had begun when the loop was ended.
        """
        ...

    def upload(self, array: Array, target: View) -> None:
        """Copy from the host, now; numpy's rules of broadcasting and casting hold."""
        ...

    def download(self, source: View) -> Array:
        """Return a copy on the host."""
        ...

    def at_work(self) -> AbstractContextManager[object]:
        """Return what has to hold while kernels run, and no longer."""
        ...
