"""The race check: two tasks that touch the same bytes, one of them writing, must be ordered.

Vector clocks over the streams (Fidge 1988, Mattern 1989), and byte ranges instead of names. Two
iterations are unrolled; the executor joins all streams between them, and so does this, which
orders any pair of the two. A plan whose iterations run on freely must not be joined here either.
"""

from dataclasses import dataclass

from fml.engine.plan.task import Plan, Region, Task


@dataclass(frozen=True, slots=True)
class Race:
    """Two tasks, by place in the plan, that may run in either order, and why they must not."""

    first: int
    second: int
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


@dataclass(frozen=True, slots=True)
class _Access:
    task: int
    stream: int
    time: int
    region: Region
    writes: bool


_PRUNED_AT_FIRST = 64


def find_races(plan: Plan, iterations: int = 2) -> list[Race]:
    """Return every pair of conflicting accesses that nothing orders."""
    count = plan.streams.count
    clocks = [[0] * count for _ in range(count)]
    accesses: list[_Access] = []
    worth_pruning = _PRUNED_AT_FIRST
    races: list[Race] = []
    for _ in range(iterations):
        ended: dict[int, list[int]] = {}
        for number, task in enumerate(plan.tasks):
            clock = clocks[task.stream]
            for awaited in task.waits:
                clock[:] = map(max, clock, ended[awaited.task])
            clock[task.stream] += 1
            races += _conflicts(number, task, clock, accesses)
            accesses += _accesses(number, task, clock[task.stream])
            ended[number] = list(clock)
            if len(accesses) > worth_pruning:
                accesses = _not_known_to_all(accesses, clocks)
                worth_pruning = 2 * len(accesses) + _PRUNED_AT_FIRST
        # The host waits for every stream before it begins the next iteration.
        joined = [max(times) for times in zip(*clocks, strict=True)]
        clocks = [list(joined) for _ in range(count)]
        accesses = _not_known_to_all(accesses, clocks)
    return races


def _not_known_to_all(accesses: list[_Access], clocks: list[list[int]]) -> list[_Access]:
    """Drop what is before all that is to come, on whatever stream: it can race no more."""
    known = [min(times) for times in zip(*clocks, strict=True)]
    return [a for a in accesses if a.time > known[a.stream]]


def _accesses(number: int, task: Task, time: int) -> list[_Access]:
    made = [_Access(number, task.stream, time, r, writes=True) for r in task.changed]
    made += [_Access(number, task.stream, time, r, writes=False) for r in task.touched]
    return made


def _conflicts(number: int, task: Task, clock: list[int], accesses: list[_Access]) -> list[Race]:
    found: list[Race] = []
    for access in accesses:
        if access.time <= clock[access.stream]:
            continue  # it happened before
        against = (*task.changed, *task.touched) if access.writes else task.changed
        if any(access.region.overlaps(region) for region in against):
            found.append(Race(access.task, number, access.region))
    return found


def require_no_race(plan: Plan) -> None:
    """Raise `RaceError` if a plan has a race."""
    races = find_races(plan)
    if races:
        raise RaceError(races)
