"""Who needs the arena, from when to when, and where: values, copies put aside, scratch."""

from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.graph import Graph
from fml.engine.plan.memory import Buffer
from fml.engine.plan.order import PutAside, Sequence, Step, needs, provided, variable_of
from fml.engine.plan.task import Work
from fml.engine.plan.where import Where, base_of, where

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
    """

    nbytes: dict[Key, int]
    mapped: frozenset[Key]
    alone: dict[Where, list[Buffer[Key]]]
    met: tuple[Key, ...]
    owner: dict[Key, Key]


def buffers_of(graph: Graph, order: Sequence) -> Buffers:
    """Gather the buffers of a sequence of steps."""
    uses = _Uses(graph, order)
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
    return Buffers(uses.nbytes, frozenset(uses.mapped), alone, tuple(met), uses.owner)


class _Uses:
    """When each buffer is first and last touched, and from where."""

    def __init__(self, graph: Graph, order: Sequence) -> None:
        self.graph, self.order = graph, order
        self.first: dict[Key, int] = {}
        self.last: dict[Key, int] = {}
        self.owner: dict[Key, Key] = {}
        self.nbytes: dict[Key, int] = {}
        self.places: dict[Key, set[Where]] = {}
        self.mapped: set[Key] = set()
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
        if here.mapped:
            self.mapped.add(key)

    def _use(self, key: Key, at: int, here: Where) -> None:
        if key in self.last:
            self.last[key] = max(self.last[key], at)
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
            is_last = self.last[owner] == self.first[new] == at
            is_here = len(self.places[owner] | self.places[new]) == 1
            if fits and is_last and is_here and work.inputs.count(value) == 1:
                self.owner[new] = owner
                self.last[owner] = max(self.last[owner], self.last[new])
