"""A GPU that is none: asynchronous streams with CUDA's rules, random timing, numpy's kernels.

It shows that plans, executor and trainer need nothing that CUDA does not give, and finds plans
that lack a wait: other seeds are other times, and the bits must be those of one stream. A backend
for CUDA has the same parts: kernels in place of `Kernel`, streams and graphs of the driver in place
of `simulated_streams.py`, and `issuing.py` as it is.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from fml.engine.backends.interface import (
    Clock,
    Code,
    Gathered,
    Given,
    Issue,
    Launch,
    Loop,
    Taken,
    Trace,
)
from fml.engine.backends.issuing import Events, capture, issue, sections, together
from fml.engine.backends.numpy import LoopOfCalls, NumpyBackend, launch_of
from fml.engine.backends.simulated_streams import (
    CriticalSection,
    Device,
    Kernel,
    Lock,
    SimulatedStream,
    kernel_of,
)
from fml.engine.ir.graph import Graph
from fml.engine.ops.record import Array
from fml.engine.plan.order import node_by_node
from fml.engine.plan.task import Work


class SimulatedBackend(NumpyBackend):
    """Runs on the CPU as if it were elsewhere."""

    name = "simulated"
    steps_at_once = 16

    def __init__(self, seed: int, is_joined: bool = True, streams: int = 1) -> None:
        """`seed` makes the timing; unless `is_joined`, loops run on from iteration to iteration.

        If they are, an iteration is one replay of a captured graph. If not, streams are ordered by
        waits alone, as those of the CPU are, and critical sections come in any order.
        """
        super().__init__(streams)
        self.device = Device(seed)
        self._is_joined = is_joined

    def compile(self, graph: Graph) -> Code:
        """Return the nodes, each a kernel."""
        return _Kernels(self.device, graph)

    def allocate(self, nbytes: int) -> Array:
        """Return zeroed bytes."""
        self.device.require_no_capture("allocating")
        return super().allocate(nbytes)

    def copy(self, source: Array, target: Array) -> Kernel:
        """Return a copy of one view into another."""
        return Kernel(self.device, lambda: _write(target, source.copy()), (source,), (target,))

    def guarded(self, launch: Launch, guard: Array) -> Kernel:
        """Return a kernel that looks at the bool first."""
        kernel = kernel_of(launch)
        return replace(
            kernel,
            start=lambda: kernel.start() if guard[()] else _nothing,
            reads=(*kernel.reads, guard),
        )

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
        clock: Clock | None = None,
    ) -> Loop:
        """Return a loop on one stream; if there is a clock, the host waits before each look."""
        things = (*given, *body, *taken)
        if clock is not None:
            return LoopOfCalls(things, clock)
        return self.capture([Issue(thing) for thing in things], [0])

    def capture(
        self, issues: Sequence[Issue], devices: Sequence[int], trace: Trace | None = None
    ) -> Loop:
        """Return a loop on streams, of which there may be any number on one device.

        It keeps no time, so there is nothing to trace.
        """
        streams = [self.stream() for _ in devices]
        if self._is_joined:
            return _Replays(self.device, issues, streams)
        return _RunsOn(self.device, issues, streams)

    def upload(self, array: Array, target: Array) -> None:
        """Copy an array into a view that no work under way uses."""
        self.device.require_no_capture("writing on the host")
        self.device.require_unused([target])
        super().upload(array, target)

    def download(self, source: Array) -> Array:
        """Return a copy of a view that no work under way writes."""
        self.device.require_no_capture("reading on the host")
        self.device.require_unused([source], by_writers_only=True)
        return super().download(source)

    def stream(self) -> SimulatedStream:
        """Make a stream."""
        return SimulatedStream(self.device)


class _Kernels:
    """A graph's nodes as kernels that compute in memory of their own."""

    def __init__(self, device: Device, graph: Graph) -> None:
        self._device, self._graph = device, graph
        self.works = node_by_node(graph)

    def launch(
        self,
        work: Work,
        inputs: Sequence[Array],
        results: Sequence[Array],
        scratch: Sequence[Array],
    ) -> Kernel:
        """Return the kernel of a node."""
        (result,) = results
        own, made = [np.empty_like(view) for view in inputs], np.empty_like(result)
        compute = launch_of(self._graph[work.nodes[0]], own, made)

        def start() -> Launch:
            for mine, view in zip(own, inputs, strict=True):
                np.copyto(mine, view)
            compute()
            return _write(result, made)

        return Kernel(self._device, start, tuple(inputs), (result,))


