"""Steps that are taken at once: the same bits in blocks of any size, and whenever they are cut."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.backends.interface import Backend
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.runtime import trainer
from fml.engine.runtime.checkpoint import Checkpoint, read_checkpoint
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.runtime.watch import Point, Silent, Start
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered, points

ROOT = Path(__file__).parents[2]
# Nothing but epochs and figures cuts the steps; all that a step can remember is there.
TEXT = """
data points = given { x: f32[3]; y: f32 }
model net(x: f32[N, D]) -> f32[N] {
  param w: f32[D] ~ normal(0, 0.5)
  state seen: f32 ~ zeros
  seen <- seen + 1
  dropout(0.3)(x) @ w
}
train {
  net = net()
  feed x, y from points.train |> shuffle |> batch(3)
  minimize loss = mse(net(x), y)
  using momentum(rate = 0.05 |> cosine(3 epochs))
  state drift: f32 ~ zeros
  every 7 steps { drift <- drift + norm(net) - previous(norm(net)) }
  measure mae(net(x), y) on points.valid every 50 steps
  log loss - previous(loss) as "fall" every 20 steps
  keep lowest valid.mae
  stop after STEPS steps
}
"""


def run(steps: int, backend: Backend | None = None, **places: Any) -> Outcome:
    training = lowered(TEXT.replace("STEPS", str(steps)))
    data = {"points": {"train": points(200), "valid": points(8, seed=1)}}
    return train(training, data, backend or current_backend(), seed=3, **places)


def assert_same(found: Outcome, expected: Outcome, earlier: Sequence[Point] = ()) -> None:
    """The same bits; `earlier` are the figures of a run before it was cut."""
    assert found.variables.keys() == expected.variables.keys()
    for name, value in expected.variables.items():
        np.testing.assert_array_equal(found.variables[name], value, err_msg=name)
    assert (found.figures, found.stopped_by) == (expected.figures, expected.stopped_by)
    series = [(p.series, p.step, p.value) for p in (*earlier, *found.history)]
    assert series == [(p.series, p.step, p.value) for p in expected.history]


class Blocks:
    """Stands in for the pace: blocks of these sizes, again and again."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes: Iterator[int] = cycle(sizes)

    def steps(self, seconds: float, seconds_before: float) -> int:
        return next(self._sizes)

    def took(self, steps: int, seconds: float) -> None:
        pass


@settings(max_examples=12)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(1, 90))
def test_blocks_of_all_sizes_give_the_same_bits(sizes: list[int], most: int) -> None:
    class Some(LlvmBackend):
        steps_at_once = most

    class One(LlvmBackend):
        steps_at_once = 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Pace", lambda durations: Blocks(sizes))
        assert_same(run(150, Some()), run(150, One()))


@on_each_backend
def test_a_run_gives_the_same_bits_again() -> None:
    first = run(150)
    for _ in range(3):
        assert_same(run(150), first)


# --- cut at any time -----------------------------------------------------------------------------

STEPS = 1500


class Pressing(Silent):
    """Presses Ctrl-C some seconds behind the start, wherever the run is then."""

    def __init__(self, seconds: float, times: int) -> None:
        self._timer = threading.Timer(seconds, self._press, (times,))

    def started(self, start: Start) -> None:
        self._timer.start()

    def _press(self, times: int) -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    def wait(self) -> None:
        self._timer.join()


@pytest.fixture
def deaf() -> Iterator[None]:
    """Behind the end of a run nobody is interrupted."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("times", [1, 2])
@on_each_backend
def test_a_run_that_is_interrupted_at_any_time_goes_on(tmp_path: Path, times: int) -> None:
    """Again and again, a little later each time; twice does not wait for the steps."""
    path, earlier, parts = tmp_path / "last.safetensors", list[Point](), 0
    resume: dict[str, Checkpoint] = {}
    while True:
        pressing = Pressing(0.004 * parts**2, times)
        part = run(STEPS, checkpoint=path, listener=pressing, **resume)
        pressing.wait()
        if not part.interrupted:
            break
        resume, parts = {"resume": read_checkpoint(path)}, parts + 1
        earlier += [p for p in part.history if resume["resume"].covers(p)]
    assert parts
    assert_same(part, run(STEPS), earlier)


# Writes checkpoints as often as it can, and says when the steps begin.
KILLED = """
import sys
from pathlib import Path
from fml.engine.runtime import saving
from fml.engine.runtime.watch import Silent
from tests.backends import BACKENDS
from tests.runtime.test_blocks import STEPS, run
from fml.engine.runtime.checkpoint import read_checkpoint

class Saying(Silent):
    def started(self, start):
        print("begun", flush=True)

saving.LEAST_SECONDS_BETWEEN_CHECKPOINTS, saving.SHARE_FOR_CHECKPOINTS = 0.0, 1.0
path = Path(sys.argv[2])
resume = {"resume": read_checkpoint(path)} if path.exists() else {}
run(STEPS * 1000, BACKENDS[sys.argv[1]](), checkpoint=path, listener=Saying(), **resume)
"""


@on_each_backend
def test_a_run_that_is_killed_at_any_time_goes_on(tmp_path: Path) -> None:
    path, name = tmp_path / "last.safetensors", current_backend().name
    for seconds in (0.02, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, name, path], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert child.stdout is not None
        with child, child.stdout as said:
            assert said.readline() == b"begun\n"
            time.sleep(seconds)
            child.kill()
    checkpoint = read_checkpoint(path)
    reached = checkpoint.state["step"]
    assert reached > 1
    resumed, whole = run(reached + 40, resume=checkpoint), run(reached + 40)
    assert_same(resumed, whole, [p for p in whole.history if checkpoint.covers(p)])
