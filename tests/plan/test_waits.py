"""Waits of plans with learners: right, as few as can be, and the same however many learners."""

import random
from dataclasses import replace

import pytest

from fml.engine.plan.cells import ClashError
from fml.engine.plan.races import Instance, RaceError, find_races, require_no_race
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait
from fml.engine.plan.waits import with_waits
from tests.plan.schedules import (
    Memory,
    Run,
    Slot,
    as_plan,
    found,
    instances,
    oracle,
    order,
    random_streams,
    random_tasks,
    run_in_order,
    without,
)


def stack(place: int, learners: int) -> tuple[Region, Region]:
    """A learner's own 8 bytes, and those of all learners."""
    offset = 1024 * place
    own = Region(Space.VARIABLES, offset, 8, stride=8)
    return own, Region(Space.VARIABLES, offset, 8 * learners)


def central(place: int) -> Region:
    return Region(Space.VARIABLES, 65536 + 64 * place, 8)


def waits_of(tasks: list[Task], streams: Streams, staleness: int | None = 0) -> list[list[Wait]]:
    return [list(task.waits) for task in with_waits(tasks, streams, staleness)]


def sma(learners: int) -> list[Task]:
    """Synchronous model averaging: z moves by the sum of the learners' corrections."""
    w, _ = stack(0, learners)
    c, all_c = stack(1, learners)
    gradient = Region(Space.ARENA, 0, 8, stride=64)
    z = central(0)
    return [
        Task(0, 0, (w,), (gradient,), mapped=True),
        Task(1, 0, (w, gradient), (w,), mapped=True),
        Task(2, 0, (w, z), (c,), mapped=True),
        Task(3, 0, (w, c), (w,), mapped=True),
        Task(4, 0, (z, all_c), (z,)),
    ]


@pytest.mark.parametrize("learners", [1, 2, 3, 8, 64])
def test_averaging_runs_beside_the_next_step(learners: int) -> None:
    """Only corrections and the central update share bytes across streams.

    The update reads all corrections, so it waits for them. The next correction reads z and
    overwrites what the update read: one wait for both. It also orders the next update behind this.
    """
    streams = Streams(learners=learners)
    assert waits_of(sma(learners), streams) == [[], [], [Wait(4, before=1)], [], [Wait(2)]]
    plan = as_plan(with_waits(sma(learners), streams), streams)
    before = order(plan, 2)
    update = Instance(4, 0)
    for learner in range(learners):
        assert not before.has_edge(update, Instance(0, 1, learner))
        assert not before.has_edge(update, Instance(1, 1, learner))
        assert before.has_edge(update, Instance(2, 1, learner))


@pytest.mark.parametrize("staleness", [1, 2])
def test_averaging_bounded_at_some_steps(staleness: int) -> None:
    """Beside it, the first task waits for the last of all learners, where that says anything.

    task 3 of iteration 0 -> correction 1 -> update 1 -> correction 2 -> task 0 of iteration 3: what
    a staleness of 2 asks for holds already.
    """
    bounds = [Wait(3, before=2, all_learners=True)] if staleness == 1 else []
    expected = [bounds, [], [Wait(4, before=1)], [], [Wait(2)]]
    assert waits_of(sma(4), Streams(learners=4), staleness) == expected


def test_synchronous_gradients() -> None:
    """The update waits for all gradients; all learners wait for the update before."""
    g, all_g = stack(0, 4)
    w = central(0)
    tasks = [Task(0, 0, (w,), (g,), mapped=True), Task(1, 0, (w, all_g), (w,))]
    assert waits_of(tasks, Streams(learners=4)) == [[Wait(1, before=1)], [Wait(0)]]


def pushing(**how: bool) -> list[Task]:
    """A learner reads z, computes, and adds to z."""
    own, _ = stack(0, 8)
    z = central(0)
    critical = how.get("is_critical", False)
    return [
        Task(0, 0, (z,), (own,), mapped=True, is_critical=critical),
        Task(1, 0, (own,), (own,), mapped=True),
        Task(2, 0, (own, z), (z,), mapped=True, **how),
    ]


def test_pushes_in_turn() -> None:
    """Nobody pushes before all have read, and nobody reads again before all have pushed."""
    everyone = [Wait(0, all_learners=True)]
    again = [Wait(2, before=1, all_learners=True)]
    assert waits_of(pushing(in_turn=True), Streams(learners=3)) == [again, [], everyone]
    assert waits_of(pushing(in_turn=True), Streams(learners=1)) == [[], [], []]


def test_critical_pushes_wait_for_nobody_but_at_the_bound() -> None:
    tasks = pushing(is_critical=True)
    assert waits_of(tasks, Streams(learners=3), None) == [[], [], []]
    bounds = [Wait(2, before=5, all_learners=True)]
    assert waits_of(tasks, Streams(learners=3), 4) == [bounds, [], []]


