"""The CPU by compiled code: clusters of nodes are kernels, and a loop is one native call.

A launch is an entry of a table (`kernels/llvm/walk.py`); several of them, repeated, are a walk
through the table without Python and without its lock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from fml.engine.backends.interface import (
    Backend,
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
from fml.engine.backends.numpy import LoopOfCalls, NumpyBackend
from fml.engine.backends.streams import Captured
from fml.engine.backends.table import Entry, Table, spans
from fml.engine.backends.workers import workers
from fml.engine.ir.graph import Graph
from fml.engine.ir.types import TensorType
from fml.engine.kernels.fusion import NotFusable
from fml.engine.kernels.llvm.compiled import Compiled, Signature, compiled
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.walk import caller, moves
from fml.engine.ops.record import Array
from fml.engine.plan.cluster import Cluster, apart
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of, recipes_of
from fml.engine.plan.memory import aligned
from fml.engine.plan.task import Work


class Clustered:
    """A graph's clusters as machine code."""

    def __init__(self, graph: Graph, host: Host, cores: int) -> None:
        self._host, self._cores = host, cores
        found = clusters(graph)
        try:
            kernels = compiled(recipes_of(graph, found), host)
        except NotFusable:
            # Slower, and right: what was put together cannot be told at its places.
            found = tuple(_fusable(graph, found, host))
            kernels = compiled(recipes_of(graph, found), host)
        self._kernels = {
            _work(graph, cluster, kernel.signature, cores): kernel
            for cluster, kernel in zip(found, kernels, strict=True)
        }
        self.works = tuple(self._kernels)

    def launch(
        self,
        work: Work,
        inputs: Sequence[Array],
        results: Sequence[Array],
        scratch: Sequence[Array],
    ) -> Launch:
        """Return the entry of a call."""
        kernel = self._kernels[work]
        return entry_of(kernel, inputs, [*results, *scratch], self._host, len(scratch), self._cores)


def _fusable(graph: Graph, found: Sequence[Cluster], host: Host) -> Iterator[Cluster]:
    """Clusters with those taken apart that no kernel can be made of."""
    for cluster in found:
        try:
            kernel_of(graph, cluster, "kernel", host)
        except NotFusable:
            yield from apart(graph, cluster)
        else:
            yield cluster


