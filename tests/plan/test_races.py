"""The race check agrees, both ways, with an oracle that closes the order of all tasks."""

import random
from dataclasses import replace

import pytest

from fml.engine.plan.races import Instance, RaceError, require_no_race
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait
from tests.plan.schedules import (
    as_plan,
    found,
    is_conflict,
    oracle,
    order,
    without,
)


def joined(tasks: tuple[Task, ...], streams: int) -> Plan:
    """A plan without learners: its streams are joined after each iteration."""
    return as_plan(tasks, Streams(streams))


def random_region(rng: random.Random) -> Region:
    space = rng.choice([Space.ARENA, Space.ARENA, Space.VARIABLES])
    return Region(space, 8 * rng.randrange(24), 8 * rng.randrange(0, 5))


def random_tasks(rng: random.Random, count: int, streams: int) -> tuple[Task, ...]:
    """Tasks that touch any bytes, each waiting for what it conflicts with: a right plan.

    Of the waits that follow from others, some are left out, as a planner does.
    """
    tasks: list[Task] = []
    for n in range(count):
        reads = tuple(random_region(rng) for _ in range(rng.randint(0, 2)))
        guard = random_region(rng) if rng.random() < 0.1 else None
        writes = tuple(random_region(rng) for _ in range(rng.randint(1, 2)))
        task = Task(n, rng.randrange(streams), reads, writes, guard)
        waits: tuple[Wait, ...] = ()
        for earlier in reversed(range(n)):
            plan = joined((*tasks, replace(task, waits=waits)), streams)
            one, other = Instance(earlier), Instance(n)
            if not is_conflict(plan, one, other):
                continue
            if rng.random() < 0.2 or not order(plan, 1).has_edge(one, other):
                waits = (*waits, Wait(earlier))
        own = {earlier for earlier in waits if tasks[earlier.task].stream == task.stream}
        tasks.append(replace(task, waits=tuple(w for w in waits if w not in own)))
    return tuple(tasks)


@pytest.mark.parametrize("seed", range(60))
def test_right_plans_raise_no_alarm(seed: int) -> None:
    rng = random.Random(seed)
    streams = rng.randint(1, 4)
    plan = joined(random_tasks(rng, 30, streams), streams)
    assert oracle(plan) == set()
    require_no_race(plan)


def test_mutants_without_one_wait_agree_both_ways() -> None:
    racy = harmless = 0
    for seed in range(60):
        rng = random.Random(seed)
        streams = rng.randint(2, 4)
        tasks = random_tasks(rng, 24, streams)
        waiting = [(n, w) for n, task in enumerate(tasks) for w in task.waits]
        for n, dropped in rng.sample(waiting, min(8, len(waiting))):
            mutant = joined(without(tasks, n, dropped), streams)
            expected = oracle(mutant)
            assert found(mutant) == expected
            racy, harmless = racy + bool(expected), harmless + (not expected)
    assert racy > 100
    assert harmless > 20


def test_plans_with_no_waits_at_all_agree_pair_by_pair() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        plan = joined(tuple(replace(t, waits=()) for t in random_tasks(rng, 24, 3)), 3)
        assert found(plan) == oracle(plan)


def test_a_long_plan_forgets_what_is_over_and_nothing_else() -> None:
    """Thousands of accesses that all streams know of, then one that only one of them does."""
    region, other = Region(Space.ARENA, 0, 8), Region(Space.ARENA, 64, 8)
    tasks = [
        Task(n, n % 2, (region,), (region,), waits=(Wait(n - 1),) if n else ()) for n in range(2000)
    ]
    tasks.append(Task(2000, 0, (), (other,), waits=(Wait(1999),)))
    tasks.extend(Task(n, 0, (region,), (region,)) for n in range(2001, 2500))
    tasks.append(Task(2500, 1, (other,), (Region(Space.ARENA, 128, 8),)))
    assert found(joined(tuple(tasks), 2)) == {(2000, 2500, 0)}


WRITE, OTHER, THIRD = (Region(Space.ARENA, offset, 8) for offset in (0, 64, 128))
PAIRS = [
    ("read and write", Task(0, 0, (WRITE,), (OTHER,)), Task(1, 1, (), (WRITE,))),
    ("two writes", Task(0, 0, (), (WRITE,)), Task(1, 1, (), (WRITE,))),
    ("one byte", Task(0, 0, (), (Region(Space.ARENA, 7, 4),)), Task(1, 1, (), (WRITE,))),
    ("a guard", Task(0, 0, (), (WRITE,)), Task(1, 1, (), (OTHER,), guard=WRITE)),
]


@pytest.mark.parametrize(("what", "first", "second"), PAIRS)
def test_the_smallest_races(what: str, first: Task, second: Task) -> None:
    with pytest.raises(RaceError, match="tasks 0 in iteration 0 and 1 in iteration 0"):
        require_no_race(joined((first, second), 2))
    assert found(joined((first, replace(second, waits=(Wait(0),))), 2)) == set(), what
    assert found(joined((first, replace(second, stream=0)), 2)) == set(), what


HARMLESS = [
    ("two reads", Task(0, 0, (WRITE,), (OTHER,)), Task(1, 1, (WRITE,), (THIRD,))),
    ("neighbours", Task(0, 0, (), (Region(Space.ARENA, 8, 8),)), Task(1, 1, (), (WRITE,))),
    ("no bytes", Task(0, 0, (), (Region(Space.ARENA, 4, 0),)), Task(1, 1, (), (WRITE,))),
    ("other spaces", Task(0, 0, (), (Region(Space.VARIABLES, 0, 8),)), Task(1, 1, (), (WRITE,))),
]


@pytest.mark.parametrize(("what", "first", "second"), HARMLESS)
def test_what_is_no_race(what: str, first: Task, second: Task) -> None:
    assert found(joined((first, second), 2)) == set(), what
