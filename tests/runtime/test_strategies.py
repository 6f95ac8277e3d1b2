"""The strategies of std in whole runs: devices, checkpoints, and learners that run ahead."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fml.dsl.modules import std_index
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.ir.training import Training
from fml.engine.runtime.checkpoint import read_checkpoint
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.sources.bind import bind
from fml.engine.sources.load import load
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import EXAMPLES, lowered
from tests.dsl.test_strategies import DATA, HEAD, vector

# How a plan trains together: one line, with an optimizer that has slots.
STRATEGIES = [
    "sync_sgd()",
    "parameter_server()",
    "sma(tau = 2 steps, restart = step == 7)",
    "easgd(tau = 2 steps)",
    "local_sgd(tau = 4 steps)",
    "post_local_sgd(first = 5 steps, tau = 4 steps)",
    "diloco(tau = 5 steps)",
    "gossip(share = 0.3, gather = 3 steps)",
]
PLAN = (
    HEAD
    + """
train {
  z = line()
  learners %s per device%s by %s
  feed x, y from points.train |> shuffle |> batch(4)
  predicted = z(x)
  minimize loss = mse(predicted, y)
  using momentum(0.02, beta = 0.8)
  measure mse(predicted, y) as "fit" on points.train
  stop after %d steps
}
"""
)


def plan(by: str, learners: int = 3, staleness: str = "", steps: int = 12) -> Training:
    ahead = f", staleness = {staleness}" if staleness else ""
    return lowered(PLAN % (learners, ahead, by, steps))


def on_arrays(training: Training) -> tuple[Training, Data]:
    loaded = {name: load(data, DATA, EXAMPLES) for name, data in training.datasets.items()}
    return bind(training, loaded)


def run(training: Training, **how: Any) -> Outcome:
    return train(*on_arrays(training), current_backend(), **how)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.variables.keys() == other.variables.keys()
    for name, value in one.variables.items():
        np.testing.assert_array_equal(value, other.variables[name], name)
    assert one.figures == other.figures


def test_every_strategy_of_std_is_here() -> None:
    declared = {name for name, entry in std_index().items() if entry.file == "strategies.fml"}
    assert declared == {by.partition("(")[0] for by in STRATEGIES}


@on_each_backend
@pytest.mark.parametrize("by", STRATEGIES)
def test_two_devices_of_two_learners_are_four_learners(by: str) -> None:
    """Sums go inside a device first, then across: other roundings, and the same equations."""
    flat, by_device = run(plan(by, 4)), run(plan(by, 2), devices=2)
    assert flat.variables.keys() == by_device.variables.keys()
    for name, value in flat.variables.items():
        np.testing.assert_allclose(by_device.variables[name], value, 1e-10, 1e-12, err_msg=name)
    assert by_device.figures == pytest.approx(flat.figures, rel=1e-10)


@on_each_backend
@pytest.mark.parametrize("by", STRATEGIES)
@pytest.mark.parametrize("devices", [1, 2])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(
    by: str, devices: int, tmp_path: Path
) -> None:
    """Stopped between two rounds of averaging, and not where an epoch ends."""
    path = tmp_path / "last.safetensors"
    whole = run(plan(by, steps=12), devices=devices)
    run(plan(by, steps=7), devices=devices, checkpoint=path)
    rest = run(plan(by, steps=12), devices=devices, resume=read_checkpoint(path))
    assert_same(rest, whole)


@pytest.mark.parametrize("by", STRATEGIES)
def test_the_bits_do_not_depend_on_the_number_of_cores(by: str) -> None:
    with_cores = [
        train(*on_arrays(plan(by, 8)), LlvmBackend(cores), devices=devices)
        for devices in (1, 2)
        for cores in (1, 2)
    ]
    assert_same(with_cores[0], with_cores[1])
    assert_same(with_cores[2], with_cores[3])


# --- learners that run ahead ---------------------------------------------------------------------

ASYNCHRONOUS = pytest.mark.parametrize("staleness", ["2", "unbounded"])


@on_each_backend
@ASYNCHRONOUS
@pytest.mark.parametrize(
    "by", ["parameter_server()", "sma()", "easgd()", "local_sgd(tau = 4 steps)"]
)
def test_a_checkpoint_of_learners_that_run_ahead_is_restored_bit_for_bit(
    by: str, staleness: str, tmp_path: Path
) -> None:
    """What follows depends on the order of arrival; what was saved does not."""
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    ended = run(plan(by, 3, staleness, 7), checkpoint=first)
    saved = read_checkpoint(first)
    # A run whose end has come takes no step, and writes what it was given.
    again = run(plan(by, 3, staleness, 7), resume=saved, checkpoint=second)
    assert_same(again, ended)
    for name, value in saved.variables.items():
        np.testing.assert_array_equal(read_checkpoint(second).variables[name], value, name)
    assert again.progress.step == 7
    assert run(plan(by, 3, staleness, 12), resume=saved).progress.step == 12


@on_each_backend
@ASYNCHRONOUS
@pytest.mark.parametrize(
    "by", ["parameter_server()", "sma()", "easgd()", "local_sgd(tau = 4 steps)"]
)
def test_learners_that_run_ahead_come_to_the_solution(by: str, staleness: str) -> None:
    """Near the least squares, whose residue is the noise of the samples."""
    ones = np.ones((len(DATA["x"]), 1))
    x = np.hstack([DATA["x"], ones])
    best, residue, _, _ = np.linalg.lstsq(x, DATA["y"])
    outcome = run(plan(by, 4, staleness, 300))
    assert outcome.failure is None
    np.testing.assert_allclose(vector(outcome.variables, "z"), best, atol=0.1)
    assert outcome.figures["train.fit"] < 1.1 * residue[0] / len(x)
