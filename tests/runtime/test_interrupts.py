"""Signals behind a step or while figures are taken: the run goes on as if untouched."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fml.engine.runtime import trainer
from fml.engine.runtime.central import CentralModels
from fml.engine.runtime.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fml.engine.runtime.interrupt import Interrupt
from fml.engine.runtime.measuring import Measurement
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.section import Moment
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.trail import Trail
from fml.engine.runtime.trainer import Trainer, train
from fml.engine.runtime.variables import VariableStore
from fml.engine.runtime.watch import Point, Progress, Record, Silent
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered
from tests.runtime.test_resume import data, run, series, text

# The central model has states of layers, which are the means of the learners' while it is measured.
LEARNERS = """
data points = given { x: f32[3]; y: f32 }
model line(x: f32[N, D]) -> f32[N] { param w: f32[D] ~ ones; (x |> batch_norm) @ w }
train {
  z = line()
  learners 2 per device {
    w = replica(z)
    feed x, y from points.train |> shuffle |> batch(3)
    minimize loss = mse(w(x), y)
    using momentum(0.02)
  }
  use sma(learners.w, z)
  measure mse(z(x), y) as "fit" on points.valid every 2 steps
  keep lowest valid.fit
  stop after 8 steps
}"""


class Signals(Silent):
    """Sends signals to this process when a step of that number is over, or is being measured."""

    def __init__(self, step: int, *, times: int = 1, measured: bool = False) -> None:
        self.step, self.times, self.while_measuring = step, times, measured

    def stepped(self, progress: Progress) -> None:
        if progress.step == self.step and not self.while_measuring:
            self.send()

    def measured(self, points: tuple[Point, ...]) -> None:
        if self.while_measuring and points[0].step >= self.step:
            self.while_measuring = False
            self.send()

    def send(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


def until_the_signal(path: Path, listener: Signals) -> Outcome:
    training = lowered(text(14))
    return train(training, data(), current_backend(), seed=3, listener=listener, checkpoint=path)


@on_each_backend
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("step", [1, 3, 6, 9])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    tmp_path: Path, step: int, measured: bool, times: int
) -> None:
    path = tmp_path / "last.safetensors"
    begun = until_the_signal(path, Signals(step, times=times, measured=measured))
    assert begun.interrupted
    assert step <= begun.progress.step <= step + 3
    checkpoint = read_checkpoint(path)
    resumed, whole = run(14, resume=checkpoint), run(14)
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value, err_msg=name)
    earlier = [(p.series, p.step, p.value) for p in begun.history if checkpoint.covers(p)]
    assert earlier + series(resumed) == series(whole)
    assert (resumed.figures, resumed.stopped_by) == (whole.figures, whole.stopped_by)


@on_each_backend
@pytest.mark.parametrize("step", [4, 7, 12])
def test_steps_that_are_taken_back_leave_what_figures_remember(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `previous` is in a figure was set between the steps that are taken again for it."""
    path, whole, fill = tmp_path / "last.safetensors", run(14), Steps.fill

    def pressing(steps: Steps, moment: Moment, seconds_before: float, count: int) -> None:
        fill(steps, moment, seconds_before, count)
        if moment.step == step:
            monkeypatch.setattr(Steps, "fill", fill)
            Signals(step, times=2).send()

    monkeypatch.setattr(Steps, "fill", pressing)
    begun = run(14, checkpoint=path)
    assert (begun.interrupted, begun.progress.step) == (True, step)
    resumed = run(14, resume=read_checkpoint(path))
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value, err_msg=name)
    assert series(begun) + series(resumed) == series(whole)


# What a run changes step by step, and look by look: each is done as a whole, or taken back.
CHANGES = [
    (trainer, "add_figures"), (Record, "begin_epoch"), (Record, "note"), (VariableStore, "model"),
    (CentralModels, "settle"), (Trail, "remember"),
]  # fmt: skip


