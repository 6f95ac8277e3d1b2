"""Graph -> plan: order, memory, tasks, and the race check that every plan passes."""

from collections.abc import Iterable
from typing import TypeAlias

from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Variable
from fml.engine.ops.table import OPS
from fml.engine.plan.memory import Arena, Buffer, aligned, plan_arena
from fml.engine.plan.order import (
    PutAside,
    Sequence,
    Step,
    needs,
    node_by_node,
    sequence,
    variable_of,
)
from fml.engine.plan.races import require_no_race
from fml.engine.plan.task import Kind, Layout, Plan, Region, Space, Task, Work


def lay_out(variables: Iterable[Variable], learners: int = 1) -> Layout:
    """Give every variable its place, one behind the other.

    Of a mapped variable that is the first learner's; those of all `learners` lie behind each other
    without a gap, an array with one axis more.
    """
    regions: dict[str, Region] = {}
    offset = 0
    for variable in variables:
        nbytes = variable.type.nbytes
        stride = nbytes if variable.mapped else 0
        regions[variable.name] = Region(Space.VARIABLES, offset, nbytes, stride)
        offset += aligned(nbytes * learners if variable.mapped else nbytes)
    return Layout(regions, offset)


def make_plan(graph: Graph, layout: Layout, works: Iterable[Work] | None = None) -> Plan:
    """Plan a graph of definite sizes: the works that a backend makes of it, or node by node.

    Raises:
        RaceError: the plan is wrong: a bug in fml, found before it can do harm.
    """
    order = sequence(graph, node_by_node(graph) if works is None else works)
    buffers = _Buffers(graph, order)
    arena = plan_arena(buffers.of_owners())
    constants = _constants(graph)
    places = _Places(graph, layout, arena, buffers, constants)
    plan = Plan(
        graph,
        tuple(places.task(at, step, order) for at, step in enumerate(order.steps)),
        {n.id: places.of(n.id) for n in graph if OPS[n.op].runtime and n.op != "variable"},
        constants,
        {name: places.output(name, value, order) for name, value in graph.outputs.items()},
        arena.nbytes,
        arena.peak,
    )
    require_no_race(plan)
    return plan


def _constants(graph: Graph) -> dict[int, Region]:
    regions: dict[int, Region] = {}
    offset = 0
    for node in graph.of_op("constant"):
        regions[node.id] = Region(Space.CONSTANTS, offset, node.type.nbytes)
        offset += aligned(node.type.nbytes)
    return regions


# Buffers are values, what was put aside of values, and scratch of a step, told by two numbers.
_Key: TypeAlias = tuple[str, int, int]


def _of_value(value: int) -> _Key:
    return ("value", value, 0)


def _aside(value: int) -> _Key:
    return ("aside", value, 0)


def _read_key(at: int, value: int, order: Sequence) -> _Key:
    """What a step finds a value in."""
    return _aside(value) if (at, value) in order.aside else _of_value(value)


def _output_key(name: str, value: int, order: Sequence) -> _Key:
    """What the end finds a result in."""
    return _aside(value) if name in order.outputs_aside else _of_value(value)


class _Buffers:
    """Who needs the arena, and from when to when."""

    def __init__(self, graph: Graph, order: Sequence) -> None:
        self.graph = graph
        self.first: dict[_Key, int] = {}
        self.last: dict[_Key, int] = {}
        self.owner: dict[_Key, _Key] = {}
        self.nbytes: dict[_Key, int] = {}
        for node in graph:
            if OPS[node.op].runtime and node.op != "variable":
                self._begin(_of_value(node.id), -1)
        for at, step in enumerate(order.steps):
            if isinstance(step, PutAside):
                self._begin(_aside(step.value), at)
                continue
            for value in step.results:
                if variable_of(graph[value]) is None:
                    self._begin(_of_value(value), at)
            for place, nbytes in enumerate(step.scratch):
                self._begin(("scratch", at, place), at, nbytes)
            for value in needs(step):
                self._use(_read_key(at, value, order), at)
        for name, value in graph.outputs.items():
            self._use(_output_key(name, value, order), len(order.steps))
        for at, step in enumerate(order.steps):
            if isinstance(step, Work):
                self._share(at, step)

    def _begin(self, key: _Key, at: int, nbytes: int | None = None) -> None:
        self.first[key] = self.last[key] = at
        self.nbytes[key] = self.graph[key[1]].type.nbytes if nbytes is None else nbytes

    def _use(self, key: _Key, at: int) -> None:
        if key in self.last:
            self.last[key] = max(self.last[key], at)

    def _share(self, at: int, work: Work) -> None:
        """Let results take over the buffers of inputs that nobody reads later."""
        if work.guard is not None:
            return
        for given, made in work.shared:
            if given >= len(work.inputs):
                continue
            value, result = work.inputs[given], work.results[made]
            key, new = _of_value(value), _of_value(result)
            owner = self.owner.get(key, key)
            if new not in self.first or new in self.owner or key not in self.first:
                continue
            source, target = self.graph[value].type, self.graph[result].type
            same_width = source.dtype.itemsize == target.dtype.itemsize
            fits = source.nbytes == target.nbytes and same_width
            is_last = self.last[owner] == self.first[new] == at
            if fits and is_last and work.inputs.count(value) == 1:
                self.owner[new] = owner
                self.last[owner] = max(self.last[owner], self.last[new])

    def of_owners(self) -> list[Buffer[_Key]]:
        """The buffers to be placed."""
        return [
            Buffer(key, self.nbytes[key], self.first[key], self.last[key])
            for key in self.first
            if key not in self.owner
        ]


class _Places:
    """The region of every value."""

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        arena: Arena[_Key],
        buffers: _Buffers,
        constants: dict[int, Region],
    ) -> None:
        self.graph, self.layout, self.arena = graph, layout, arena
        self.buffers, self.constants = buffers, constants

    def of(self, value: int) -> Region:
        """Where a value lives."""
        if value in self.constants:
            return self.constants[value]
        name = variable_of(self.graph[value])
        return self._in_arena(_of_value(value)) if name is None else self.layout.regions[name]

    def _in_arena(self, key: _Key) -> Region:
        offset = self.arena.offsets[self.buffers.owner.get(key, key)]
        return Region(Space.ARENA, offset, self.buffers.nbytes[key])

    def _found(self, key: _Key) -> Region:
        return self.of(key[1]) if key == _of_value(key[1]) else self._in_arena(key)

    def output(self, name: str, value: int, order: Sequence) -> Region:
        """Where a result is found when all is over."""
        return self._found(_output_key(name, value, order))

    def task(self, at: int, step: Step, order: Sequence) -> Task:
        """The task of a step."""
        if isinstance(step, PutAside):
            source, target = self.of(step.value), self._in_arena(_aside(step.value))
            return Task(step.value, 0, (source,), (target,), kind=Kind.COPY)
        return Task(
            step.nodes[-1],
            0,
            tuple(self._found(_read_key(at, value, order)) for value in step.inputs),
            tuple(self.of(value) for value in step.results),
            None if step.guard is None else self._found(_read_key(at, step.guard, order)),
            scratch=tuple(self._in_arena(("scratch", at, n)) for n in range(len(step.scratch))),
            work=step,
        )
