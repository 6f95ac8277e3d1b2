"""Which tasks wait for which: as few waits as order all that touch the same bytes.

The planner comes here when streams and memory are settled, and the race check checks the outcome
with nothing of this but the clocks and the cells.

If A stands before B in the plan and one of them writes what the other touches, then B waits for A,
and the A of the next iteration for B; what that leaves out follows, since streams run on. A wait
that follows from others is left out. Two iterations show all: a path of order never leads back to
an earlier iteration, so what orders A(i) and B(i), or A(i) and B(i + 1), lies in these iterations
alone, and is the same for any i.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from fml.engine.plan.cells import ClashError, Touch, touches
from fml.engine.plan.clocks import ENOUGH_LEARNERS, Clocks
from fml.engine.plan.task import Streams, Task, Wait


def with_waits(
    tasks: Sequence[Task], streams: Streams, staleness: int | None = 0
) -> tuple[Task, ...]:
    """Return tasks, in the order of a plan, with the waits that they need.

    The cost is flat in learners: see `clocks` for why three stand for all, and `cells` for bytes.

    - Tasks that are `in_turn` have an order among learners; others wait for those of all learners.
    - Critical tasks of different learners need no order.
    - A learner may be `staleness` iterations ahead of the slowest, None is no bound. At 0 nothing
      is said of it: what learners share is ordered by its bytes, and what they do not share need
      not be.

    Raises:
        ClashError: different learners touch the same bytes in tasks that are not in turn, nor
            both critical, or learners' regions do not lie in their strides.
    """
    walk = _Walk(tasks, streams, touches(tasks, streams.learners))
    waits: list[list[Wait]] = []
    for _ in range(2):
        walk.clocks.begin_iteration()
        walk.times.append([])
        waits = [walk.step(number) for number in range(len(tasks))]
    timed = [replace(task, waits=tuple(w)) for task, w in zip(tasks, waits, strict=True)]
    if staleness and streams.learners > 1:
        return _bounded(timed, streams, staleness)
    return tuple(timed)


_FAR = 3


class _Access(NamedTuple):
    iteration: int
    task: int
    is_own: bool


class _Walk:
    def __init__(self, tasks: Sequence[Task], streams: Streams, touch: list[Touch]) -> None:
        self.clocks = Clocks(tasks, streams, min(streams.learners, ENOUGH_LEARNERS))
        self.times: list[list[int]] = []
        self._tasks = tasks
        self._touch = touch
        self._are_several = streams.learners > 1
        # Of each cell, who wrote it last, and with it who has read it since: all others are before.
        self._writer: dict[int, _Access] = {}
        self._since: dict[int, list[_Access]] = defaultdict(list)

    def step(self, number: int) -> list[Wait]:
        """Return what the next task waits for."""
        iteration = len(self.times) - 1
        self.times[-1].append(self.clocks.begin(number))
        waits: list[Wait] = []
        before = self._before(number)
        # From the latest on: only later ones can make an earlier wait needless.
        for when, other in sorted(before, reverse=True):
            all_learners = before[when, other]
            if self.clocks.known(number, other, all_learners) < self.times[when][other]:
                waits.append(Wait(other, iteration - when, all_learners))
                self.clocks.wait(number, waits[-1])
        self.clocks.end(number)
        self._touched_by(number, iteration)
        return waits

    def _before(self, number: int) -> dict[tuple[int, int], bool]:
        """Return iterations and tasks that must come before, and whether those of all learners."""
        touch = self._touch[number]
        found: dict[bool, set[_Access]] = {True: set(), False: set()}
        for cell, is_own in touch.reads.items():
            if cell in self._writer:
                found[is_own].add(self._writer[cell])
        for cell, is_own in touch.writes.items():
            found[is_own].update(self._since[cell])
        before: dict[tuple[int, int], bool] = {}
        for is_own, accesses in found.items():
            for iteration, other, is_others_own in accesses:
                is_for_all = not (is_own and is_others_own) and self._needs_all(number, other)
                before[iteration, other] = is_for_all or before.get((iteration, other), False)
        if not all(touch.writes.values()):
            self._needs_all(number, number)
        return before

    def _needs_all(self, number: int, other: int) -> bool:
        """Whether learners' instances of two tasks, which touch the same, need an order."""
        task, earlier = self._tasks[number], self._tasks[other]
        if not (self._are_several and task.mapped and earlier.mapped):
            return False
        if task.is_critical and earlier.is_critical:
            return False
        if task.in_turn or earlier.in_turn:
            return True
        raise ClashError(
            f"tasks {other} and {number} of different learners touch the same bytes, and are "
            "neither in turn nor both critical"
        )

    def _touched_by(self, number: int, iteration: int) -> None:
        access = {is_own: _Access(iteration, number, is_own) for is_own in (True, False)}
        touch = self._touch[number]
        for cell, is_own in touch.reads.items():
            self._since[cell].append(access[is_own])
        for cell, is_own in touch.writes.items():
            self._writer[cell] = access[is_own]
            self._since[cell] = [access[is_own]]


def _bounded(tasks: list[Task], streams: Streams, staleness: int) -> tuple[Task, ...]:
    """Let the first task of each stream of a learner wait for the last ones of all learners.

    What conflicts order already, at most `_FAR` iterations apart, needs no wait; nothing that these
    waits order, `staleness` + 1 > 1 iterations apart, makes another one needless.
    """
    mapped = [(number, task.stream) for number, task in enumerate(tasks) if task.mapped]
    first = {stream: number for number, stream in reversed(mapped)}.values()
    last = sorted({stream: number for number, stream in mapped}.values(), reverse=True)
    clocks = Clocks(tasks, streams, min(streams.learners, ENOUGH_LEARNERS))
    times: list[list[int]] = []
    far = min(staleness + 1, _FAR)
    for _ in range(far):
        clocks.begin_iteration()
        times.append([])
        for number, task in enumerate(tasks):
            times[-1].append(clocks.begin(number, task.waits))
            clocks.end(number)
    clocks.begin_iteration()
    bounded: list[Task] = []
    for number, task in enumerate(tasks):
        clocks.begin(number, task.waits)
        bounds: list[Wait] = []
        for other in last if number in first else ():
            if clocks.known(number, other, all_learners=True) < times[0][other]:
                bounds.append(Wait(other, staleness + 1, all_learners=True))
                clocks.wait(number, Wait(other, far, all_learners=True))
        clocks.end(number)
        bounded.append(replace(task, waits=(*task.waits, *bounds)))
    return tuple(bounded)
