"""What a plan is: tasks in the order of issue, what each touches, and what each waits for."""

from dataclasses import dataclass
from enum import Enum

from fml.engine.ir.graph import Graph


class Space(Enum):
    """Where bytes live."""

    ARENA = "arena"  # temporaries and results, planned anew for every graph
    VARIABLES = "variables"  # shared by the graphs of a training
    CONSTANTS = "constants"  # written once, before anything runs


@dataclass(frozen=True, slots=True)
class Region:
    """`nbytes` from `offset` on in a space.

    Where each learner has its own, they are `stride` bytes apart and this is the first one's; 0 is
    one for all.
    """

    space: Space
    offset: int
    nbytes: int
    stride: int = 0

    def of(self, learner: int) -> "Region":
        """A learner's own."""
        if not self.stride:
            return self
        return Region(self.space, self.offset + learner * self.stride, self.nbytes)

    def overlaps(self, other: "Region") -> bool:
        """Whether the two share a byte."""
        if self.space is not other.space or not self.nbytes or not other.nbytes:
            return False
        return (
            self.offset < other.offset + other.nbytes and other.offset < self.offset + self.nbytes
        )


@dataclass(frozen=True, slots=True)
class Work:
    """Nodes that a backend computes in one go.

    Attributes:
        nodes: in an order in which each reads those before it.
        inputs: the values that are read, in the backend's order.
        results: those of the nodes whose values are stored, in the backend's order.
        guard: the bool without which nothing is done.
        scratch: bytes of each piece of memory that is needed meanwhile.
        shared: pairs of places, of an input and a result, whose memory may be one.
        parts: of a turn, the works that it consists of, one behind the other.
    """

    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    guard: int | None = None
    scratch: tuple[int, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()
    parts: "tuple[Work, ...]" = ()


class Kind(Enum):
    """What a task does."""

    WORK = "work"  # what a backend does in one go
    COPY = "copy"  # a variable is put aside for those who read it after it is assigned
    GIVE = "give"  # the runtime provides the value of a node
    TAKE = "take"  # the runtime takes a result


@dataclass(frozen=True, slots=True)
class Wait:
    """What a task waits for: another one, in the same iteration or some iterations `before`.

    A task of a learner waits for that learner's own, or for those of `all_learners`; a central one
    always for those of all. What lies before the first iteration is over.
    """

    task: int
    before: int = 0
    all_learners: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work on one stream; if it is `mapped`, one for each learner.

    Attributes:
        value: the node it is about: the last of its work, or what is copied, given or taken.
        stream: among those of its device, or, mapped, among those of each learner.
        reads: in the order of the work's inputs, and `writes` in that of its results.
        guard: the bool without which nothing is done.
        waits: for tasks of other streams, as far as nothing else orders the two.
        scratch: its own.
        work: None for what is no work.
        device: where a central task runs; a learner's run where the learner is.
        in_turn: one learner after another, in their order.
        is_critical: no two critical tasks run at the same time, of whatever learners; those that
            follow each other in the order of one learner are one critical section.
        is_apart: it begins another section though it follows on a critical one.
    """

    value: int
    stream: int
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]
    guard: Region | None = None
    waits: tuple[Wait, ...] = ()
    scratch: tuple[Region, ...] = ()
    work: Work | None = None
    kind: Kind = Kind.WORK
    mapped: bool = False
    device: int = 0
    in_turn: bool = False
    is_critical: bool = False
    is_apart: bool = False

    @property
    def touched(self) -> tuple[Region, ...]:
        """All regions read, the guard's among them."""
        return self.reads if self.guard is None else (*self.reads, self.guard)

    @property
    def changed(self) -> tuple[Region, ...]:
        """All regions written."""
        return (*self.writes, *self.scratch)


@dataclass(frozen=True, slots=True)
class Streams:
    """How many streams there are, told apart by a number.

    First come those of the devices, `per_device` each; then those of the learners, `per_learner`
    each. Learners lie on the devices in equal parts, in their order.
    """

    per_device: int = 1
    devices: int = 1
    learners: int = 0
    per_learner: int = 1

    @property
    def count(self) -> int:
        """All of them."""
        return self.devices * self.per_device + self.learners * self.per_learner

    def number(self, task: Task, learner: int = 0) -> int:
        """The stream of a task, or of a learner's instance of it."""
        if not task.mapped:
            return task.device * self.per_device + task.stream
        central = self.devices * self.per_device
        return central + learner * self.per_learner + task.stream

    def devices_of_streams(self) -> tuple[int, ...]:
        """The device of each stream."""
        central = (device for device in range(self.devices) for _ in range(self.per_device))
        learners = range(self.learners)
        own = (self.device_of(n) for n in learners for _ in range(self.per_learner))
        return (*central, *own)

    def device_of(self, learner: int) -> int:
        """Where a learner is."""
        return learner * self.devices // self.learners


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph of definite sizes, ready to run.

    `inputs` are the nodes that the runtime provides, with their places; `constants` and
    `outputs` likewise. Sizes are in bytes; `peak` is the most of the arena that lives at once.

    Tasks stand in one order in which they may be issued: an iteration's instance of each, those of
    all learners side by side. What a plan of one stream is given is there before its first task,
    and what is taken is taken behind its last. One of several has tasks for that, and its streams
    run on from one iteration to the next: only waits order them.
    `staleness` is how many steps a learner may be ahead of the slowest: None is no bound.
    """

    graph: Graph
    tasks: tuple[Task, ...]
    inputs: dict[int, Region]
    constants: dict[int, Region]
    outputs: dict[str, Region]
    arena: int
    peak: int
    streams: Streams = Streams()
    staleness: int | None = 0

    @property
    def runs_on(self) -> bool:
        """Whether streams run on from one iteration to the next: it is given things, and taken."""
        return any(task.kind in {Kind.GIVE, Kind.TAKE} for task in self.tasks)

    def instances(self, mapped: bool) -> range:
        """The learners that have something of their own, or 0 where there is one for all."""
        return range(self.streams.learners if mapped else 1)

    def awaited(self, task: Task, learner: int, wait: Wait) -> range:
        """Of whom an instance of a task waits for another task."""
        other = self.tasks[wait.task]
        if task.mapped and other.mapped and not wait.all_learners:
            return range(learner, learner + 1)
        return self.instances(other.mapped)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each variable of a training lives, and how large they are together, in bytes."""

    regions: dict[str, Region]
    nbytes: int
