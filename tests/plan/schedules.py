"""Plans unrolled instance by instance: oracles of their order, random plans, and random runs.

Nothing here is shared with the planner or the race check but what a plan is.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, pairwise, takewhile
from typing import TypeAlias

import networkx as nx

from fml.engine.ir.graph import Graph
from fml.engine.plan.races import Instance, find_races
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait

# Two tasks, by place in the plan, and how many iterations the second is behind the first.
Pair: TypeAlias = tuple[int, int, int]


def as_plan(tasks: tuple[Task, ...], streams: Streams, staleness: int | None = 0) -> Plan:
    return Plan(Graph("g", [], {}), tasks, {}, {}, {}, 4096, 4096, streams, staleness)


def found(plan: Plan, learners: int | None = 3) -> set[Pair]:
    """What the race check says."""
    races = find_races(plan, learners=learners)
    pairs = [(r.first.task, r.second.task, r.second.iteration - r.first.iteration) for r in races]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


# The order, by its definition.


def instances(plan: Plan, iterations: int) -> Iterator[Instance]:
    """Everything that is done, in the order in which one stream could do it."""
    for iteration in range(iterations):
        for number in range(len(plan.tasks)):
            for learner in learners_of(plan, number):
                yield Instance(number, iteration, learner)


def learners_of(plan: Plan, number: int) -> list[int] | list[None]:
    return list(range(plan.streams.learners)) if plan.tasks[number].mapped else [None]


def stream_of(plan: Plan, instance: Instance) -> int:
    return plan.streams.number(plan.tasks[instance.task], instance.learner or 0)


def awaited(plan: Plan, instance: Instance) -> Iterator[Instance]:
    """What an instance waits for, beside what is before it on its stream."""
    number, iteration, learner = instance
    for wait in plan.tasks[number].waits:
        whose = learners_of(plan, wait.task)
        if plan.tasks[wait.task].mapped and learner is not None and not wait.all_learners:
            whose = [learner]
        if iteration >= wait.before:
            yield from (Instance(wait.task, iteration - wait.before, other) for other in whose)
    if plan.tasks[number].in_turn and learner is not None:
        if learner:
            yield Instance(number, iteration, learner - 1)
        elif iteration:
            yield Instance(number, iteration - 1, plan.streams.learners - 1)


def order(plan: Plan, iterations: int) -> "nx.DiGraph[Instance]":
    """Who is before whom: all pairs."""
    done = list(instances(plan, iterations))
    edges = nx.DiGraph([(before, this) for this in done for before in awaited(plan, this)])
    edges.add_nodes_from(done)
    for stream in range(plan.streams.count):
        edges.add_edges_from(pairwise(i for i in done if stream_of(plan, i) == stream))
    if not plan.streams.learners:
        edges.add_edges_from((a, b) for a, b in combinations(done, 2) if a.iteration < b.iteration)
    return nx.transitive_closure_dag(edges)


def touched(plan: Plan, instance: Instance) -> tuple[list[Region], list[Region]]:
    """What an instance reads and writes."""
    task, learner = plan.tasks[instance.task], instance.learner or 0
    return [r.of(learner) for r in task.touched], [r.of(learner) for r in task.changed]


def is_conflict(plan: Plan, one: Instance, other: Instance) -> bool:
    tasks = plan.tasks[one.task], plan.tasks[other.task]
    if all(t.mapped and t.is_critical for t in tasks) and one.learner != other.learner:
        return False
    (one_reads, one_writes), (other_reads, other_writes) = touched(plan, one), touched(plan, other)
    pairs = [(w, r) for w in one_writes for r in (*other_reads, *other_writes)]
    pairs += [(w, r) for w in other_writes for r in one_reads]
    return any(a.overlaps(b) for a, b in pairs)


def oracle(plan: Plan, iterations: int = 2) -> set[Pair]:
    """Conflicting pairs that no path orders, of all learners, by transitive closure."""
    before = order(plan, iterations)
    return {
        (a.task, b.task, b.iteration - a.iteration)
        for a, b in combinations(instances(plan, iterations), 2)
        if not before.has_edge(a, b) and is_conflict(plan, a, b)
    }


def stalls(plan: Plan) -> bool:
    """Whether learners wait for each other for ever: all of them, instance by instance.

    A section begins when all is done that any of its tasks waits for.
    """
    done = list(instances(plan, 2))
    edges: nx.DiGraph[Instance] = nx.DiGraph()
    begun: dict[int, Instance] = {}  # the first of the section that a stream is in
    latest: dict[int, Instance] = {}
    for this in done:
        stream, before = stream_of(plan, this), latest.get(stream_of(plan, this))
        task = plan.tasks[this.task]
        is_other = task.is_apart or (before and before.iteration < this.iteration)
        if not task.is_critical or is_other:
            begun.pop(stream, None)
        if task.is_critical:
            begun.setdefault(stream, this)
        first = begun.get(stream, this)
        edges.add_edges_from(
            (other, first) for other in awaited(plan, this) if stream_of(plan, other) != stream
        )
        if before:
            edges.add_edge(before, this)
        latest[stream] = this
    return not nx.is_directed_acyclic_graph(edges)


# Random plans.

SHARE = 32  # bytes of one learner's in a stack


class Places:
    """Where random tasks lie: stacks and arenas of learners, and what is central."""

    def __init__(self, rng: random.Random, streams: Streams) -> None:
        self.rng = rng
        self.streams = streams
        self.learners = max(streams.learners, 1)
        self.stacks = [stack * SHARE * self.learners for stack in range(3)]
        self.central = 3 * SHARE * self.learners
        self.pushed = self.central + 64

    def part(self, space: Space, offset: int, nbytes: int, stride: int = 0) -> Region:
        """Some of so many bytes."""
        begin = 8 * self.rng.randrange(nbytes // 8)
        size = 8 * self.rng.randint(0 if self.rng.random() < 0.1 else 1, (nbytes - begin) // 8)
        return Region(space, offset + begin, size, stride)

    def own(self) -> Region:
        """A learner's, in its arena or a stack."""
        if self.rng.random() < 0.5:
            return self.part(Space.ARENA, 64, 56, stride=64)
        return self.part(Space.VARIABLES, self.rng.choice(self.stacks), SHARE, SHARE)

    def of_all(self, device: int) -> Region:
        """Central: of its own, or the shares of all learners, or of those of a device."""
        kind = self.rng.random()
        if kind < 0.5:
            return self.part(Space.VARIABLES, self.central, 64)
        share = [n for n in range(self.learners) if self.streams.device_of(n) == device]
        if kind < 0.75 or not share:
            share = list(range(self.learners))
        offset = self.rng.choice(self.stacks) + share[0] * SHARE
        return Region(Space.VARIABLES, offset, len(share) * SHARE)

    def to_push(self) -> Region:
        """Central, and learners write there."""
        return self.part(Space.VARIABLES, self.pushed, 32)


