"""The race check: two tasks that touch the same bytes, one of them writing, must be ordered.

Vector clocks over the streams, and byte ranges instead of names. Streams run on from one iteration
of a plan to the next. Two iterations show all its races: if A(i) is before B(i + 1),
then A(i) is before A(i + 1) and that before B(i + 2), and what orders two instances lies in
iterations between theirs. One is enough for a plan that is given nothing and of which nothing is
taken: what runs it joins its streams between iterations.

Learners that are in turn are ordered by that; critical tasks of different learners may run in
either order, which is no race.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeAlias

from fml.engine.plan.cells import touches
from fml.engine.plan.clocks import ENOUGH_LEARNERS, Clocks
from fml.engine.plan.task import Plan, Region, Task


class Instance(NamedTuple):
    """A task, by its place in the plan, in an iteration; and whose, if it is a learner's."""

    task: int
    iteration: int = 0
    learner: int | None = None

    def __str__(self) -> str:
        whose = "" if self.learner is None else f" of learner {self.learner}"
        return f"{self.task}{whose} in iteration {self.iteration}"


@dataclass(frozen=True, slots=True)
class Race:
    """Two tasks that may run in either order, and why they must not."""

    first: Instance
    second: Instance
    region: Region

    def __str__(self) -> str:
        return (
            f"tasks {self.first} and {self.second} touch {self.region.nbytes} bytes of the "
            f"{self.region.space.value} at {self.region.offset} in no certain order"
        )


class RaceError(Exception):
    """A plan with races: a bug in fml."""

    def __init__(self, races: list[Race]) -> None:
        """`races` are all that were found."""
        super().__init__("\n".join(map(str, races)))
        self.races = races


def find_races(
    plan: Plan, iterations: int = 2, learners: int | None = ENOUGH_LEARNERS
) -> list[Race]:
    """Return every pair of conflicting tasks that nothing orders, with two of its instances.

    Pairs that are as many iterations apart as an earlier one are not repeated. So many `learners`
    are looked at; a few stand for all (see `clocks`), None is all.

    Raises:
        ClashError: learners' regions do not lie in their strides.
        ValueError: a task waits for one that comes later.
    """
    total = plan.streams.learners
    check = _Check(plan, total if learners is None else min(total, learners))
    for iteration in range(iterations if total or plan.runs_on else 1):
        check.clocks.begin_iteration()
        for number in range(len(plan.tasks)):
            check.step(number, iteration)
    return check.races


_Pair: TypeAlias = tuple[int, int, int]  # two tasks, and the iterations between


class _Access(NamedTuple):
    time: int
    iteration: int
    task: int


class _Lane(NamedTuple):
    """Accesses by tasks of one stream that need the same order to a later one."""

    stream: int
    writes: bool
    is_own: bool
    is_critical: bool


class _Check:
    def __init__(self, plan: Plan, learners: int) -> None:
        self.clocks = Clocks(plan.tasks, plan.streams, learners)
        self.races: list[Race] = []
        self._tasks = plan.tasks
        self._total = plan.streams.learners
        self._touch = touches(plan.tasks, plan.streams.learners)
        self._are_several = learners > 1
        self._cells: dict[int, dict[_Lane, list[_Access]]] = defaultdict(dict)
        self._racing: set[_Pair] = set()
        self._looked_at: set[tuple[_Pair, bool]] = set()

    def step(self, number: int, iteration: int) -> None:
        """Check the next task against all before it."""
        task = self._tasks[number]
        time = self.clocks.begin(number, task.waits)
        self._check_siblings(number, iteration)
        known: dict[tuple[int, bool], int] = {}
        access = _Access(time, iteration, number)
        touch = self._touch[number]
        for cells, writes in ((touch.reads, False), (touch.writes, True)):
            for cell, is_own in cells.items():
                lanes = self._cells[cell]
                for lane, accesses in lanes.items():
                    if writes or lane.writes:
                        self._check(access, is_own, lane, accesses, known)
                stream = self.clocks.stream(number)
                lane = _Lane(stream, writes, is_own, task.is_critical)
                lanes.setdefault(lane, []).append(access)
        self.clocks.end(number)

    def _check(
        self,
        access: _Access,
        is_own: bool,
        lane: _Lane,
        accesses: list[_Access],
        known: dict[tuple[int, bool], int],
    ) -> None:
        """Look for those of a lane that are not known to be before: the latest are not."""
        is_critical = self._tasks[access.task].is_critical and lane.is_critical
        is_for_all = not (is_critical or (is_own and lane.is_own))
        key = lane.stream, is_for_all
        if key not in known:
            known[key] = self.clocks.known(access.task, accesses[-1].task, is_for_all)
        for earlier in reversed(accesses):
            if earlier.time <= known[key]:
                return
            self._add(earlier, access, is_for_all)

    def _add(self, earlier: _Access, access: _Access, is_for_all: bool) -> None:
        pair = earlier.task, access.task, access.iteration - earlier.iteration
        if pair in self._racing or (pair, is_for_all) in self._looked_at:
            return
        self._looked_at.add((pair, is_for_all))
        unordered = self.clocks.unordered(access.task, earlier.task, earlier.time, is_for_all)
        for one, other in unordered:
            first = Instance(earlier.task, earlier.iteration, one)
            second = Instance(access.task, access.iteration, other)
            if self._add_if_they_meet(first, second):
                self._racing.add(pair)
                return

    def _check_siblings(self, number: int, iteration: int) -> None:
        """Check the learners' instances of one task against each other."""
        task = self._tasks[number]
        if iteration or not task.mapped or task.in_turn or task.is_critical:
            return
        if self._are_several and not all(self._touch[number].writes.values()):
            self._add_if_they_meet(Instance(number, 0, 0), Instance(number, 0, 1))

    def _add_if_they_meet(self, first: Instance, second: Instance) -> bool:
        """Add a race of two instances, or of two for which they stand, if bytes are the same."""
        found = _meeting(self._tasks, self._total, first, second)
        if found:
            self.races.append(found)
        return found is not None


def _meeting(
    tasks: Sequence[Task], learners: int, first: Instance, second: Instance
) -> Race | None:
    each = range(learners)
    for one in each if first.learner is not None else [None]:
        touched, changed = _regions(tasks[first.task], one)
        for other in each if second.learner is not None else [None]:
            if _order(one, other) != _order(first.learner, second.learner):
                continue
            others_touched, others_changed = _regions(tasks[second.task], other)
            pairs = [*product(changed, others_changed + others_touched)]
            pairs += product(touched, others_changed)
            for region, others in pairs:
                if region.overlaps(others):
                    first, second = first._replace(learner=one), second._replace(learner=other)
                    return Race(first, second, region)
    return None


def _order(one: int | None, other: int | None) -> int:
    """Return which of two learners is the first: all that tells pairs of learners apart."""
    return 0 if one is None or other is None else (one > other) - (one < other)


def _regions(task: Task, learner: int | None) -> tuple[list[Region], list[Region]]:
    """Return what an instance reads, and what it writes."""
    if learner is None:
        return [*task.touched], [*task.changed]
    return [r.of(learner) for r in task.touched], [r.of(learner) for r in task.changed]


def require_no_race(plan: Plan) -> None:
    """Raise `RaceError` if a plan has a race, and as `find_races` does."""
    races = find_races(plan)
    if races:
        raise RaceError(races)
