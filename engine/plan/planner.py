"""Graph -> plan: order, memory, tasks, and the race check that every plan passes."""

from collections.abc import Iterable

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.training import Variable
from fml.engine.ops.table import OPS
from fml.engine.plan.memory import Arena, Buffer, aligned, plan_arena
from fml.engine.plan.order import Sequence, Step, sequence, variable_of
from fml.engine.plan.races import require_no_race
from fml.engine.plan.task import Layout, Plan, Region, Space, Task


def lay_out(variables: Iterable[Variable]) -> Layout:
    """Give every variable its place, one behind the other."""
    regions: dict[str, Region] = {}
    offset = 0
    for variable in variables:
        nbytes = variable.type.nbytes
        regions[variable.name] = Region(Space.VARIABLES, offset, nbytes)
        offset += aligned(nbytes)
    return Layout(regions, offset)


def make_plan(graph: Graph, layout: Layout) -> Plan:
    """Plan a graph of definite sizes.

    Raises:
        RaceError: the plan is wrong: a bug in fml, found before it can do harm.
    """
    order = sequence(graph)
    buffers = _Buffers(graph, order)
    arena = plan_arena(buffers.of_owners())
    constants = _constants(graph)
    places = _Places(graph, layout, arena, buffers, constants)
    plan = Plan(
        graph,
        tuple(places.task(step, order) for step in order.steps),
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


class _Buffers:
    """Who needs the arena, and from when to when; a snapshot's key is -1 - its node."""

    def __init__(self, graph: Graph, order: Sequence) -> None:
        self.graph = graph
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.owner: dict[int, int] = {}
        for node in graph:
            if OPS[node.op].runtime and node.op != "variable":
                self.first[node.id] = self.last[node.id] = -1
        for at, step in enumerate(order.steps):
            node = graph[step.node]
            key = _key(step)
            if step.snapshot or variable_of(node) is None:
                self.first[key] = self.last[key] = at
            if not step.snapshot:
                self._note_reads(node, at, order)
        end = len(order.steps)
        for name, value in graph.outputs.items():
            key = -1 - value if name in order.outputs_aside else value
            if key in self.first:
                self.last[key] = end
        for step in order.steps:
            self._share(step)

    def _note_reads(self, node: Node, at: int, order: Sequence) -> None:
        for value in node.needs:
            key = -1 - value if (node.id, value) in order.aside else value
            if key in self.last:
                self.last[key] = max(self.last[key], at)

    def _share(self, step: Step) -> None:
        """Let a result take over the buffer of an input that nobody reads later."""
        node = self.graph[step.node]
        if step.snapshot or node.id not in self.first or node.guard is not None:
            return
        for place in OPS[node.op].in_place:
            if place >= len(node.inputs):
                break
            value = node.inputs[place]
            owner = self.owner.get(value, value)
            source = self.graph[value].type
            same_width = source.dtype.itemsize == node.type.dtype.itemsize
            fits = source.nbytes == node.type.nbytes and same_width
            is_last = value in self.first and self.last[owner] == self.first[node.id]
            if fits and is_last and node.inputs.count(value) == 1:
                self.owner[node.id] = owner
                self.last[owner] = max(self.last[owner], self.last[node.id])
                return

    def of_owners(self) -> list[Buffer]:
        """The buffers to be placed."""
        return [
            Buffer(key, self._nbytes(key), self.first[key], self.last[key])
            for key in self.first
            if key not in self.owner
        ]

    def _nbytes(self, key: int) -> int:
        return self.graph[key if key >= 0 else -1 - key].type.nbytes


def _key(step: Step) -> int:
    return -1 - step.node if step.snapshot else step.node


class _Places:
    """The region of every value."""

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        arena: Arena,
        buffers: _Buffers,
        constants: dict[int, Region],
    ) -> None:
        self.graph, self.layout, self.arena = graph, layout, arena
        self.buffers, self.constants = buffers, constants

    def of(self, key: int) -> Region:
        """Where a value, or what was put aside of it, lives."""
        node = self.graph[key if key >= 0 else -1 - key]
        if key in self.constants:
            return self.constants[key]
        name = variable_of(node)
        if name is not None and key >= 0:
            return self.layout.regions[name]
        owner = self.buffers.owner.get(key, key)
        return Region(Space.ARENA, self.arena.offsets[owner], node.type.nbytes)

    def read(self, reader: int, value: int, order: Sequence) -> Region:
        """Where a reader finds a value."""
        return self.of(-1 - value if (reader, value) in order.aside else value)

    def output(self, name: str, value: int, order: Sequence) -> Region:
        """Where a result is found when all is over."""
        return self.of(-1 - value if name in order.outputs_aside else value)

    def task(self, step: Step, order: Sequence) -> Task:
        """The task of a step."""
        node = self.graph[step.node]
        if step.snapshot:
            return Task(node.id, 0, (self.of(node.id),), self.of(-1 - node.id), snapshot=True)
        reads = tuple(self.read(node.id, value, order) for value in node.inputs)
        guard = None if node.guard is None else self.read(node.id, node.guard, order)
        return Task(node.id, 0, reads, self.of(node.id), guard)
