"""When tasks would run: by their streams, by what they wait for, and one critical one at a time."""

from fml.engine.plan.task import Streams, Task, Wait
from fml.engine.plan.timetable import Slot, timetable
from tests.plan.schedules import as_plan


def task(**arguments: object) -> Task:
    return Task(0, 0, (), (), **arguments)  # type: ignore[arg-type]


def times(slots: tuple[Slot, ...]) -> dict[tuple[int, int, int], tuple[float, float]]:
    return {(s.iteration, s.task, s.learner): (s.begin, s.end) for s in slots}


def test_learners_run_side_by_side_and_wait_for_the_centre() -> None:
    plan = as_plan(
        (
            task(mapped=True, waits=(Wait(1, before=1),)),
            task(waits=(Wait(0, all_learners=True),)),
            task(mapped=True),
        ),
        Streams(learners=2),
    )
    found = times(timetable(plan, [3.0, 2.0, 4.0], 2))
    assert found[0, 0, 0] == found[0, 0, 1] == (0, 3)
    assert found[0, 1, 0] == (3, 5)
    assert found[0, 2, 0] == (3, 7)  # waits for nobody
    assert found[1, 0, 1] == (7, 10)  # behind its own stream; the centre is done by then
    slow = times(timetable(plan, [3.0, 20.0, 4.0], 2))
    assert slow[1, 0, 1] == (23, 26)  # behind the centre of the iteration before


def test_turns_are_taken_in_the_order_of_learners() -> None:
    plan = as_plan((task(mapped=True, in_turn=True),), Streams(learners=3))
    found = times(timetable(plan, [1.0], 2))
    begins = [found[i, 0, learner][0] for i in range(2) for learner in range(3)]
    assert begins == [0, 1, 2, 3, 4, 5]


def test_no_two_critical_tasks_run_at_once() -> None:
    plan = as_plan((task(mapped=True), task(mapped=True, is_critical=True)), Streams(learners=2))
    found = times(timetable(plan, [1.0, 5.0], 1))
    assert found[0, 0, 0] == found[0, 0, 1] == (0, 1)
    assert sorted([found[0, 1, 0], found[0, 1, 1]]) == [(1, 6), (6, 11)]


def test_nothing_critical_comes_between_the_tasks_of_a_section() -> None:
    plan = as_plan(
        (
            task(mapped=True, is_critical=True),
            task(waits=(Wait(3, before=1),)),
            task(mapped=True, is_critical=True, waits=(Wait(1),)),
            task(mapped=True),
        ),
        Streams(learners=2),
    )
    found = times(timetable(plan, [1.0, 4.0, 2.0, 10.0], 1))
    # The first task of a section waits for what the second one waits for.
    assert [found[0, number, 0] for number in (0, 2, 3)] == [(4, 5), (5, 7), (7, 17)]
    assert [found[0, number, 1] for number in (0, 2, 3)] == [(7, 8), (8, 10), (10, 20)]


def test_a_section_that_is_parted_is_planned_in_its_parts() -> None:
    plan = as_plan(
        (
            task(mapped=True, is_critical=True),
            task(waits=(Wait(0, all_learners=True),)),
            task(mapped=True, is_critical=True, is_apart=True, waits=(Wait(1),)),
        ),
        Streams(learners=2),
    )
    found = times(timetable(plan, [1.0, 1.0, 1.0], 1))
    assert sorted(found[0, 0, learner] for learner in range(2)) == [(0, 1), (1, 2)]
    assert found[0, 1, 0] == (2, 3)
    assert sorted(found[0, 2, learner] for learner in range(2)) == [(3, 4), (4, 5)]
