"""When each task of a plan would run, if each stream had a core of its own.

A task begins when that before it on its stream is over and everything that it waits for, as CUDA's
streams and events have it; a critical section when all that any of its tasks waits for is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.plan.sections import sections
from fml.engine.plan.task import Plan

# Tasks and learners of one stream that begin together, in their order.
_Section: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """An instance of a task in an iteration, from when to when, in the unit of the costs."""

    iteration: int
    task: int
    learner: int
    begin: float
    end: float


def timetable(plan: Plan, costs: Sequence[float], iterations: int) -> tuple[Slot, ...]:
    """Return the slots of so many iterations, in the order of issue; `costs` are by task."""
    free: dict[int, float] = {}  # when each stream is
    unlocked = 0.0  # when the last critical section is over
    ends: dict[tuple[int, int, int], float] = {}
    slots: list[Slot] = []
    every = _sections(plan)
    for iteration in range(iterations):
        for section in _in_order(plan, every):
            number, learner = section[0]
            task = plan.tasks[number]
            stream = plan.streams.number(task, learner)
            awaited = (key for one in section for key in _awaited(plan, iteration, *one))
            now = max([free.get(stream, 0.0), *(ends.get(key, 0.0) for key in awaited)])
            if task.is_critical:
                now = max(now, unlocked)
            for number, learner in section:
                slots.append(Slot(iteration, number, learner, now, now + costs[number]))
                now = ends[iteration, number, learner] = now + costs[number]
            free[stream] = now
            if task.is_critical:
                unlocked = now
    return tuple(sorted(slots, key=lambda slot: (slot.iteration, slot.task, slot.learner)))


def _sections(plan: Plan) -> list[_Section]:
    """The critical sections of an iteration, and each other instance for itself."""
    keys = [(n, one) for n, task in enumerate(plan.tasks) for one in plan.instances(task.mapped)]
    begun = {
        places[0]: tuple(keys[place] for place in places)
        for places in sections(
            (plan.streams.number(task, one), task.is_critical, task.is_apart)
            for task, one in ((plan.tasks[n], one) for n, one in keys)
        )
    }
    alone = {place: (key,) for place, key in enumerate(keys) if not plan.tasks[key[0]].is_critical}
    return [section for _, section in sorted((begun | alone).items())]


def _in_order(plan: Plan, every: Sequence[_Section]) -> Iterator[_Section]:
    """Sections, each behind those that it waits for: a later task of it may wait for more."""
    done: set[tuple[int, int]] = set()
    left = [*every]
    while left:
        held: set[int] = set()  # streams whose next section must wait
        later: list[_Section] = []
        for section in left:
            number, learner = section[0]
            stream = plan.streams.number(plan.tasks[number], learner)
            awaited = (w for one in section for w in waits_of(plan, *one))
            needed = {(other, whose) for other, whose, before in awaited if not before}
            if stream in held or not needed <= done.union(section):
                held.add(stream)
                later.append(section)
            else:
                done.update(section)
                yield section
        assert len(later) < len(left), "critical sections of a plan never wait for each other"
        left = later


def waits_of(plan: Plan, number: int, learner: int) -> Iterator[tuple[int, int, int]]:
    """What an instance waits for on other streams: a task, whose, and how many iterations ago."""
    task = plan.tasks[number]
    for wait in task.waits:
        for other in plan.awaited(task, learner, wait):
            yield wait.task, other, wait.before
    if task.in_turn:
        others = plan.instances(task.mapped)
        yield (number, learner - 1, 0) if learner else (number, others[-1], 1)


def _awaited(
    plan: Plan, iteration: int, number: int, learner: int
) -> Iterator[tuple[int, int, int]]:
    for other, whose, before in waits_of(plan, number, learner):
        yield iteration - before, other, whose
