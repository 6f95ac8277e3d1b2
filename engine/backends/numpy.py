"""The oracle: every operation by its record's numpy implementation, at once and in order."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any, cast

import numpy as np
from threadpoolctl import ThreadpoolController

from fml.engine.backends.interface import (
    Backend,
    Clock,
    Code,
    Gathered,
    Given,
    Issue,
    Launch,
    LaunchError,
    Loop,
    Taken,
    Trace,
)
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import TensorType
from fml.engine.ops.precision import NARROW, computed
from fml.engine.ops.record import Array
from fml.engine.ops.scalar import Apply, Argument, Scalar, functions
from fml.engine.ops.table import OPS
from fml.engine.plan.order import node_by_node
from fml.engine.plan.task import Work


class NodeByNode:
    """A graph computed by the records' numpy implementations, each node for itself."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.works = node_by_node(graph)

    def launch(
        self,
        work: Work,
        inputs: Sequence[Array],
        results: Sequence[Array],
        scratch: Sequence[Array],
    ) -> Launch:
        """Return a call of a node's `compute`, or of the one ufunc that it is."""
        return launch_of(self._graph[work.nodes[0]], inputs, results[0])


def launch_of(node: Node, inputs: Sequence[Array], output: Array) -> Launch:
    """Return what computes a node from its inputs' arrays into its output's."""
    op, type, given = OPS[node.op], node.type, tuple(inputs)
    ufunc = None if type.element in NARROW else _only_ufunc(op.scalar, inputs, output)
    if ufunc is not None:
        return partial(ufunc, *inputs, out=output)

    def launch() -> None:
        np.copyto(output, computed(op, given, node.attributes, type), casting="unsafe")

    return launch


class LoopOfCalls:
    """Repeats things one by one; the unit of a clock and of a trace is the nanosecond."""

    def __init__(
        self,
        things: Sequence[Launch | Given | Gathered | Taken],
        looks: Clock | Trace | None = None,
    ) -> None:
        self._things, self._looks = things, looks
        self._is_told = False

    def run(self, iterations: int) -> int:
        """Carry out iterations until one gives a number that ends them.

        Raises:
            LaunchError: as the interface says.
        """
        try:
            for iteration in range(iterations):
                match self._looks:
                    case Clock(ticks):
                        is_last = self._timed(iteration, ticks)
                    case Trace(rows):
                        is_last = self._traced(iteration, rows)
                    case None:
                        is_last = self._once(iteration)
                if is_last or self._is_told:
                    return iteration + 1
            return iterations
        finally:
            self._is_told = False

    def end(self) -> None:
        """Let the iteration under way, or the next, be the last of its call."""
        self._is_told = True

    def _once(self, iteration: int) -> bool:
        """Carry out one; say whether it is the last."""
        is_last = False
        for thing in self._things:
            is_last |= _is_done(thing, iteration)
        return is_last

    def _timed(self, iteration: int, times: Array) -> bool:
        """The same, with a look at the clock between any two things."""
        now, is_last = time.perf_counter_ns, False
        ticks = [now()]
        for thing in self._things:
            is_last |= _is_done(thing, iteration)
            ticks.append(now())
        times[iteration] = ticks
        return is_last

    def _traced(self, iteration: int, rows: Array) -> bool:
        """The same, with a look at the clock around each thing; all are done by number 0."""
        now, is_last = time.perf_counter_ns, False
        for row, thing in zip(rows[iteration], self._things, strict=True):
            begun = now()
            is_last |= _is_done(thing, iteration)
            row[:] = begun, now(), 0
        return is_last


def _is_done(thing: Launch | Given | Gathered | Taken, iteration: int) -> bool:
    """Do one thing of an iteration; say whether it ends the loop."""
    try:
        match thing:
            case Given() | Gathered():
                np.copyto(thing.view, thing.at(iteration), casting="unsafe")
            case Taken():
                thing.table[iteration] = thing.view
                return thing.ends and not np.isfinite(thing.view).all()
            case _:
                thing()
    except Exception as cause:
        raise LaunchError(thing, iteration) from cause
    return False


class NumpyBackend:
    """Runs on the CPU, on numpy arrays."""

    name = "numpy"
    steps_at_once = 1
    streams = 1

    def __init__(self, streams: int = 1) -> None:
        """Plan steps for so many streams at most; they are carried out one after another."""
        self.streams = streams

    def oracle(self) -> Backend:
        """Return this one."""
        return self

    def compile(self, graph: Graph) -> Code:
        """Return the nodes, one by one."""
        return NodeByNode(graph)

    def allocate(self, nbytes: int) -> Array:
        """Return zeroed bytes."""
        return np.zeros(nbytes, np.uint8)

    def view(self, memory: Array, offset: int, type: TensorType) -> Array:
        """Return a typed view of a part of the bytes."""
        part = memory[offset : offset + type.nbytes]
        return part.view(type.dtype).reshape(type.sizes)

    def part(self, memory: Array, offset: int, nbytes: int) -> Array:
        """Return a view of a part of the bytes."""
        return memory[offset : offset + nbytes]

    def copy(self, source: Array, target: Array) -> Launch:
        """Return a copy of one view into another."""
        return lambda: np.copyto(target, source)

    def guarded(self, launch: Launch, guard: Array) -> Launch:
        """Return a call that looks at the bool first."""

        def guarded() -> None:
            if guard[()]:
                launch()

        return guarded

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
        clock: Clock | None = None,
    ) -> Loop:
        """Return a loop of calls."""
        return LoopOfCalls((*given, *body, *taken), clock)

    def capture(
        self, issues: Sequence[Issue], devices: Sequence[int], trace: Trace | None = None
    ) -> Loop:
        """Return a loop of calls, in the order of issue."""
        return LoopOfCalls([issue.thing for issue in issues], trace)

    def upload(self, array: Array, target: Array) -> None:
        """Copy an array into a view."""
        np.copyto(target, array, casting="unsafe")

    def download(self, source: Array) -> Array:
        """Return a copy of a view."""
        return source.copy()

    def at_work(self) -> AbstractContextManager[object]:
        """Keep matrix products on one thread.

        The threads of BLAS change the order of a sum, and so its bits, with the number of cores;
        and they wait actively: with another process on the machine small products took 50 times
        as long.
        """
        return cast(Any, _thread_pools()).limit(limits=1, user_api="blas")


@cache
def _thread_pools() -> ThreadpoolController:
    """The libraries are looked for once, after numpy has loaded its own."""
    return ThreadpoolController()


def _only_ufunc(scalar: Scalar | None, inputs: Sequence[Array], output: Array) -> np.ufunc | None:
    """Return the ufunc that is all of an elementwise operation, if it computes in its own type.

    It then writes to the output itself: for small arrays most of the time is spent on the way
    there, and the bits are the same.
    """
    if not isinstance(scalar, Apply):
        return None
    function = functions()[scalar.function]
    in_order = tuple(Argument(place) for place in range(len(inputs)))
    if scalar.operands != in_order or not isinstance(function, np.ufunc):
        return None
    given = tuple(array.dtype for array in inputs)
    if np.dtype(np.float16) in given or len(set(given)) > 1:
        return None
    computed = function.resolve_dtypes((*given, None))
    return function if computed == (*given, output.dtype) else None
