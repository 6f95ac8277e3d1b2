"""Who needs the arena, from when to when, and where: values, copies put aside, scratch."""

from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.graph import Graph
from fml.engine.plan.memory import Buffer, Clash
from fml.engine.plan.order import PutAside, Sequence, Step, needs, provided, variable_of
from fml.engine.plan.task import Work
from fml.engine.plan.where import Where, base_of, where

# By step, the steps that are over when it begins, of one learner: the bits of their places.
Before: TypeAlias = tuple[int, ...]

# Buffers are values, what was put aside of values, and scratch of a step, told by two numbers.
Key: TypeAlias = tuple[str, int, int]


def of_value(value: int) -> Key:
    """The buffer of a value."""
    return ("value", value, 0)


def aside(value: int) -> Key:
    """The buffer of what was put aside of a value."""
    return ("aside", value, 0)


def scratch(at: int, place: int) -> Key:
    """A step's own memory."""
    return ("scratch", at, place)


def read_key(graph: Graph, order: Sequence, at: int, value: int) -> Key:
    """What a step finds a value in."""
    base = base_of(graph, value)
    return aside(base) if (at, value) in order.aside else of_value(base)


def output_key(graph: Graph, order: Sequence, name: str) -> Key:
    """What the end finds a result in."""
    base = base_of(graph, graph.outputs[name])
    return aside(base) if name in order.outputs_aside else of_value(base)


def where_of(graph: Graph, step: Step) -> Where:
    """Where a step is carried out."""
    if isinstance(step, PutAside):
        return Where(mapped=graph[step.value].mapped)
    return where(graph, graph[step.results[0]])


@dataclass(frozen=True, slots=True)
class Buffers:
    """What is to be placed.

    Attributes:
        nbytes: of one learner's, where each has its own.
        mapped: those that each learner has.
        alone: by the one place whose tasks touch them: they can share memory there.
        met: those that tasks in several places touch.
        owner: of what takes over another one's memory, that one.
        uses: the steps that touch each, as bits.
    """

    nbytes: dict[Key, int]
    mapped: frozenset[Key]
    alone: dict[Where, list[Buffer[Key]]]
    met: tuple[Key, ...]
    owner: dict[Key, Key]
    uses: dict[Key, int]

    def clash(self, before: Before) -> Clash:
        """Return whether two buffers need memory at the same time, when steps run side by side.

        They do unless all uses of one are over when the first of the other begins.
        """

        def is_over(one: Buffer[Key], other: Buffer[Key]) -> bool:
            # What is given is there from the beginning, and what is taken to the end.
            if other.first < 0 or one.last in (-1, len(before)):
                return False
            return not self.uses[one.key] & ~before[other.first]

        return lambda one, other: not (is_over(one, other) or is_over(other, one))


def in_order(order: Sequence) -> Before:
    """Return that all that stands before a step is over: one stream does them all."""
    return tuple((1 << at) - 1 for at in range(len(order.steps)))


def buffers_of(graph: Graph, order: Sequence, before: Before) -> Buffers:
    """Gather the buffers of a sequence of steps."""
    uses = _Uses(graph, order, before)
    alone: dict[Where, list[Buffer[Key]]] = {}
    met: list[Key] = []
    for key in uses.first:
        if key in uses.owner:
            continue
        if len(uses.places[key]) == 1:
            (place,) = uses.places[key]
            buffer = Buffer(key, uses.nbytes[key], uses.first[key], uses.last[key])
            alone.setdefault(place, []).append(buffer)
        else:
            met.append(key)
    return Buffers(uses.nbytes, frozenset(uses.mapped), alone, tuple(met), uses.owner, uses.uses)


class _Uses:
    """When each buffer is first and last touched, and from where."""

    def __init__(self, graph: Graph, order: Sequence, before: Before) -> None:
        self.graph, self.order, self.before = graph, order, before
        self.first: dict[Key, int] = {}
        self.last: dict[Key, int] = {}
        self.owner: dict[Key, Key] = {}
        self.nbytes: dict[Key, int] = {}
        self.places: dict[Key, set[Where]] = {}
        self.mapped: set[Key] = set()
        self.uses: dict[Key, int] = {}
        for node in provided(graph):
            self._begin(of_value(node), -1, where(graph, graph[node]))
        for at, step in enumerate(order.steps):
            self._take(at, step, where_of(graph, step))
        for name, value in graph.outputs.items():
            here = where(graph, graph[value])
            self._use(output_key(graph, order, name), len(order.steps), here)
        for at, step in enumerate(order.steps):
            if isinstance(step, Work):
                self._share(at, step)

    def _take(self, at: int, step: Step, here: Where) -> None:
        if isinstance(step, PutAside):
            self._use(of_value(step.value), at, here)
            self._begin(aside(step.value), at, here)
            return
        for value in step.results:
            if variable_of(self.graph[value]) is None:
                self._begin(of_value(value), at, here)
        for place, nbytes in enumerate(step.scratch):
            self._begin(scratch(at, place), at, here, nbytes)
        for value in needs(step):
            self._use(read_key(self.graph, self.order, at, value), at, here)

    def _begin(self, key: Key, at: int, here: Where, nbytes: int | None = None) -> None:
        self.first[key] = self.last[key] = at
        self.nbytes[key] = self.graph[key[1]].type.nbytes if nbytes is None else nbytes
        self.places[key] = {here}
        self.uses[key] = 1 << at if at >= 0 else 0
        if here.mapped:
            self.mapped.add(key)

    def _use(self, key: Key, at: int, here: Where) -> None:
        if key in self.last:
            self.last[key] = max(self.last[key], at)
            self.uses[key] |= 1 << at
            self.places[key].add(here)

    def _share(self, at: int, work: Work) -> None:
        """Let results take over the buffers of inputs that nobody reads later."""
        if work.guard is not None:
            return
        for given, made in work.shared:
            if given >= len(work.inputs):
                continue
            value, result = work.inputs[given], work.results[made]
            key, new = of_value(value), of_value(result)
            owner = self.owner.get(key, key)
            if new not in self.first or new in self.owner or key not in self.first:
                continue
            source, target = self.graph[value].type, self.graph[result].type
            same_width = source.dtype.itemsize == target.dtype.itemsize
            fits = source.nbytes == target.nbytes and same_width
            is_over = not self.uses[owner] & ~(self.before[at] | 1 << at)
            is_last = is_over and self.last[owner] == self.first[new] == at
            is_here = len(self.places[owner] | self.places[new]) == 1
            if fits and is_last and is_here and work.inputs.count(value) == 1:
                self.owner[new] = owner
                self.last[owner] = max(self.last[owner], self.last[new])
                self.uses[owner] |= self.uses[new]