@pytest.mark.parametrize("call", [2, 3])
@pytest.mark.parametrize(("owner", "name"), CHANGES)
def test_a_run_that_is_cut_amid_a_change_goes_on_with_the_same_bits(
    tmp_path: Path, owner: Any, name: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is pressed twice behind a call of what makes it."""
    path, real, cut = tmp_path / "last.safetensors", getattr(owner, name), 0
    for plan in (lowered(text(14)), lowered(LEARNERS)):
        calls = count(1)

        def pressing(*arguments: Any, calls: Iterator[int] = calls) -> Any:
            found = real(*arguments)
            if next(calls) == call:
                Signals(0, times=2).send()
            return found

        whole = train(plan, data(), current_backend())
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, pressing)
            begun = train(plan, data(), current_backend(), checkpoint=path)
        checkpoint, cut = read_checkpoint(path), cut + begun.interrupted
        resumed = train(plan, data(), current_backend(), resume=checkpoint)
        for variable, value in whole.variables.items():
            np.testing.assert_array_equal(resumed.variables[variable], value, err_msg=variable)
        earlier = [(p.series, p.step, p.value) for p in begun.history if checkpoint.covers(p)]
        assert earlier + series(resumed) == series(whole)
        assert resumed.figures == whole.figures
    assert cut, "it was not called"


class AtTheEnd(Silent):
    """Presses Ctrl-C when the last step is over, before the final figures are taken."""

    def __init__(self) -> None:
        self.told = 0

    def interrupted(self) -> None:
        self.told += 1

    def stopped(self, progress: Progress, why: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def pressing_again(measurement: Measurement, listener: AtTheEnd) -> None:
    """Press Ctrl-C once more while a final figure is taken."""
    take = measurement.take

    def pressing(moment: Moment, told: Callable[[str, int, int], None]) -> dict[str, float]:
        if listener.told:
            os.kill(os.getpid(), signal.SIGINT)
        return take(moment, told)

    measurement.take = pressing


@on_each_backend
@pytest.mark.parametrize("times", [1, 2])
def test_only_impatience_cuts_the_final_figures_short(tmp_path: Path, times: int) -> None:
    path, whole, listener = tmp_path / "last.safetensors", run(14), AtTheEnd()
    training = lowered(text(14))
    trainer = Trainer(training, data(), current_backend(), seed=3)
    trainer.listener, trainer.saver.path = listener, path
    if times == 2:
        pressing_again(trainer.watched.measurements[-1], listener)
    ended = trainer.run()
    assert listener.told == 1
    assert ended.interrupted is (times == 2)
    assert ended.figures == ({} if times == 2 else whole.figures)
    resumed = run(14, resume=read_checkpoint(path))
    assert (resumed.figures, resumed.stopped_by) == (whole.figures, whole.stopped_by)


def test_a_checkpoint_is_written_whoever_is_in_a_hurry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"

    def pressing(path: Path, checkpoint: Checkpoint) -> None:
        for _ in range(2 if checkpoint.progress.step else 0):
            os.kill(os.getpid(), signal.SIGINT)
        write_checkpoint(path, checkpoint)

    monkeypatch.setattr("fml.engine.runtime.saving.write_checkpoint", pressing)
    monkeypatch.setattr("fml.engine.runtime.saving.LEAST_SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    ended = run(14, checkpoint=path)
    assert (ended.interrupted, ended.figures) == (True, {})
    assert read_checkpoint(path).progress.step == ended.progress.step == run(14).progress.step


@on_each_backend
def test_a_run_that_was_killed_behind_its_last_step_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    whole = run(14, checkpoint=path)
    again = run(14, resume=read_checkpoint(path))
    assert (again.progress.step, again.stopped_by) == (whole.progress.step, whole.stopped_by)
    assert again.figures == whole.figures


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held back")
def test_of_signals_that_come_at_once_one_cuts_short() -> None:
    """What puts things in order behind it is spared the next, until it says so."""
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
    with Interrupt() as interrupt:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            signal.pthread_kill(threading.get_ident(), number)
        with pytest.raises(KeyboardInterrupt):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        assert interrupt.is_urgent
        with interrupt.held():
            os.kill(os.getpid(), signal.SIGINT)
        with interrupt.released(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_requests_and_are_given_back(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)
