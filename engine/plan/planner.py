"""Graph -> plan: order, memory, tasks, and the checks that every plan passes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Variable
from fml.engine.plan.buffers import buffers_of, scratch, where_of
from fml.engine.plan.memory import aligned
from fml.engine.plan.order import (
    PutAside,
    Step,
    node_by_node,
    provided,
    sequence,
    variable_of,
)
from fml.engine.plan.places import Places, arena_of, constants_of
from fml.engine.plan.races import require_no_race
from fml.engine.plan.schedule import Schedule, scheduled
from fml.engine.plan.sections import parted, require_no_stall
from fml.engine.plan.task import Kind, Layout, Plan, Region, Space, Streams, Task, Work
from fml.engine.plan.turns import in_turns, shared_by_learners
from fml.engine.plan.waits import with_waits
from fml.engine.plan.where import Where, base_of, where

_ONE = Streams()


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


def make_plan(
    graph: Graph,
    layout: Layout,
    works: Iterable[Work] | None = None,
    streams: Streams = _ONE,
    staleness: int | None = 0,
) -> Plan:
    """Plan a graph of definite sizes: the works that a backend makes of it, or node by node.

    `streams` says how many there may be of each learner and of each device: as many are used as it
    takes to do side by side what need not be done one behind the other. What learners do to shared
    variables with staleness is one critical section, so each of them has one stream there.

    Raises:
        RaceError, StallError: the plan is wrong: a bug in fml, found before it can do harm.
    """
    order = sequence(graph, in_turns(graph, node_by_node(graph) if works is None else works))
    shared = shared_by_learners(graph) if staleness != 0 else frozenset[str]()
    if not any(node.mapped for node in graph):
        streams = Streams(streams.per_device)
    elif shared:
        streams = replace(streams, per_learner=1)
    schedule = scheduled(graph, order, streams)
    streams = schedule.used(graph, streams)
    buffers = buffers_of(graph, schedule.order, schedule.before)
    arena = arena_of(buffers, streams.learners, buffers.clash(schedule.before))
    constants = constants_of(graph)
    places = Places(graph, layout, arena, buffers, constants)
    tasks = _Tasks(graph, schedule, places, shared)
    if streams.count > 1:
        every = (*tasks.given(), *tasks.steps(), *tasks.taken())
        listed = parted(with_waits(every, streams, staleness), streams)
    else:
        listed = tuple(tasks.steps())
    plan = Plan(
        graph,
        listed,
        {node: tasks.places.of(node) for node in provided(graph)},
        constants,
        {name: tasks.output(name) for name in graph.outputs},
        arena.nbytes,
        arena.peak,
        streams,
        staleness,
    )
    require_no_race(plan)
    require_no_stall(plan)
    return plan


@dataclass(frozen=True, slots=True)
class _Tasks:
    """Makes the tasks of steps."""

    graph: Graph
    schedule: Schedule
    places: Places
    at_any_time: frozenset[str]

    def given(self) -> Iterator[Task]:
        """What the runtime provides."""
        for node in provided(self.graph):
            here, target = where(self.graph, self.graph[node]), self.places.of(node)
            stream = self.schedule.first_reader(self.graph, node)
            yield self._task(node, here, stream, (), (target,), Kind.GIVE)

    def steps(self) -> Iterator[Task]:
        """What is computed and put aside, in order."""
        for at, step in enumerate(self.schedule.order.steps):
            yield self._step(at, step, where_of(self.graph, step))

    def taken(self) -> Iterator[Task]:
        """The results."""
        for name, value in self.graph.outputs.items():
            here = where(self.graph, self.graph[value])
            stream = self.schedule.maker(self.graph, value)
            yield self._task(value, here, stream, (self.output(name),), (), Kind.TAKE)

    def output(self, name: str) -> Region:
        """Where a result is found when all is over."""
        return self.places.of(
            self.graph.outputs[name], is_aside=name in self.schedule.order.outputs_aside
        )

    def _step(self, at: int, step: Step, here: Where) -> Task:
        places, stream = self.places, self.schedule.streams[at]
        if isinstance(step, PutAside):
            source, target = (places.of(step.value, is_aside=aside) for aside in (False, True))
            return self._task(step.value, here, stream, (source,), (target,), Kind.COPY)
        return Task(
            step.nodes[-1],
            stream,
            tuple(self._found(at, value) for value in step.inputs),
            tuple(places.of(value) for value in step.results),
            None if step.guard is None else self._found(at, step.guard),
            scratch=tuple(places.in_arena(scratch(at, n)) for n in range(len(step.scratch))),
            work=step,
            mapped=here.mapped,
            device=here.device,
            in_turn=bool(step.parts) and not self.at_any_time,
            is_critical=self._is_critical(step, here),
        )

    def _is_critical(self, step: Work, here: Where) -> bool:
        """Whether a learner's work touches what others assign to when they get there."""
        if not (here.mapped and self.at_any_time):
            return False
        touched = (self.graph[base_of(self.graph, v)] for v in (*step.inputs, *step.results))
        return any(variable_of(node) in self.at_any_time for node in touched)

    def _found(self, at: int, value: int) -> Region:
        return self.places.of(value, is_aside=(at, value) in self.schedule.order.aside)

    @staticmethod
    def _task(
        value: int,
        here: Where,
        stream: int,
        reads: tuple[Region, ...],
        writes: tuple[Region, ...],
        kind: Kind,
    ) -> Task:
        return Task(value, stream, reads, writes, kind=kind, mapped=here.mapped, device=here.device)
