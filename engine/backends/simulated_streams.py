"""Streams, events and captured graphs by CUDA's rules, without a GPU, in random time.

All is one graph: a kernel comes after some others, and a stream is what its next kernel comes
after. Capturing only changes where that is written down. The rules are those of the CUDA C++
programming guide, "Creating a graph using stream capture"; errors have the runtime's names.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from fml.engine.backends.interface import Event, Launch, Stream
from fml.engine.ops.record import Array


class CudaError(Exception):
    """A rule of CUDA's was broken: a bug in a backend or in what uses it."""

    def __init__(self, name: str, reason: str) -> None:
        """`name` is that of the runtime's error."""
        super().__init__(f"{name}: {reason}")
        self.name = name


@dataclass(slots=True, eq=False)
class Lock:
    """Held by one critical section from the start of its first kernel to the end of its last."""

    holder: "CriticalSection | None" = None


@dataclass(slots=True, eq=False)
class CriticalSection:
    """Kernels of one stream between which no other section's may run; `left` are to come."""

    lock: Lock
    left: int

    @property
    def may_go_on(self) -> bool:
        """Whether no other section is under way."""
        return self.lock.holder in (None, self)

    def begin(self) -> None:
        """One of its kernels starts."""
        self.lock.holder = self

    def end(self) -> None:
        """One of its kernels has ended."""
        self.left -= 1
        if not self.left:
            self.lock.holder = None


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Reads all when it starts, and writes all when it ends: others may run between.

    Attributes:
        device: where it runs; called from the host, it is done there at once.
        start: reads, and returns what writes.
        reads: the memory that it reads, and `writes` that it writes.
        section: the critical section that it belongs to.
    """

    device: "Device"
    start: Callable[[], Launch]
    reads: tuple[Array, ...] = ()
    writes: tuple[Array, ...] = ()
    section: CriticalSection | None = None

    def __call__(self) -> None:
        """Do it while the host waits, on no stream."""
        self.device.require_no_capture("a launch on the default stream")
        self.device.require_unused(self.reads, by_writers_only=True)
        self.device.require_unused(self.writes)
        self.start()()


def kernel_of(launch: object) -> Kernel:
    """Return a launch, which must be a kernel: a device calls no Python."""
    if not isinstance(launch, Kernel):
        raise CudaError("cudaErrorInvalidDeviceFunction", f"{launch!r} is no kernel")
    return launch


@dataclass(slots=True, eq=False)
class Node:
    """A kernel that comes after others, and how far it is."""

    kernel: Kernel
    after: tuple["Node", ...] = field(repr=False)
    haste: float = 1.0
    left: int = 0  # how many of those before it are not done
    then: list["Node"] = field(default_factory=list["Node"], repr=False)
    end: Launch | None = None  # what it still has to write, once it has started
    is_done: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether it can start, or end, now."""
        section = self.kernel.section
        return self.end is not None or section is None or section.may_go_on


class Device:
    """What is under way, in random time."""

    def __init__(self, seed: int) -> None:
        self.capture: Capture | None = None
        self._random = Random(seed)
        self._pace = self._random.uniform(0, 0.8)  # some are far behind the host, others keep up
        self._pending: dict[Node, None] = {}  # in the order of submission, for the same seed's sake
        self._ready: list[Node] = []  # of these, all that come after nothing pending

    # --- work -----------------------------------------------------------------------------------

    def add(self, kernel: Kernel, after: Iterable[Node]) -> Node:
        """Submit a kernel, and return at once."""
        # Some are a thousand times as hasty as others: orders far from that of issue are seen too.
        node = Node(kernel, tuple(n for n in after if not n.is_done))
        node.haste, node.left = 10 ** -self._random.uniform(0, 3), len(node.after)
        for earlier in node.after:
            earlier.then.append(node)
        self._pending[node] = None
        if not node.left:
            self._ready.append(node)
        self._meanwhile()
        return node

    def finish(self, nodes: Iterable[Node]) -> None:
        """Let time pass until some are done."""
        for node in nodes:
            while not node.is_done:
                if not self._may_advance():
                    raise RuntimeError("critical sections wait for each other for ever")
                self._advance()
        self._meanwhile()

    def _meanwhile(self) -> None:
        """Get on while the host does something else."""
        while self._random.random() < self._pace and self._may_advance():
            self._advance()

    def _may_advance(self) -> bool:
        return any(node.may_go_on for node in self._ready)

    def _advance(self) -> None:
        """Let one kernel start, or end."""
        able = [node for node in self._ready if node.may_go_on]
        (node,) = self._random.choices(able, [node.haste for node in able])
        section = node.kernel.section
        if node.end is None:
            node.end = node.kernel.start()
            if section is not None:
                section.begin()
            return
        node.end()
        if section is not None:
            section.end()
        self._done(node)

    def _done(self, node: Node) -> None:
        node.is_done = True
        node.after = ()
        del self._pending[node]
        self._ready.remove(node)
        for later in node.then:
            later.left -= 1
            if not later.left:
                self._ready.append(later)

    # --- what the host must not do ----------------------------------------------------------------

    def require_unused(self, memory: Iterable[Array], by_writers_only: bool = False) -> None:
        """Refuse memory that work under way writes, or reads; the host would have to wait first.

        CUDA does not notice: it would give what happens to be there.
        """
        own = tuple(memory)
        for kernel in (node.kernel for node in self._pending):
            used = kernel.writes if by_writers_only else (*kernel.writes, *kernel.reads)
            if any(np.may_share_memory(one, other) for one in own for other in used):
                raise CudaError("cudaErrorNotReady", "work under way uses this memory")

    def require_no_capture(self, what: str) -> None:
        """Refuse what would happen now while something is only written down."""
        if self.capture is not None:
            self.capture.fail("cudaErrorStreamCaptureUnsupported", f"{what} during capture")