def random_tasks(
    rng: random.Random, streams: Streams, count: int, asynchronous: bool
) -> list[Task]:
    """Tasks without waits; what learners push is in turn, or critical if they run apart."""
    places = Places(rng, streams)
    return [
        _of_learner(places, n, asynchronous) if rng.random() < 0.65 else _central(places, n)
        for n in range(count)
    ]


def _of_learner(places: Places, number: int, asynchronous: bool) -> Task:
    rng = places.rng
    reads = [places.own() for _ in range(rng.randint(0, 2))]
    writes = [places.own() for _ in range(rng.randint(0 if reads else 1, 2))]
    if rng.random() < 0.2:
        reads.append(places.part(Space.VARIABLES, places.central, 64))
    sees, pushes = rng.random() < 0.25, rng.random() < 0.25
    reads += [places.to_push()] if sees else []
    writes += [places.to_push()] if pushes else []
    return Task(
        number,
        rng.randrange(places.streams.per_learner),
        tuple(reads),
        tuple(writes),
        guard=places.own() if rng.random() < 0.1 else None,
        scratch=(places.own(),) if rng.random() < 0.1 else (),
        mapped=True,
        in_turn=pushes and not asynchronous,
        is_critical=(sees or pushes) and asynchronous,
    )


def _central(places: Places, number: int) -> Task:
    rng = places.rng
    device = rng.randrange(places.streams.devices)

    def regions(least: int) -> tuple[Region, ...]:
        several = [places.of_all(device) for _ in range(rng.randint(least, 2))]
        return (*several, places.to_push()) if rng.random() < 0.2 else tuple(several)

    stream = rng.randrange(places.streams.per_device)
    return Task(number, stream, regions(0), regions(1), device=device)


def random_streams(rng: random.Random) -> Streams:
    learners = rng.randint(1, 4)
    devices = rng.choice([n for n in (1, 2, 4) if n <= learners])
    return Streams(rng.randint(1, 2), devices, learners, rng.randint(1, 2))