def entry_of(
    kernel: Compiled,
    reads: Sequence[Array],
    writes: Sequence[Array],
    host: Host,
    scratch: int = 0,
    cores: int = 1,
) -> Entry:
    """What calls a kernel that has no sizes but those of its parts.

    The last `scratch` of what is written are scratch, a piece for each of `cores`.
    """
    buffers, parts = [*reads, *writes], kernel.signature.parts
    assert len(buffers) == len(kernel.signature.buffers)
    count = cores if parts else 1
    own = [array.nbytes // count for array in writes[len(writes) - scratch :]]
    steps = [0] * (len(buffers) - scratch) + own
    rows = [
        [b.ctypes.data + n * step for b, step in zip(buffers, steps, strict=True)]
        for n in range(count)
    ]
    places = np.array(rows, np.int64)
    operands = (kernel.address, places.ctypes.data, *((parts,) if parts else ()))
    return Entry(
        caller(len(buffers), parts > 0, host),
        operands,
        tuple(map(spans, reads)),
        tuple(map(spans, writes)),
        (kernel, places, *buffers),
        is_shared=parts > 0,
    )


def _work(graph: Graph, cluster: Cluster, kernel: Signature, cores: int) -> Work:
    count, sharing = len(kernel.scratch), cores if kernel.parts else 1
    scratch = kernel.buffers[len(kernel.buffers) - count :]
    nbytes = (
        sharing * aligned(size * TensorType(buffer.element).nbytes)
        for size, buffer in zip(kernel.scratch, scratch, strict=True)
    )
    inputs = cluster.inputs
    if len(inputs) + len(cluster.results) + count < len(kernel.buffers):
        # A kernel that was written for one operation has a buffer for each of its operands.
        inputs = graph[cluster.nodes[-1]].inputs
    first = len(inputs)
    shared = tuple((given, made - first) for given, made in kernel.shared)
    return Work(cluster.nodes, inputs, cluster.results, cluster.guard, tuple(nbytes), shared)


class LlvmBackend(NumpyBackend):
    """Runs on the CPU, in arrays that numpy sees too."""

    name = "llvm"
    steps_at_once = 1024

    def __init__(self, cores: int | None = None, streams: int = 1) -> None:
        """Use so many cores at most; all that this process may use where none are given.

        One stream of each learner, or of a device without learners, is enough: who is idle helps
        with its kernels.
        """
        super().__init__(streams)
        self._host = Host.native()
        self._cores = min(cores or workers().count, workers().count)

    def oracle(self) -> Backend:
        """Return the numpy backend."""
        return NumpyBackend()

    def compile(self, graph: Graph) -> Code:
        """Return a graph's kernels."""
        return Clustered(graph, self._host, self._cores)

    def copy(self, source: Array, target: Array) -> Launch:
        """Return a copy of one view into another."""
        if not (source.flags.c_contiguous and source.dtype == target.dtype):
            return super().copy(source, target)
        return self._copy(target, source, source.nbytes)

    def guarded(self, launch: Launch, guard: Array) -> Launch:
        """Return the entry with its guard."""
        if isinstance(launch, Entry):
            read = (*launch.reads, spans(guard))
            kept = (*launch.kept, guard)
            return replace(launch, guard=guard.ctypes.data, reads=read, kept=kept)
        return super().guarded(launch, guard)

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
        clock: Clock | None = None,
    ) -> Loop:
        """Return a table, or calls one by one where something has no entry."""
        entries = self._entries((*given, *body, *taken))
        if entries is not None:
            if clock is not None:
                looks = self._looks(clock)
                pairs = zip(looks[:-1], entries, strict=True)
                entries = [*(entry for pair in pairs for entry in pair), looks[-1]]
            return Table(entries, self._cores)
        if clock is not None:
            # One by one, so that there is something between them.
            apart = [one for call in body for one in _joined([call])]
            return LoopOfCalls((*given, *apart, *taken), clock)
        return LoopOfCalls((*given, *_joined(body), *taken))

    def capture(
        self, issues: Sequence[Issue], devices: Sequence[int], trace: Trace | None = None
    ) -> Loop:
        """Return streams that workers take by turns, or calls one by one as `loop`."""
        entries = self._entries([issue.thing for issue in issues])
        if entries is None:
            return super().capture(issues, devices, trace)
        return Captured(issues, entries, devices, self._cores, trace)

    def _entries(self, things: Sequence[Launch | Given | Gathered | Taken]) -> list[Entry] | None:
        """An entry of each, or nothing where one has none."""
        entries: list[Entry] = []
        for thing in things:
            match thing:
                case Given() | Gathered():
                    entry = self._given(thing)
                case Taken():
                    entry = self._taken(thing)
                case _:
                    entry = thing
            if not isinstance(entry, Entry):
                return None
            entries.append(entry)
        return entries

    def _given(self, one: Given | Gathered) -> Entry | None:
        view = one.view
        if isinstance(one, Given):
            if one.table.dtype != view.dtype or not one.table.flags.c_contiguous:
                return None
            return self._copy(view, one.table, view.nbytes, 0, view.nbytes)
        is_alike = one.source.dtype == view.dtype and one.source.shape[1:] == view.shape[1:]
        if not (is_alike and one.source.flags.c_contiguous and one.order.dtype == np.int64):
            return None
        rows = len(view)
        operands = (
            view.ctypes.data, one.source.ctypes.data, view.nbytes // max(rows, 1), rows,
            one.order.ctypes.data,
        )  # fmt: skip
        kept = (view, one.source, one.order)
        function = moves(self._host)["gather"]
        return Entry(function, operands, (), (spans(view),), kept, is_shared=True)

    def _taken(self, one: Taken) -> Entry | None:
        view, table = one.view, one.table
        if table.dtype != view.dtype or not table.flags.c_contiguous:
            return None
        if not one.ends:
            return self._copy(table, view, view.nbytes, view.nbytes, 0)
        assert view.size == 1, "a number ends a loop"
        # The exponent's bits are in the last two bytes.
        mask = {2: 0x7C00, 4: 0x7F80, 8: 0x7FF0}[view.itemsize]
        operands = (table.ctypes.data, view.ctypes.data, view.nbytes, mask)
        function = moves(self._host)["watch"]
        return Entry(function, operands, (spans(view),), (spans(table),), (table, view))

    def _looks(self, clock: Clock) -> list[Entry]:
        """What looks at the clock before each thing of a loop, and behind the last."""
        ticks = clock.ticks
        first, step = ticks.ctypes.data, ticks.strides[0]
        places = range(first, first + step, ticks.itemsize)
        look = moves(self._host)["clock"]
        return [Entry(look, (place, step), (), (spans(ticks),), (ticks,)) for place in places]

    def _copy(
        self, target: Array, source: Array, nbytes: int, to_step: int = 0, from_step: int = 0
    ) -> Entry:
        operands = (target.ctypes.data, source.ctypes.data, nbytes, to_step, from_step)
        function = moves(self._host)["copy"]
        return Entry(function, operands, (spans(source),), (spans(target),), (target, source))


def _joined(body: Sequence[Launch]) -> list[Launch]:
    """Launches with every run of entries as one table."""
    made: list[Launch] = []
    run: list[Entry] = []
    for launch in (*body, None):
        if isinstance(launch, Entry):
            run.append(launch)
            continue
        if run:
            table = Table(run)
            made.append(lambda table=table: cast(None, table.run(1)))
            run = []
        if launch is not None:
            made.append(launch)
    return made