def test_learners_that_share_nothing() -> None:
    own, _ = stack(0, 4)
    assert waits_of([Task(0, 0, (own,), (own,), mapped=True)], Streams(learners=4)) == [[]]


def test_sums_of_devices() -> None:
    """One partial sum on each device, and their sum on the first.

    The partial sums wait for the learners, and the learners' next for the partial sums. The second
    one's place is read by the sum on the first device; of the first one's that need not be said.
    """
    own, _ = stack(0, 4)
    shares = [Region(Space.VARIABLES, offset, 16) for offset in (0, 16)]
    partial = [central(0), central(1)]
    tasks = [
        Task(0, 0, (), (own,), mapped=True),
        Task(1, 0, (shares[0],), (partial[0],), device=0),
        Task(2, 0, (shares[1],), (partial[1],), device=1),
        Task(3, 0, (partial[0], partial[1]), (central(2),), device=0),
    ]
    assert waits_of(tasks, Streams(devices=2, learners=4)) == [
        [Wait(2, before=1), Wait(1, before=1)],
        [Wait(0)],
        [Wait(0), Wait(3, before=1)],
        [Wait(2)],
    ]


def test_two_streams_of_a_learner() -> None:
    """There and back: each learner for its own; the next iteration's follow from that."""
    a, _ = stack(0, 4)
    b, _ = stack(1, 4)
    tasks = [
        Task(0, 0, (), (a,), mapped=True),
        Task(1, 1, (a,), (b,), mapped=True),
        Task(2, 0, (b,), (), mapped=True),
    ]
    streams = Streams(learners=4, per_learner=2)
    assert waits_of(tasks, streams) == [[], [Wait(0)], [Wait(1)]]


# Bugs of a planner.

OWN, ALL = stack(0, 4)
CLASHES = [
    ("a learner's task writes what is central", [Task(0, 0, (), (central(0),), mapped=True)]),
    (
        "a learner reads another's",
        [Task(0, 0, (), (OWN,), mapped=True), Task(1, 0, (ALL,), (), mapped=True)],
    ),
    (
        "one of two is critical",
        [
            Task(0, 0, (), (central(0),), mapped=True, is_critical=True),
            Task(1, 0, (central(0),), (), mapped=True),
        ],
    ),
    ("longer than its stride", [Task(0, 0, (replace(OWN, nbytes=16),), (), mapped=True)]),
    (
        "across its stride",
        [Task(0, 0, (OWN, replace(OWN, offset=4)), (), mapped=True)],
    ),
    (
        "stacks in each other",
        [Task(0, 0, (OWN, Region(Space.VARIABLES, 16, 8, stride=16)), (), mapped=True)],
    ),
]


@pytest.mark.parametrize(("what", "tasks"), CLASHES)
def test_learners_that_clash(what: str, tasks: list[Task]) -> None:
    with pytest.raises(ClashError):
        with_waits(tasks, Streams(learners=4))
    assert with_waits(tasks, Streams(learners=1)), what


def test_the_race_check_sees_learners_that_clash() -> None:
    """Pushes with one another and with the reads, in one iteration and in the next."""
    plan = as_plan(tuple(pushing()), Streams(learners=4))
    pairs = {(0, 2, 0), (2, 2, 0), (0, 2, 1), (2, 0, 1), (2, 2, 1)}
    assert found(plan) == oracle(plan) == pairs
    with pytest.raises(RaceError, match="2 of learner 0 in iteration 0 and 2 of learner 1"):
        require_no_race(plan)


def test_a_race_names_the_learner_whose_bytes_they_are() -> None:
    """Learners 4 to 7 are those of the second device; three learners stand for all of them."""
    own, _ = stack(0, 8)
    share = Region(Space.VARIABLES, 32, 32)
    tasks = (Task(0, 0, (), (own,), mapped=True), Task(1, 0, (share,), (), device=1))
    races = find_races(as_plan(tasks, Streams(devices=2, learners=8)))
    assert [(race.first, race.second, race.region.offset) for race in races] == [
        (Instance(0, 0, 4), Instance(1, 0), 32),
        (Instance(1, 0), Instance(0, 1, 4), 32),
        (Instance(0, 0, 4), Instance(1, 1), 32),
    ]


def test_nobody_waits_for_what_comes_later() -> None:
    tasks = [Task(0, 0, (), (), waits=(Wait(1),)), Task(1, 0, (), (), mapped=True)]
    with pytest.raises(ValueError, match="task 0 waits for task 1, which comes later"):
        find_races(as_plan(tuple(tasks), Streams(learners=1)))


# Any plan.


def random_plan(seed: int) -> Plan:
    """A plan of few tasks on up to 4 learners, 4 devices and 12 streams, with its waits."""
    rng = random.Random(seed)
    streams = random_streams(rng)
    asynchronous = rng.random() < 0.4
    staleness = rng.choice([1, 2, 3, None]) if asynchronous else 0
    tasks = random_tasks(rng, streams, rng.randint(3, 10), asynchronous)
    return as_plan(with_waits(tasks, streams, staleness), streams, staleness)