def without(tasks: tuple[Task, ...], number: int, wait: Wait) -> tuple[Task, ...]:
    """Tasks that lack one wait."""
    left = tuple(w for w in tasks[number].waits if w != wait)
    return (*tasks[:number], replace(tasks[number], waits=left), *tasks[number + 1 :])


# Random runs.

Slot: TypeAlias = tuple[Space, int]  # 8 bytes
Memory: TypeAlias = dict[Slot, int]
Effect: TypeAlias = Callable[[Instance, Memory, list[Slot]], Memory]


def mixed(instance: Instance, read: Memory, written: list[Slot]) -> Memory:
    """Whatever is written tells all that was read, and by whom."""
    seed = hash((instance.task, instance.learner or 0, *sorted(read.values())))
    return {slot: hash((seed, slot[1])) for slot in written}


def slots(regions: list[Region]) -> list[Slot]:
    return [
        (region.space, place)
        for region in regions
        for place in range(region.offset, region.offset + region.nbytes, 8)
    ]


class StalledError(Exception):
    """All streams wait."""


class Run:
    """Streams that run on as waits allow; who is next is drawn.

    A task reads when it begins and writes when it ends, and others come between.
    """

    def __init__(self, plan: Plan, iterations: int, rng: random.Random, effect: Effect = mixed):
        self.plan, self.rng, self.effect = plan, rng, effect
        self.memory: Memory = {}
        self.done: set[Instance] = set()
        self.to_do: dict[int, deque[Instance]] = defaultdict(deque)
        for instance in instances(plan, iterations):
            self.to_do[stream_of(plan, instance)].append(instance)
        self.begun: dict[int, Memory] = {}
        self.critical: int | None = None  # the stream in a critical section

    def to_the_end(self) -> Memory:
        """Run, and return what is in memory then."""
        while any(self.to_do.values()):
            able = [stream for stream in self.to_do if self.is_able(stream)]
            if not able:
                raise StalledError
            self.advance(self.rng.choice(able))
        return self.memory

    def is_able(self, stream: int) -> bool:
        if stream in self.begun or not self.to_do[stream]:
            return stream in self.begun
        instance = self.to_do[stream][0]
        if not self.is_critical(instance) or self.critical == stream:
            return all(before in self.done for before in awaited(self.plan, instance))
        needed = (before for one in self.section(stream) for before in awaited(self.plan, one))
        own = set(self.section(stream))
        return self.critical is None and all(n in self.done or n in own for n in needed)

    def section(self, stream: int) -> Iterator[Instance]:
        """What is next on a stream and belongs together: it begins when all can go on."""
        first = self.to_do[stream][0]
        return takewhile(lambda one: one == first or self.goes_on(first, one), self.to_do[stream])

    def goes_on(self, last: Instance, after: Instance) -> bool:
        """Whether what is next on a stream belongs to the critical section of what was last."""
        is_apart = self.plan.tasks[after.task].is_apart
        return self.is_critical(after) and not is_apart and after.iteration == last.iteration

    def is_critical(self, instance: Instance) -> bool:
        return self.plan.tasks[instance.task].is_critical

    def advance(self, stream: int) -> None:
        """Begin what is next on a stream, or end what was begun."""
        instance = self.to_do[stream][0]
        reads, writes = touched(self.plan, instance)
        if stream not in self.begun:
            read = {slot: self.memory.get(slot, 0) for slot in slots(reads)}
            self.begun[stream] = self.effect(instance, read, slots(writes))
            self.critical = stream if self.is_critical(instance) else self.critical
            return
        self.memory |= self.begun.pop(stream)
        self.done.add(self.to_do[stream].popleft())
        if self.critical == stream and not self.is_section_open(stream, instance):
            self.critical = None

    def is_section_open(self, stream: int, last: Instance) -> bool:
        """Whether what is next belongs to the critical section of what was last."""
        after = self.to_do[stream][0] if self.to_do[stream] else None
        return after is not None and self.goes_on(last, after)


def run_in_order(plan: Plan, iterations: int) -> Memory:
    """One after another, in the order of issue."""
    memory: Memory = {}
    for instance in instances(plan, iterations):
        reads, writes = touched(plan, instance)
        read = {slot: memory.get(slot, 0) for slot in slots(reads)}
        memory |= mixed(instance, read, slots(writes))
    return memory