@dataclass(slots=True, eq=False)
class _Tables:
    """Kernels that copy from the host's tables, and to them.

    Attributes:
        entry: which entry, in the device's memory.
        is_over: set once a number that ends the loop is not finite, where the host sees it.
    """

    device: Device
    entry: Array = field(default_factory=lambda: np.zeros((), np.int64))
    is_over: Array = field(default_factory=lambda: np.zeros((), np.bool_))

    def kernel(self, thing: Launch | Given | Gathered | Taken) -> Kernel:
        """Return a thing of a loop as a kernel."""
        match thing:
            case Given() | Gathered():
                start = partial(self._give, thing)
                return Kernel(self.device, start, (self.entry,), (thing.view,))
            case Taken():
                start = partial(self._take, thing)
                return Kernel(self.device, start, (self.entry, thing.view), (thing.table,))
            case _:
                return kernel_of(thing)

    def next(self) -> Kernel:
        """Return a kernel that goes to the next entry."""
        return Kernel(
            self.device, lambda: _write(self.entry, self.entry + 1), (self.entry,), (self.entry,)
        )

    def _give(self, thing: Given | Gathered) -> Launch:
        return _write(thing.view, np.array(thing.at(int(self.entry))))

    def _take(self, thing: Taken) -> Launch:
        entry, value = int(self.entry), thing.view.copy()

        def end() -> None:
            thing.table[entry] = value
            self.is_over |= thing.ends and not np.isfinite(value).all()

        return end


class _Replays:
    """A loop whose iteration is a graph, captured once: a replay costs the host one launch.

    A graph's operands are fixed, so the number of the iteration is in the device's memory, and the
    last kernel of the graph adds one to it.
    """

    def __init__(
        self, device: Device, issues: Sequence[Issue], streams: Sequence[SimulatedStream]
    ) -> None:
        self._tables = _Tables(device)
        self._stream = streams[0]
        self._is_told = False
        launches = [replace(one, thing=self._tables.kernel(one.thing)) for one in issues]
        self._graph = capture(launches, streams, self._tables.next())

    def run(self, iterations: int) -> int:
        """Replay, and look after each whether it was the last.

        From CUDA 12.4 on, a conditional node could do that without the host.
        """
        self._tables.entry[...], self._tables.is_over[...] = 0, False
        for iteration in range(iterations):
            self._graph.launch(self._stream)
            self._stream.synchronize()
            if self._is_told or self._tables.is_over:
                self._is_told = False
                return iteration + 1
        return iterations

    def end(self) -> None:
        """Let the replay under way, or the next, be the last of its call."""
        self._is_told = True


class _RunsOn:
    """A loop whose streams are not joined between iterations: waits alone order them."""

    def __init__(
        self, device: Device, issues: Sequence[Issue], streams: Sequence[SimulatedStream]
    ) -> None:
        self._device, self._streams = device, streams
        self._issues = together(issues)
        self._lock, self._sections = Lock(), sections(self._issues)
        self._furthest = max((before for one in issues for _, before in one.waits), default=0)
        self._is_told = False

    def run(self, iterations: int) -> int:
        """Issue iterations, none behind one that was seen to be the last, and wait for all."""
        past: deque[Events] = deque(maxlen=self._furthest)
        tables: list[_Tables] = []
        while len(tables) < iterations:
            tables.append(_Tables(self._device, np.asarray(len(tables))))
            past.appendleft(issue(self._launches(tables[-1]), self._streams, past))
            if self._is_told or any(one.is_over for one in tables):
                break
        self._is_told = False
        for stream in self._streams:
            stream.synchronize()
        return len(tables)

    def end(self) -> None:
        """Issue no more in this call, or one iteration in the next."""
        self._is_told = True

    def _launches(self, tables: _Tables) -> list[Issue]:
        """The things of an iteration as kernels, those of a critical section together."""
        kernels = [tables.kernel(one.thing) for one in self._issues]
        for places in self._sections:
            section = CriticalSection(self._lock, len(places))
            for place in places:
                kernels[place] = replace(kernels[place], section=section)
        return [replace(one, thing=k) for one, k in zip(self._issues, kernels, strict=True)]


def _write(target: Array, value: Array) -> Launch:
    """What ends a kernel."""
    return partial(np.copyto, target, value, casting="unsafe")


def _nothing() -> None:
    return None
