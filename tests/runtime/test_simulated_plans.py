"""Plans on a GPU that is none leave numpy's bits: the runtime needs nothing that CUDA has not."""

from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
import pytest

from fml.engine.backends.interface import Issue
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.backends.simulated import SimulatedBackend
from fml.engine.plan.task import Task
from fml.engine.runtime.executor import Executable
from fml.engine.runtime.trainer import Trainer, train
from tests.dsl.programs import lowered
from tests.runtime.test_simulated import MODES
from tests.runtime.test_steps import NETWORK, PROGRAMS, random_data


@MODES
@pytest.mark.parametrize("program", ["mlp_regularised-None", "sgd(0.1)", "lamb(0.01)"])
def test_programs_leave_the_bits_of_numpy(program: str, is_joined: bool) -> None:
    """Steps are captured, several at once; between them, measurements read what they left."""
    training = PROGRAMS[program]()
    feeds = tuple(replace(feed, batch=min(feed.batch or 10, 10)) for feed in training.feeds)
    training = replace(training, feeds=feeds)
    data = random_data(training)
    numpy, simulated = (
        Trainer(training, data, backend, 3)
        for backend in (NumpyBackend(), SimulatedBackend(3, is_joined))
    )
    for step in (0, 4):
        for trainer in (numpy, simulated):
            for taken in range(step, step + 4, min(4, trainer.steps.most)):
                moment = replace(trainer.moment, step=taken)
                count = min(4, trainer.steps.most)
                assert trainer.steps.run(moment, 0.0, count) == count
        expected = numpy.store.snapshot()
        for name, value in simulated.store.snapshot().items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
        moment = replace(numpy.moment, step=step + 4)
        pairs = zip(numpy.watched.measurements, simulated.watched.measurements, strict=True)
        assert all(one.take(moment) == other.take(moment) for one, other in pairs)
    for name, table in numpy.steps.figures.items():
        assert simulated.steps.figures[name][3] == table[0]


@MODES
def test_a_run_is_numpy_s(is_joined: bool) -> None:
    """With its checks, logs, measurements and conditions."""
    training = lowered(NETWORK.replace("OPTIMIZER", "clip_norm(1) |> adamw(0.01)"))
    data = random_data(training)
    one, other = (
        train(training, data, backend)
        for backend in (NumpyBackend(), SimulatedBackend(1, is_joined))
    )
    assert other.figures == one.figures
    assert [replace(point, seconds=0) for point in other.history] == [
        replace(point, seconds=0) for point in one.history
    ]
    for name, value in one.variables.items():
        np.testing.assert_array_equal(other.variables[name], value, err_msg=name)


def spread(executable: Executable, streams: int) -> list[Issue]:
    """A plan of one stream put on several, each task waiting for those whose bytes it shares."""
    rng, tasks = Random(streams), executable.plan.tasks
    where = [rng.randrange(streams) for _ in tasks]
    waits: list[tuple[tuple[int, int], ...]] = [() for _ in tasks]
    for (a, one), (b, other) in combinations(enumerate(tasks), 2):
        if where[a] != where[b] and overlap(one, other):
            waits[b] += ((a, 0),)
            waits[a] += ((b, 1),)
    return [Issue(*one) for one in zip(executable.calls, where, waits, strict=True)]


def overlap(one: Task, other: Task) -> bool:
    """Whether one writes bytes that the other touches."""
    pairs = [(w, r) for w in one.changed for r in (*other.changed, *other.touched)]
    pairs += [(w, r) for w in other.changed for r in one.touched]
    return any(a.overlaps(b) for a, b in pairs)


@MODES
def test_a_plan_spread_over_streams_leaves_the_bits_of_numpy(is_joined: bool) -> None:
    """Its arena is one stream's: places are used again at once, and what is read there must wait.

    With no waits at all, the bits are others.
    """
    training = PROGRAMS["lamb(0.01)"]()
    data = random_data(training)
    numpy = Trainer(training, data, NumpyBackend(), 3)
    numpy.steps.provide(numpy.moment, 0.0)
    for _ in range(3):
        numpy.step.run()
    expected = numpy.store.snapshot()

    def is_right(timing: int, waiting: bool) -> bool:
        backend = SimulatedBackend(timing, is_joined)
        trainer = Trainer(training, data, backend, 3)
        trainer.steps.provide(trainer.moment, 0.0)
        issues = spread(trainer.step.executable, 3)
        if not waiting:
            issues = [replace(issue, waits=()) for issue in issues]
        with np.errstate(all="ignore"):
            assert backend.capture(issues, [0, 0, 0]).run(3) == 3
        left = trainer.store.snapshot()
        return all(np.array_equal(left[name], value) for name, value in expected.items())

    assert all(is_right(timing, waiting=True) for timing in range(4))
    assert not is_right(0, waiting=False)
