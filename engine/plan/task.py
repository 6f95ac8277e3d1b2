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
    """`nbytes` from `offset` on in a space."""

    space: Space
    offset: int
    nbytes: int

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
    """

    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    guard: int | None = None
    scratch: tuple[int, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work on one stream.

    `reads` and `writes` stand in the order of the work's inputs and results, and `scratch` is its
    own; `guard` is the bool without which nothing is done; `waits` are tasks of other streams
    (earlier in the plan) that must be over first. Without work, a variable's value is copied
    before it is assigned, for those who read the old one later; `value` tells which.
    """

    value: int
    stream: int
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]
    guard: Region | None = None
    waits: tuple[int, ...] = ()
    scratch: tuple[Region, ...] = ()
    work: Work | None = None

    @property
    def touched(self) -> tuple[Region, ...]:
        """All regions read, the guard's among them."""
        return self.reads if self.guard is None else (*self.reads, self.guard)

    @property
    def changed(self) -> tuple[Region, ...]:
        """All regions written."""
        return (*self.writes, *self.scratch)


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph of definite sizes, ready to run.

    `inputs` are the nodes that the runtime provides, with their places; `constants` and
    `outputs` likewise. Sizes are in bytes; `peak` is the most of the arena that lives at once.
    """

    graph: Graph
    tasks: tuple[Task, ...]
    inputs: dict[int, Region]
    constants: dict[int, Region]
    outputs: dict[str, Region]
    arena: int
    peak: int
    streams: int = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each variable of a training lives, and how large they are together, in bytes."""

    regions: dict[str, Region]
    nbytes: int
