"""Steps that are taken with a look at the clock: the same bits, and times that are in order."""

import numpy as np
import pytest

import fml
from fml.engine.runtime.trainer import Trainer
from fml.engine.sources.bind import bind
from fml.training import BACKENDS, read_data
from tests.api.programs import CLASSIFIER, points


def trainer(device: str) -> Trainer:
    program = fml.loads(CLASSIFIER)
    training = program.lower()
    data = {"points": {"train": points(48), "valid": points(16)}}
    return Trainer(*bind(training, read_data(program, training, data)), BACKENDS[device](), 0)


@pytest.mark.parametrize("device", BACKENDS)
def test_a_clock_changes_no_bit(device: str) -> None:
    plain, timed = trainer(device), trainer(device)
    count = min(4, plain.steps.most)
    plain.steps.run(plain.moment, 0.0, count)
    timed.steps.fill(timed.moment, 0.0, count)
    timed.steps.take_timed(count)
    for name, value in plain.store.snapshot().items():
        np.testing.assert_array_equal(value, timed.store[name])
    for name, figures in plain.steps.figures.items():
        np.testing.assert_array_equal(figures, timed.steps.figures[name])


@pytest.mark.parametrize("device", BACKENDS)
def test_times_of_all_things_are_in_order(device: str) -> None:
    run = trainer(device)
    count = min(8, run.steps.most)
    run.steps.fill(run.moment, 0.0, count)
    seconds = run.steps.take_timed(count)
    tasks = len(run.step.executable.plan.tasks)
    things = len(run.steps.given_to) + tasks + len(run.steps.figures)
    assert seconds.shape == (count, things + 1)
    assert seconds[0, 0] == 0.0
    assert (np.diff(seconds.reshape(-1)) >= 0).all()