@pytest.mark.parametrize("seed", range(50))
def test_plans_have_no_race(seed: int) -> None:
    plan = random_plan(seed)
    assert oracle(plan, iterations=3) == set()
    require_no_race(plan)


def test_no_wait_is_needless_and_mutants_agree_both_ways() -> None:
    """Without any one wait there is a race, and the check finds what the oracle finds."""
    mutants = 0
    for seed in range(100):
        plan, rng = random_plan(seed), random.Random(seed)
        waits = [(n, wait) for n, task in enumerate(plan.tasks) for wait in task.waits]
        waits = [(n, wait) for n, wait in waits if wait.before < 2]  # the others are a bound
        for n, wait in rng.sample(waits, min(3, len(waits))):
            mutant = replace(plan, tasks=without(plan.tasks, n, wait))
            expected = oracle(mutant)
            assert expected
            assert found(mutant) == expected
            assert found(mutant, learners=None) == expected
            mutants += 1
    assert mutants > 200


def test_plans_without_waits_agree_pair_by_pair() -> None:
    for seed in range(60):
        plan = random_plan(seed)
        bare = replace(plan, tasks=tuple(replace(task, waits=()) for task in plan.tasks))
        assert found(bare) == oracle(bare)


@pytest.mark.parametrize("seed", range(20))
def test_waits_are_the_same_for_any_number_of_learners(seed: int) -> None:
    def waits(learners: int) -> list[list[Wait]]:
        streams = Streams(2, 1, learners, 2)
        return waits_of(random_tasks(random.Random(seed), streams, 12, False), streams)

    assert waits(2) == waits(3) == waits(5) == waits(64)


@pytest.mark.parametrize("staleness", [1, 2, 4])
def test_learners_run_ahead_as_far_as_the_bound(staleness: int) -> None:
    """Everything of all learners is over `staleness` + 1 iterations on, and no sooner."""
    apart = staleness + 1
    for seed in range(10):
        rng = random.Random(seed)
        streams = Streams(1, 1, rng.randint(2, 3), rng.randint(1, 2))
        tasks = [t for t in random_tasks(rng, streams, 8, True) if t.mapped]
        plan = as_plan(with_waits(tasks, streams, staleness), streams, staleness)
        before = order(plan, apart + 1)
        done = list(instances(plan, apart + 1))
        for one in (instance for instance in done if instance.iteration == 0):
            for other in (instance for instance in done if instance.learner != one.learner):
                assert before.has_edge(one, other) == (other.iteration == apart)


# Random runs.


@pytest.mark.parametrize("seed", range(50))
def test_any_legal_run_has_the_values_of_the_order_of_issue(seed: int) -> None:
    rng = random.Random(seed)
    streams = random_streams(rng)
    plan = as_plan(with_waits(random_tasks(rng, streams, 10, False), streams), streams)
    expected = run_in_order(plan, 3)
    for _ in range(3):
        assert Run(plan, 3, rng).to_the_end() == expected


def test_runs_without_a_wait_go_wrong() -> None:
    """So the runs above show something."""
    wrong = mutants = 0
    for seed in range(40):
        rng = random.Random(seed)
        streams = random_streams(rng)
        plan = as_plan(with_waits(random_tasks(rng, streams, 10, False), streams), streams)
        waits = [(n, wait) for n, task in enumerate(plan.tasks) for wait in task.waits]
        for n, wait in rng.sample(waits, min(2, len(waits))):
            mutant = replace(plan, tasks=without(plan.tasks, n, wait))
            expected = run_in_order(plan, 3)
            wrong += any(Run(mutant, 3, rng).to_the_end() != expected for _ in range(10))
            mutants += 1
    assert wrong > mutants / 2


@pytest.mark.parametrize("staleness", [1, 3, None])
def test_critical_pushes_lose_nothing(staleness: int | None) -> None:
    """Read and written by two tasks of one section: each learner adds 1 in each iteration."""

    def effect(instance: Instance, read: Memory, written: list[Slot]) -> Memory:
        (value,) = read.values()
        return dict.fromkeys(written, value + (instance.task == 0))

    z, (own, _) = central(0), stack(0, 4)
    tasks = [
        Task(0, 0, (z,), (own,), mapped=True, is_critical=True),
        Task(1, 0, (own,), (z,), mapped=True, is_critical=True),
    ]
    streams = Streams(learners=4)
    plan = as_plan(with_waits(tasks, streams, staleness), streams, staleness)
    require_no_race(plan)
    for seed in range(20):
        memory = Run(plan, 5, random.Random(seed), effect).to_the_end()
        assert memory[Space.VARIABLES, z.offset] == 20