class Capture:
    """A graph while it is written down."""

    def __init__(self, origin: "SimulatedStream") -> None:
        self.origin = origin
        self.nodes: list[Node] = []
        self.joined: list[SimulatedStream] = [origin]
        self.is_valid = True

    def add(self, kernel: Kernel, after: Iterable[Node]) -> Node:
        """Write a kernel down."""
        self.nodes.append(Node(kernel, tuple(after)))
        return self.nodes[-1]

    def fail(self, name: str, reason: str) -> None:
        """Make the capture worthless, and say why."""
        self.is_valid = False
        raise CudaError(name, reason)

    def require_valid(self) -> None:
        """Refuse to go on after an error."""
        if not self.is_valid:
            raise CudaError("cudaErrorStreamCaptureInvalidated", "an error came before")


@dataclass(frozen=True, slots=True)
class CapturedGraph:
    """Kernels and which come after which; streams and events are gone."""

    device: Device
    nodes: tuple[Node, ...]
    last: tuple[Node, ...]

    def launch(self, stream: Stream) -> None:
        """Do all of it once, in any order that it allows, in its turn on a stream."""
        assert isinstance(stream, SimulatedStream)
        self.device.require_no_capture("a launch of another graph")
        made: dict[Node, Node] = {}
        for node in self.nodes:
            after = [made[n] for n in node.after] or stream.after
            made[node] = self.device.add(node.kernel, after)
        if made:
            stream.after = tuple(made[node] for node in self.last)


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """The work that a stream had, and the capture that it belongs to."""

    device: Device
    after: tuple[Node, ...]
    capture: Capture | None

    def synchronize(self) -> None:
        """Wait on the host until that work is done."""
        if self.capture is not None:
            self.capture.fail("cudaErrorCapturedEvent", "this event is of a graph, not of work")
        self.device.require_no_capture("waiting on the host")
        self.device.finish(self.after)


class SimulatedStream:
    """Work in order of issue.

    Attributes:
        after: what the next kernel comes after.
    """

    def __init__(self, device: Device) -> None:
        self.after: tuple[Node, ...] = ()
        self._device = device
        self._capture: Capture | None = None
        self._before_capture: tuple[Node, ...] = ()

    def enqueue(self, launch: Launch) -> None:
        """Add a kernel; nothing else runs on a device."""
        self._require_valid()
        self.after = ((self._capture or self._device).add(kernel_of(launch), self.after),)

    def record(self) -> Event:
        """Return an event behind the work added so far."""
        self._require_valid()
        return SimulatedEvent(self._device, self.after, self._capture)

    def wait(self, event: Event) -> None:
        """Let later work wait for an event; one that was captured takes this stream along."""
        assert isinstance(event, SimulatedEvent)
        self._require_valid()
        if event.capture is not self._capture:
            self._join(event.capture)
        self.after = tuple(dict.fromkeys((*self.after, *event.after)))

    def synchronize(self) -> None:
        """Wait on the host for all work added so far."""
        self._device.require_no_capture("waiting on the host")
        self._device.finish(self.after)

    def begin_capture(self) -> None:
        """Write down what is added from now on."""
        self._device.require_no_capture("another capture")
        self._device.capture = Capture(self)
        self._enter(self._device.capture)

    def end_capture(self) -> CapturedGraph:
        """Return what was written down since; all streams do their work again."""
        capture = self._capture
        if capture is None or capture.origin is not self:
            raise CudaError("cudaErrorStreamCaptureUnmatched", "no capture began in this stream")
        graph = CapturedGraph(self._device, tuple(capture.nodes), self.after)
        for stream in capture.joined:
            stream.leave()
        self._device.capture = None
        capture.require_valid()
        if len(_all_before(graph.last)) < len(graph.nodes):
            raise CudaError("cudaErrorStreamCaptureUnjoined", "nothing waits for some of the work")
        return graph

    def leave(self) -> None:
        """Go on where the stream was before the capture."""
        self.after, self._capture = self._before_capture, None

    def _enter(self, capture: Capture) -> None:
        self._before_capture, self._capture, self.after = self.after, capture, ()

    def _join(self, capture: Capture | None) -> None:
        """Enter the capture of an event that this stream waits for."""
        if self._capture is not None:
            self._capture.fail(
                "cudaErrorStreamCaptureIsolation", "this event is of no work of this capture"
            )
        if capture is None or capture is not self._device.capture:
            raise CudaError("cudaErrorCapturedEvent", "the capture of this event is over")
        capture.require_valid()
        capture.joined.append(self)
        self._enter(capture)

    def _require_valid(self) -> None:
        if self._capture is not None:
            self._capture.require_valid()


def _all_before(nodes: Iterable[Node]) -> set[Node]:
    """Nodes and all that they come after."""
    found: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.after)
    return found
