"""Runs plans: views and kernels are made once, a step is a walk over a list of calls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from fml.engine.backends.interface import (
    Backend,
    Gathered,
    Given,
    Issue,
    Launch,
    LaunchError,
    Loop,
    Memory,
    Taken,
    View,
)
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import BOOL, Element, TensorType, tensor
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.passes.constants import array_of
from fml.engine.plan.planner import make_plan
from fml.engine.plan.task import Kind, Plan, Region, Space, Task, Work
from fml.engine.plan.timetable import waits_of
from fml.engine.runtime.faults import raised
from fml.engine.runtime.variables import VariableStore


class Executable:
    """A graph compiled, planned, bound to variables, and to the workspace when it is first used.

    Its inputs must be uploaded, it must run, and its outputs must be read before another graph of
    the same store is used.
    """

    def __init__(
        self, graph: Graph, backend: Backend, store: VariableStore, streams: int = 1
    ) -> None:
        """Compile and plan a graph of definite sizes, for at most so many streams of a kind."""
        self._code = backend.compile(graph)
        several = replace(store.streams, per_device=streams, per_learner=streams)
        self.plan = make_plan(graph, store.layout, self._code.works, several, store.staleness)
        self._backend = backend
        self._store = store
        store.workspace.reserve(self.plan.arena)

    @property
    def constants_nbytes(self) -> int:
        """Bytes of the constants, which are written once."""
        return _end(self.plan.constants.values())

    @cached_property
    def _memories(self) -> dict[Space, Memory]:
        return {
            Space.ARENA: self._store.workspace.memory(),
            Space.VARIABLES: self._store.memory,
            Space.CONSTANTS: self._backend.allocate(self.constants_nbytes),
        }

    @cached_property
    def inputs(self) -> dict[int, list[View]]:
        """The places of what the runtime provides, by node: one, or one for each learner."""
        return {n: self._everywhere(r, n) for n, r in self.plan.inputs.items()}

    @cached_property
    def outputs(self) -> dict[str, list[View]]:
        """The places of the results, by name: one, or one for each learner."""
        outputs = self.plan.graph.outputs
        return {n: self._everywhere(r, outputs[n]) for n, r in self.plan.outputs.items()}

    def _everywhere(self, region: Region, node: int) -> list[View]:
        learners = self.plan.instances(self.plan.graph[node].mapped)
        type = self.plan.graph[node].type
        return [self._view(region.of(learner), type) for learner in learners]

    @cached_property
    def instances(self) -> list[tuple[Task, int]]:
        """Every task, in order; one that is mapped for each learner."""
        plan = self.plan
        return [(task, n) for task in plan.tasks for n in plan.instances(task.mapped)]

    @cached_property
    def calls(self) -> list[Launch]:
        """What is done, instance by instance; but not what is given and taken."""
        return [call for calls in self._launches for call in calls]

    @cached_property
    def _launches(self) -> list[list[Launch]]:
        """What each instance that computes does."""
        self._write_constants()
        return [self._calls(task, learner) for task, learner in self._computing]

    @cached_property
    def _computing(self) -> list[tuple[Task, int]]:
        return [one for one in self.instances if one[0].kind in {Kind.WORK, Kind.COPY}]

    def issues(
        self,
        given: Mapping[tuple[int, int], Given | Gathered],
        taken: Mapping[tuple[int, int], Taken],
    ) -> list[Issue]:
        """What a loop does on streams.

        `given` are by node and learner (0 for a central node), `taken` by output's node likewise.
        """
        computing = iter(self._launches)
        things: list[Sequence[Launch | Given | Gathered | Taken]] = []
        for task, learner in self.instances:
            match task.kind:
                case Kind.GIVE:
                    things.append([given[task.value, learner]])
                case Kind.TAKE:
                    things.append([taken[task.value, learner]])
                case _:
                    things.append(next(computing))
        return list(issued(self.plan, things))

    @cached_property
    def issued_keys(self) -> list[tuple[int, int]]:
        """Of each thing of `issues` the number of its task, and the learner."""
        counts = iter(self._launches)
        found: list[tuple[int, int]] = []
        for key, (task, _) in zip(keys_of(self.plan), self.instances, strict=True):
            computes = task.kind in {Kind.WORK, Kind.COPY}
            found += [key] * (len(next(counts)) if computes else 1)
        return found

    @cached_property
    def called_keys(self) -> list[tuple[int, int]]:
        """Likewise of each of `calls`."""
        given = {Kind.GIVE, Kind.TAKE}
        return [key for key in self.issued_keys if self.plan.tasks[key[0]].kind not in given]

    @cached_property
    def _all(self) -> Loop:
        return self._backend.loop(self.calls)

    def _write_constants(self) -> None:
        graph = self.plan.graph
        for number, region in self.plan.constants.items():
            constant = array_of(graph[number])
            self._backend.upload(constant, self._view(region, graph[number].type))

    def _view(self, region: Region, type: TensorType) -> View:
        return self._backend.view(self._memories[region.space], region.offset, type)

    def second_place(self, region: Region) -> tuple[Launch, Launch]:
        """Take memory for a region; return what copies it there, and what copies it back."""
        type = tensor(Element.U8, region.nbytes)
        there = self._backend.view(self._backend.allocate(region.nbytes), 0, type)
        here = self._view(region, type)
        return self._backend.copy(here, there), self._backend.copy(there, here)

    def _views(self, regions: Iterable[Region], values: Iterable[int], learner: int) -> list[View]:
        graph = self.plan.graph
        pairs = zip(regions, values, strict=True)
        return [self._view(region.of(learner), graph[value].type) for region, value in pairs]

    def _calls(self, task: Task, learner: int) -> list[Launch]:
        if task.work is None:
            (source,), (target,) = (
                self._views(r, (task.value,), learner) for r in (task.reads, task.writes)
            )
            return [self._backend.copy(source, target)]
        if not task.work.parts:
            return [self._call(task, task.work, learner)]
        return [self._call(part, work, learner) for part, work in parts_of(task, task.work)]

    def _call(self, task: Task, work: Work, learner: int) -> Launch:
        own = [region.of(learner) for region in task.scratch]
        scratch = [self._backend.part(self._memories[r.space], r.offset, r.nbytes) for r in own]
        inputs, results = (
            self._views(task.reads, work.inputs, learner),
            self._views(task.writes, work.results, learner),
        )
        launch = self._code.launch(work, inputs, results, scratch)
        if task.guard is None:
            return launch
        return self._backend.guarded(launch, self._guard(task.guard, learner))

    def _guard(self, region: Region, learner: int) -> View:
        return self._view(region.of(learner), TensorType(BOOL))

    def run(self) -> None:
        """Carry out all tasks in their order; the inputs must have been uploaded.

        Raises:
            FmlError: E0714 and E0715, one of them raised.
        """
        try:
            with np.errstate(all="ignore"):
                self._all.run(1)
        except LaunchError as fault:
            raise self.said_of(fault) from fault

    def said_of(self, fault: LaunchError) -> FmlError:
        """Say which node raised: E0714 or E0715."""
        return FmlError([raised(fault.__cause__, *self.computed_by(fault.thing))])

    def computed_by(self, thing: object) -> tuple[Node | None, int | None]:
        """The node that a launch computes, and for which learner if each has its own.

        Of several that are computed in one go, it is the last. There is none for a copy.
        """
        for (task, learner), calls in zip(self._computing, self._launches, strict=True):
            for place, call in enumerate(calls):
                if call is thing and task.work is not None:
                    work = task.work.parts[place] if task.work.parts else task.work
                    node = self.plan.graph[work.nodes[-1]]
                    return node, learner if node.mapped else None
        return None, None

    def upload(self, number: int, value: Array, learner: int | None = None) -> None:
        """Set what the runtime provides for a node, to one learner or wherever it is."""
        stored_value = stored(value, self.plan.graph[number].type)
        places = self.inputs[number]
        for view in places if learner is None else (places[learner],):
            self._backend.upload(stored_value, view)

    def output(self, name: str) -> Array:
        """Return a copy of a result; one that learners have, along a new first axis."""
        values = [self._backend.download(view) for view in self.outputs[name]]
        is_mapped = self.plan.graph[self.plan.graph.outputs[name]].mapped
        return np.stack(values) if is_mapped else values[0]

    def first_not_finite(self) -> tuple[int, int] | None:
        """Run the tasks once more, one by one; return the first node that is not finite, and whose.

        Variables are changed on the way: the caller must put them back.
        """
        with np.errstate(all="ignore"):
            for (task, learner), calls in zip(self._computing, self._launches, strict=True):
                for call in calls:
                    call()
                if task.work is not None and self._ran(task, learner):
                    found = self._not_finite(task.work.results, task.writes, learner)
                    if found is not None:
                        return found, learner
        return None

    def _not_finite(
        self, values: Iterable[int], regions: Iterable[Region], learner: int
    ) -> int | None:
        values = tuple(values)
        for value, view in zip(values, self._views(regions, values, learner), strict=True):
            is_float = self.plan.graph[value].type.is_float
            if is_float and not np.isfinite(self._backend.download(view)).all():
                return value
        return None

    def _ran(self, task: Task, learner: int) -> bool:
        """Whether a task that was just carried out did anything: its guard was true."""
        if task.guard is None:
            return True
        return bool(self._backend.download(self._guard(task.guard, learner)))


def parts_of(task: Task, turn: Work) -> Iterator[tuple[Task, Work]]:
    """The works of a turn, each with what it touches."""
    regions = dict(zip((*turn.inputs, *turn.results), (*task.reads, *task.writes), strict=True))
    scratch = iter(task.scratch)
    for work in turn.parts:
        own = replace(
            task,
            reads=tuple(regions[value] for value in work.inputs),
            writes=tuple(regions[value] for value in work.results),
            guard=None if work.guard is None else regions[work.guard],
            scratch=tuple(next(scratch) for _ in work.scratch),
            work=work,
        )
        yield own, work


def issued(
    plan: Plan, things: Sequence[Sequence[Launch | Given | Gathered | Taken]]
) -> Iterator[Issue]:
    """Put the things of each instance of a task on its stream, behind what it waits for."""
    keys = keys_of(plan)
    ends = accumulate(len(some) for some in things)
    last = {key: end - 1 for key, end in zip(keys, ends, strict=True)}
    for (number, learner), some in zip(keys, things, strict=True):
        task = plan.tasks[number]
        waits = [(last[n, other], before) for n, other, before in waits_of(plan, number, learner)]
        stream = plan.streams.number(task, learner)
        for place, thing in enumerate(some):
            is_apart = task.is_apart and not place
            yield Issue(thing, stream, () if place else tuple(waits), task.is_critical, is_apart)


def keys_of(plan: Plan) -> list[tuple[int, int]]:
    """Every task's number, in order; that of one that is mapped with each learner."""
    return [(n, one) for n, task in enumerate(plan.tasks) for one in plan.instances(task.mapped)]


def _end(regions: Iterable[Region]) -> int:
    return max((region.offset + region.nbytes for region in regions), default=0)
