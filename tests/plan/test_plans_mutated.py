"""Real plans that lack a wait: the race check says what the closure of their order says."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fml.engine.backends.numpy import NumpyBackend
from fml.engine.plan.task import Plan, Task
from fml.engine.runtime.trainer import Trainer
from tests.plan.schedules import found, oracle, stalls, without
from tests.runtime.test_strategies import on_arrays, plan

# A strategy, learners per device, devices, staleness.
PLANS = [
    ("sync_sgd()", 3, 1, ""),
    ("sync_sgd()", 1, 2, ""),
    ("parameter_server()", 2, 1, ""),
    ("parameter_server()", 1, 2, "2"),
    ("parameter_server()", 2, 1, "unbounded"),
    ("sma(tau = 2 steps)", 2, 1, ""),
    ("sma()", 1, 2, "2"),
    ("local_sgd(tau = 4 steps)", 2, 1, ""),
    ("gossip(share = 0.3, gather = 3 steps)", 3, 1, ""),
]
MUTANTS = 40


def planned(by: str, learners: int, devices: int, staleness: str) -> Plan:
    training = plan(by, learners, staleness)
    trainer = Trainer(*on_arrays(training), NumpyBackend(), 3, devices)
    return trainer.step.executable.plan


with_plans = pytest.mark.parametrize(("by", "learners", "devices", "staleness"), PLANS)


@with_plans
def test_a_plan_without_one_of_its_waits(
    by: str, learners: int, devices: int, staleness: str
) -> None:
    """But for the bound on how far learners are apart, every wait is needed."""
    whole = planned(by, learners, devices, staleness)
    assert oracle(whole) == found(whole) == set()
    assert not stalls(whole)
    waits = [(n, wait) for n, task in enumerate(whole.tasks) for wait in task.waits]
    for number, wait in random.Random(0).sample(waits, min(MUTANTS, len(waits))):
        mutant = replace(whole, tasks=without(whole.tasks, number, wait))
        expected = oracle(mutant)
        assert found(mutant) == expected, (number, wait)
        assert bool(expected) == (wait.before < 2), (number, wait)


@with_plans
def test_a_plan_with_a_weaker_order(by: str, learners: int, devices: int, staleness: str) -> None:
    """Waits for an iteration earlier, or for less learners; turns and sections that are none.

    Some of these still follow from what is left.
    """
    whole = planned(by, learners, devices, staleness)
    weaker = [(n, one) for n, task in enumerate(whole.tasks) for one in weakened(task)]
    for number, task in random.Random(1).sample(weaker, min(MUTANTS, len(weaker))):
        tasks = (*whole.tasks[:number], task, *whole.tasks[number + 1 :])
        mutant = replace(whole, tasks=tasks)
        assert found(mutant) == oracle(mutant), (number, task)


def weakened(task: Task) -> Iterator[Task]:
    if task.in_turn:
        yield replace(task, in_turn=False)
    if task.is_critical:
        yield replace(task, is_critical=False)
    for place, wait in enumerate(task.waits):
        others = task.waits[:place] + task.waits[place + 1 :]
        yield replace(task, waits=(*others, replace(wait, before=wait.before + 1)))
        if task.mapped and wait.all_learners:
            yield replace(task, waits=(*others, replace(wait, all_learners=False)))


def test_a_wait_that_follows_from_another_may_go() -> None:
    """Here that other waits for what comes right behind, on the stream that was waited for."""
    whole = planned("sma(tau = 2 steps)", 2, 1, "")
    harmless = 0
    for number, task in enumerate(whole.tasks):
        for place, wait in enumerate(task.waits):
            here = whole.tasks[wait.task]
            behind = [n for n, t in enumerate(whole.tasks) if t.mapped == here.mapped]
            later = min((n for n in behind if n > wait.task), default=number)
            if wait.before or later >= number:
                continue
            others = task.waits[:place] + task.waits[place + 1 :]
            moved = replace(task, waits=(*others, replace(wait, task=later)))
            mutant = replace(
                whole, tasks=(*whole.tasks[:number], moved, *whole.tasks[number + 1 :])
            )
            assert found(mutant) == oracle(mutant) == set()
            harmless += 1
    assert harmless
