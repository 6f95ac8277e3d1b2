"""The stall check: no critical section may wait for what comes only behind it.

A critical section begins when all that its tasks wait for is done, so that whoever is in one never
waits there. Then the lock stalls nobody, whoever gets it first. But what any of the tasks waits
for, the first of them waits for, and that must not lead in a circle. If it does, it does so within
one iteration: waits never lead to a later one.

One learner stands for all of them. Waits are the same for every learner, so that a circle is still
one when all its learners are put in the place of one; and a circle of one learner's is any one's.
Turns alone tell learners apart. They lead from each to the next, and something else must lead back.
"""

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from fml.engine.plan.task import Plan


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


def require_no_stall(plan: Plan) -> None:
    """Raise `StallError` if the critical sections of a plan without races can wait for ever."""
    streams = [plan.streams.number(task) for task in plan.tasks]
    found = sections((stream, t.is_critical) for stream, t in zip(streams, plan.tasks, strict=True))
    first = {number: section[0] for section in found for number in section}
    if not first:
        return
    order: TopologicalSorter[int] = TopologicalSorter()
    latest: dict[int, int] = {}
    for number, (task, stream) in enumerate(zip(plan.tasks, streams, strict=True)):
        if stream in latest:
            order.add(number, latest[stream])
        latest[stream] = number
        for wait in task.waits:
            is_of_others = task.mapped and wait.all_learners and plan.streams.learners > 1
            if not wait.before and (is_of_others or streams[wait.task] != stream):
                order.add(first.get(number, number), wait.task)
    try:
        order.prepare()
    except CycleError as error:
        circle: list[int] = error.args[1]
        raise StallError(circle, next(s for s in found if s[0] in circle)) from None


def sections(things: Iterable[tuple[int, bool]]) -> list[list[int]]:
    """The critical sections of an iteration, each as its places, in the order of their first.

    Things are the stream of each and whether it is critical. What is critical on one stream, with
    nothing else of that stream between, is one section.
    """
    found: list[list[int]] = []
    current: dict[int, list[int]] = {}  # the section that each stream is in
    for place, (stream, is_critical) in enumerate(things):
        if not is_critical:
            current.pop(stream, None)
        elif stream in current:
            current[stream].append(place)
        else:
            current[stream] = [place]
            found.append(current[stream])
    return found
