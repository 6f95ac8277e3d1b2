"""When each task of a plan would run, if each stream had a core of its own.

A task begins when that before it on its stream is over and everything that it waits for, as CUDA's
streams and events have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fml.engine.plan.task import Plan


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
    unlocked = 0.0  # when the last critical task is over
    ends: dict[tuple[int, int, int], float] = {}
    slots: list[Slot] = []
    for iteration in range(iterations):
        for number, task in enumerate(plan.tasks):
            for learner in plan.instances(task.mapped):
                stream = plan.streams.number(task, learner)
                awaited = _awaited(plan, iteration, number, learner)
                begin = max([free.get(stream, 0.0), *(ends.get(key, 0.0) for key in awaited)])
                if task.is_critical:
                    begin = max(begin, unlocked)
                end = begin + costs[number]
                free[stream] = ends[iteration, number, learner] = end
                if task.is_critical:
                    unlocked = end
                slots.append(Slot(iteration, number, learner, begin, end))
    return tuple(slots)


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
