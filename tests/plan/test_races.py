"""The race check agrees, both ways, with an oracle that closes the order of all tasks."""

import random
from dataclasses import replace
from itertools import combinations, pairwise

import networkx as nx
import pytest

from fml.engine.ir.graph import Graph
from fml.engine.plan.races import RaceError, find_races, require_no_race
from fml.engine.plan.task import Plan, Region, Space, Task

Pair = tuple[int, int]


def conflict(a: Task, b: Task) -> bool:
    """Whether one writes bytes that the other touches."""
    pairs = [(w, r) for w in a.changed for r in (*b.changed, *b.touched)]
    return any(x.overlaps(y) for x, y in [*pairs, *((w, r) for w in b.changed for r in a.touched)])


def order_of(tasks: tuple[Task, ...]) -> nx.DiGraph:
    order = nx.DiGraph([(awaited, n) for n, task in enumerate(tasks) for awaited in task.waits])
    order.add_nodes_from(range(len(tasks)))
    for stream in {task.stream for task in tasks}:
        order.add_edges_from(pairwise(n for n, t in enumerate(tasks) if t.stream == stream))
    return order


def oracle(tasks: tuple[Task, ...]) -> set[Pair]:
    """Conflicting pairs without a path between them, by transitive closure.

    The host joins all streams between iterations, so pairs of two iterations are in order.
    """
    before = nx.transitive_closure_dag(order_of(tasks))
    pairs = combinations(range(len(tasks)), 2)
    return {(a, b) for a, b in pairs if conflict(tasks[a], tasks[b]) and not before.has_edge(a, b)}


def found(tasks: tuple[Task, ...], streams: int) -> set[Pair]:
    return {(race.first, race.second) for race in find_races(as_plan(tasks, streams))}


def as_plan(tasks: tuple[Task, ...], streams: int) -> Plan:
    return Plan(Graph("g", [], {}), tasks, {}, {}, {}, 4096, 4096, streams)


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
        waits: tuple[int, ...] = ()
        for earlier in reversed(range(n)):
            if not conflict(tasks[earlier], task):
                continue
            order = order_of((*tasks, replace(task, waits=waits)))
            if rng.random() < 0.2 or not nx.has_path(order, earlier, n):
                waits = (*waits, earlier)
        own = {earlier for earlier in waits if tasks[earlier].stream == task.stream}
        tasks.append(replace(task, waits=tuple(w for w in waits if w not in own)))
    return tuple(tasks)


@pytest.mark.parametrize("seed", range(60))
def test_right_plans_raise_no_alarm(seed: int) -> None:
    rng = random.Random(seed)
    streams = rng.randint(1, 4)
    tasks = random_tasks(rng, 30, streams)
    assert oracle(tasks) == set()
    require_no_race(as_plan(tasks, streams))


def test_mutants_without_one_wait_agree_both_ways() -> None:
    racy = harmless = 0
    for seed in range(60):
        rng = random.Random(seed)
        streams = rng.randint(2, 4)
        tasks = random_tasks(rng, 24, streams)
        waiting = [(n, w) for n, task in enumerate(tasks) for w in task.waits]
        for n, dropped in rng.sample(waiting, min(8, len(waiting))):
            left = tuple(w for w in tasks[n].waits if w != dropped)
            mutant = (*tasks[:n], replace(tasks[n], waits=left), *tasks[n + 1 :])
            expected = oracle(mutant)
            assert found(mutant, streams) == expected
            racy, harmless = racy + bool(expected), harmless + (not expected)
    assert racy > 100
    assert harmless > 20


def test_plans_with_no_waits_at_all_agree_pair_by_pair() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        tasks = tuple(replace(t, waits=()) for t in random_tasks(rng, 24, 3))
        assert found(tasks, 3) == oracle(tasks)


def test_a_long_plan_forgets_what_is_over_and_nothing_else() -> None:
    """Thousands of accesses that all streams know of, then one that only one of them does."""
    region, other = Region(Space.ARENA, 0, 8), Region(Space.ARENA, 64, 8)
    tasks = [Task(n, n % 2, (region,), (region,), waits=(n - 1,) if n else ()) for n in range(2000)]
    tasks.append(Task(2000, 0, (), (other,), waits=(1999,)))
    tasks.extend(Task(n, 0, (region,), (region,)) for n in range(2001, 2500))
    tasks.append(Task(2500, 1, (other,), (Region(Space.ARENA, 128, 8),)))
    assert found(tuple(tasks), 2) == {(2000, 2500)}


WRITE, OTHER, THIRD = (Region(Space.ARENA, offset, 8) for offset in (0, 64, 128))
PAIRS = [
    ("read and write", Task(0, 0, (WRITE,), (OTHER,)), Task(1, 1, (), (WRITE,))),
    ("two writes", Task(0, 0, (), (WRITE,)), Task(1, 1, (), (WRITE,))),
    ("one byte", Task(0, 0, (), (Region(Space.ARENA, 7, 4),)), Task(1, 1, (), (WRITE,))),
    ("a guard", Task(0, 0, (), (WRITE,)), Task(1, 1, (), (OTHER,), guard=WRITE)),
]


@pytest.mark.parametrize(("what", "first", "second"), PAIRS)
def test_the_smallest_races(what: str, first: Task, second: Task) -> None:
    with pytest.raises(RaceError, match="tasks 0 and 1"):
        require_no_race(as_plan((first, second), 2))
    assert found((first, replace(second, waits=(0,))), 2) == set(), what
    assert found((first, replace(second, stream=0)), 2) == set(), what


HARMLESS = [
    ("two reads", Task(0, 0, (WRITE,), (OTHER,)), Task(1, 1, (WRITE,), (THIRD,))),
    ("neighbours", Task(0, 0, (), (Region(Space.ARENA, 8, 8),)), Task(1, 1, (), (WRITE,))),
    ("no bytes", Task(0, 0, (), (Region(Space.ARENA, 4, 0),)), Task(1, 1, (), (WRITE,))),
    ("other spaces", Task(0, 0, (), (Region(Space.VARIABLES, 0, 8),)), Task(1, 1, (), (WRITE,))),
]


@pytest.mark.parametrize(("what", "first", "second"), HARMLESS)
def test_what_is_no_race(what: str, first: Task, second: Task) -> None:
    assert found((first, second), 2) == set(), what
