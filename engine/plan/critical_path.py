"""The longest chain of tasks of one iteration: no number of streams or cores makes it shorter.

Tasks are chained by the bytes that one writes and another reads, by the waits of the plan, and by
the order in which variables are read and assigned; not by the order of a stream, nor by memory that
is used again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fml.engine.plan.task import Plan, Region, Space, Task


@dataclass(frozen=True, slots=True)
class Link:
    """A task of the chain; if it is mapped, that of one learner."""

    task: int
    learner: int = 0


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The chain in order, and how long it takes in all, in the unit of the tasks' costs."""

    links: tuple[Link, ...]
    cost: float


def critical_path(plan: Plan, costs: Sequence[float]) -> CriticalPath:
    """Return the longest chain when each task, or each learner's instance of it, takes its cost."""
    learners = max(plan.streams.learners, 1)
    behind = dependences(plan)
    ends: list[list[float]] = []
    before: list[list[Link | None]] = []
    latest: list[Link] = []
    for number, task in enumerate(plan.tasks):
        ends.append([])
        before.append([])
        for learner in range(learners if task.mapped else 1):
            earlier = [*_instances(plan, task, learner, behind[number], latest)]
            if task.in_turn and learner:
                earlier.append(Link(number, learner - 1))
            last = max(earlier, key=lambda link: ends[link.task][link.learner], default=None)
            begins = 0.0 if last is None else ends[last.task][last.learner]
            ends[number].append(begins + costs[number])
            before[number].append(last)
        slowest = max(range(len(ends[number])), key=lambda learner: ends[number][learner])
        latest.append(Link(number, slowest))
    link = max(latest, key=lambda link: ends[link.task][link.learner], default=None)
    cost = 0.0 if link is None else ends[link.task][link.learner]
    chain: list[Link] = []
    while link is not None:
        chain.append(link)
        link = before[link.task][link.learner]
    return CriticalPath(tuple(reversed(chain)), cost)


def _instances(
    plan: Plan, task: Task, learner: int, behind: frozenset[int], latest: Sequence[Link]
) -> Iterator[Link]:
    """What an instance is behind: its learner's own, and of what it takes from all the latest."""
    of_all = {wait.task for wait in task.waits if wait.all_learners and not wait.before}
    for number in behind:
        is_own = task.mapped and plan.tasks[number].mapped and number not in of_all
        yield Link(number, learner) if is_own else latest[number]


def dependences(plan: Plan) -> tuple[frozenset[int], ...]:
    """For each task the earlier ones that it must come behind in the same iteration."""
    written = _Accesses(plan)
    read = _Accesses(plan)
    found: list[frozenset[int]] = []
    for number, task in enumerate(plan.tasks):
        behind = {wait.task for wait in task.waits if not wait.before}
        for region in task.touched:
            behind |= written.touching(region)
            if region.space is Space.VARIABLES:
                read.add(region, number)
        for region in task.changed:
            if region.space is Space.VARIABLES:
                behind |= read.touching(region) | written.touching(region)
            read.forget(region)
            written.forget(region)
            written.add(region, number)
        found.append(frozenset(behind - {number}))
    return tuple(found)


class _Accesses:
    """The latest accesses to bytes, by space."""

    def __init__(self, plan: Plan) -> None:
        self._learners = max(plan.streams.learners, 1)
        self._of: dict[Space, list[tuple[Region, int]]] = {space: [] for space in Space}

    def touching(self, region: Region) -> set[int]:
        """The tasks of accesses to any of these bytes."""
        return {number for own, number in self._of[region.space] if self._meet(own, region)}

    def add(self, region: Region, task: int) -> None:
        """Note an access."""
        if region.nbytes:
            self._of[region.space].append((region, task))

    def forget(self, region: Region) -> None:
        """Drop accesses to bytes that are all overwritten."""
        kept = [entry for entry in self._of[region.space] if not _covers(region, entry[0])]
        self._of[region.space] = kept

    def _meet(self, one: Region, other: Region) -> bool:
        """Whether any learner's bytes of the one are the same learner's, or all, of the other."""
        if bool(one.stride) == bool(other.stride):
            return one.overlaps(other)
        learners = range(self._learners)
        return any(one.of(learner).overlaps(other.of(learner)) for learner in learners)


def _covers(whole: Region, part: Region) -> bool:
    ends = whole.offset + whole.nbytes >= part.offset + part.nbytes
    return whole.stride == part.stride and whole.offset <= part.offset and ends
