"""Critical sections: none may wait for what comes only behind it, or its learners stall.

A critical section begins when all that its tasks wait for is done, so that whoever is in one never
waits there. Then the lock stalls nobody, whoever gets it first. But what any of the tasks waits
for, the first of them waits for, and that must not lead in a circle. If it does, it does so within
one iteration: waits never lead to a later one.

One learner stands for all of them. Waits are the same for every learner, so that a circle is still
one when all its learners are put in the place of one; and a circle of one learner's is any one's.
Turns alone tell learners apart. They lead from each to the next, and something else must lead back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

from fml.engine.plan.task import Plan, Streams, Task


class StallError(Exception):
    """A plan whose learners would wait for each other for ever: a bug in fml."""

    def __init__(self, circle: Sequence[int], section: Sequence[int]) -> None:
        """Each task of the `circle` waits for the one before it, and is the first again in the end.

        `section` is a critical section on it.
        """
        steps = " before ".join(map(str, circle))
        super().__init__(
            f"tasks wait for each other: {steps}; tasks {', '.join(map(str, section))} are one "
            "critical section, which begins when all that any of them waits for is done"
        )
        self.circle = circle


def parted(tasks: Sequence[Task], streams: Streams) -> tuple[Task, ...]:
    """Part critical sections, in tasks with waits, where one would wait for what comes of itself.

    Its second part then begins when that has come. Each task remains whole.
    """
    found = [*tasks]
    while (stall := _stall(found, streams)) is not None:
        found[stall.behind] = replace(found[stall.behind], is_apart=True)
    return tuple(found)


def require_no_stall(plan: Plan) -> None:
    """Raise `StallError` if the critical sections of a plan without races can wait for ever."""
    stall = _stall(plan.tasks, plan.streams)
    if stall is not None:
        raise StallError(stall.circle, stall.section)


class _Stall(NamedTuple):
    circle: list[int]
    section: list[int]
    behind: int  # the task of the section that waits, and is not its first


def _stall(tasks: Sequence[Task], streams: Streams) -> _Stall | None:
    where = [streams.number(task) for task in tasks]
    found = sections(
        (stream, task.is_critical, task.is_apart) for stream, task in zip(where, tasks, strict=True)
    )
    first = {number: section[0] for section in found for number in section}
    if not first:
        return None
    order: TopologicalSorter[int] = TopologicalSorter()
    latest: dict[int, int] = {}
    moved: dict[tuple[int, int], int] = {}  # what a section waits for inside -> where
    for number, (task, stream) in enumerate(zip(tasks, where, strict=True)):
        if stream in latest:
            order.add(number, latest[stream])
        latest[stream] = number
        for wait in task.waits:
            is_of_others = task.mapped and wait.all_learners and streams.learners > 1
            if not wait.before and (is_of_others or where[wait.task] != stream):
                begins = first.get(number, number)
                order.add(begins, wait.task)
                if begins != number:
                    moved[wait.task, begins] = number
    try:
        order.prepare()
    except CycleError as error:
        circle: list[int] = error.args[1]
        # All else leads from earlier tasks to later ones.
        pair = next(pair for pair in pairwise(circle) if pair in moved)
        return _Stall(circle, next(s for s in found if s[0] == pair[1]), moved[pair])
    return None


def sections(things: Iterable[tuple[int, bool, bool]]) -> list[list[int]]:
    """The critical sections of an iteration, each as its places, in the order of their first.

    Things are the stream of each, whether it is critical, and whether it begins another section.
    Else what is critical on one stream, with nothing else of that stream between, is one section.
    """
    found: list[list[int]] = []
    current: dict[int, list[int]] = {}  # the section that each stream is in
    for place, (stream, is_critical, is_apart) in enumerate(things):
        if not is_critical:
            current.pop(stream, None)
        elif stream in current and not is_apart:
            current[stream].append(place)
        else:
            current[stream] = [place]
            found.append(current[stream])
    return found
