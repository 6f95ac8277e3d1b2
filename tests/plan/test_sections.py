"""Critical sections: those that would wait for ever are found, and nothing else is."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from fml.engine.plan.races import require_no_race
from fml.engine.plan.sections import StallError, parted, require_no_stall, sections
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait
from fml.engine.plan.waits import with_waits
from tests.plan.schedules import Run, StalledError, as_plan, random_streams, random_tasks, stalls


def own(place: int) -> Region:
    return Region(Space.VARIABLES, 1024 * place, 8, stride=8)


def of_all(place: int, learners: int) -> Region:
    return Region(Space.VARIABLES, 1024 * place, 8 * learners)


def central(place: int) -> Region:
    return Region(Space.VARIABLES, 65536 + 64 * place, 8)


def planned(tasks: list[Task], learners: int = 4, staleness: int | None = 2) -> Plan:
    streams = Streams(learners=learners)
    plan = as_plan(with_waits(tasks, streams, staleness), streams, staleness)
    require_no_race(plan)
    return plan


def is_refused(plan: Plan) -> bool:
    try:
        require_no_stall(plan)
    except StallError:
        return True
    return False


def runs(plan: Plan, seeds: int = 20) -> bool:
    """Whether random runs come to their end; those that do not must all stall."""
    ended: set[bool] = set()
    for seed in range(seeds):
        try:
            Run(plan, 4, random.Random(seed)).to_the_end()
        except StalledError:
            ended.add(False)
        else:
            ended.add(True)
    (all_ended,) = ended
    return all_ended


def averaging(learners: int, *, is_apart: bool) -> Plan:
    """Learners read z, a central task takes the mean of what they read, and they push it to z."""
    z, mean = central(0), central(1)
    between = [Task(1, 0, (own(0),), (own(1),), mapped=True)] if is_apart else []
    tasks = [
        Task(0, 0, (z,), (own(0),), mapped=True, is_critical=True),
        *between,
        Task(2, 0, (of_all(0, learners),), (mean,)),
        Task(3, 0, (mean, z), (z,), mapped=True, is_critical=True),
    ]
    return planned(tasks, learners)


@pytest.mark.parametrize("learners", [1, 2, 3, 8])
def test_a_section_that_waits_for_what_comes_of_it_is_found(learners: int) -> None:
    plan = averaging(learners, is_apart=False)
    message = "0 before 1 before 0; tasks 0, 2 are one critical section|1 before 0 before 1"
    with pytest.raises(StallError, match=message):
        require_no_stall(plan)
    assert stalls(plan)
    assert not runs(plan)


@pytest.mark.parametrize("learners", [1, 2, 3, 8])
def test_two_sections_may_wait_for_each_other_s_outcome(learners: int) -> None:
    plan = averaging(learners, is_apart=True)
    require_no_stall(plan)
    assert not stalls(plan)
    assert runs(plan)


def test_a_section_may_wait_for_the_one_of_the_iteration_before() -> None:
    """A central task reads z between reading and pushing: the push waits for it, in the section.

    It waits for all pushes of the iteration before. A lock that is taken before all waits are over
    would keep a slower learner from pushing what is waited for.
    """
    z = central(0)
    tasks = [
        Task(0, 0, (z,), (own(0),), mapped=True, is_critical=True),
        Task(1, 0, (z,), (central(1),)),
        Task(2, 0, (own(0),), (z,), mapped=True, is_critical=True),
    ]
    plan = planned(tasks)
    assert Wait(1) in plan.tasks[2].waits
    require_no_stall(plan)
    assert not stalls(plan)
    assert runs(plan)


def test_sections_that_wait_in_a_circle() -> None:
    """Two streams of a learner, each with a section whose second half waits for the other's first.

    Neither section waits for itself.
    """
    who = [0, 1, 0, 1]
    tasks = [
        Task(n, stream, (), (own(n),), mapped=True, is_critical=True)
        for n, stream in enumerate(who)
    ]
    tasks[2] = replace(tasks[2], waits=(Wait(1),))
    streams = Streams(learners=2, per_learner=2)
    one_way = as_plan(tuple(tasks), streams, None)
    require_no_stall(one_way)
    assert runs(one_way)
    tasks[3] = replace(tasks[3], waits=(Wait(0),))
    circle = as_plan(tuple(tasks), streams, None)
    with pytest.raises(StallError):
        require_no_stall(circle)
    assert not runs(circle)


def test_a_section_that_waits_for_all_learners_in_it() -> None:
    """Alone, a learner waits for nobody but itself, and stands there already."""
    first = Task(0, 0, (), (own(0),), mapped=True, is_critical=True)
    everyone = (Wait(0, all_learners=True),)
    tasks = (first, Task(1, 0, (), (own(1),), waits=everyone, mapped=True, is_critical=True))
    for learners in (1, 2, 3):
        plan = as_plan(tasks, Streams(learners=learners), None)
        assert is_refused(plan) == stalls(plan) == (not runs(plan)) == (learners > 1)


def mixed_plan(seed: int) -> Plan:
    """Central tasks between the learners' critical ones, and waits that nothing needs."""
    rng = random.Random(seed)
    streams = random_streams(rng)
    tasks = random_tasks(rng, streams, rng.randint(3, 10), asynchronous=True)
    tasks = [replace(t, is_critical=t.mapped and rng.random() < 0.8) for t in tasks]
    return as_plan(tuple(_waiting(rng, n, tasks) for n in range(len(tasks))), streams, None)


def _waiting(rng: random.Random, number: int, tasks: list[Task]) -> Task:
    waits = [
        Wait(rng.randrange(number), rng.randrange(2), rng.random() < 0.3)
        for _ in range(rng.randint(0, min(number, 2)))
    ]
    is_in_turn = tasks[number].mapped and rng.random() < 0.15
    return replace(tasks[number], waits=tuple(dict.fromkeys(waits)), in_turn=is_in_turn)


def test_random_plans_are_refused_if_and_only_if_their_learners_stall() -> None:
    """What is said of one learner holds for all, whatever runs first."""
    seen: Counter[bool] = Counter()
    for seed in range(400):
        plan = mixed_plan(seed)
        stall = stalls(plan)
        assert is_refused(plan) == stall
        mended = replace(plan, tasks=parted(plan.tasks, plan.streams))
        assert not stalls(mended)
        assert (mended == plan) == (not stall)
        assert runs(mended, seeds=1)
        if any(task.is_critical for task in plan.tasks):
            seen[stall] += 1
            assert runs(plan, seeds=2) == (not stall)
    assert min(seen.values()) > 50


def test_a_section_ends_where_something_else_of_its_stream_comes() -> None:
    who = [(0, True), (1, True), (0, True), (1, False), (1, True), (0, False)]
    assert sections((stream, critical, False) for stream, critical in who) == [[0, 2], [1], [4]]
    apart = [(stream, critical, n == 2) for n, (stream, critical) in enumerate(who)]
    assert sections(apart) == [[0], [1], [2], [4]]
