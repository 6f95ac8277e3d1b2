"""A checkpoint holds everything: a resumed run has the bits of one that never stopped."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Training
from fml.engine.runtime import trainer
from fml.engine.runtime.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.runtime.watch import Listener, Point, Progress, Silent
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered, points

# All that a run can remember: slots, states, delays, draws, the order of samples, what is best.
TEXT = """
data points = given {{ x: f32[3]; y: f32 }}
model net(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ normal(0, 0.5)
  state seen: f32 ~ zeros
  seen <- seen + 1
  dropout(0.3)(x) @ w
}}
train {{
  net = net()
  feed x, y from points.train |> shuffle |> batch(6)
  minimize loss = mse(net(x), y)
  using momentum(rate = 0.05 |> cosine(3 epochs))
  state drift: f32 ~ zeros
  every 4 steps {{ drift <- drift + norm(net) - previous(norm(net)) }}
  measure mae(net(x), y) on points.valid every 3 steps
  log norm(grad(loss, net)) as "slope" every 2 steps
  log loss - previous(loss) as "fall" every 2 steps
  log norm(net - previous(net)) as "way" every 3 steps
  measure mse(net(x), y) - previous(mse(net(x), y)) as "gain" on points.valid every 2 steps
  keep lowest valid.mae
  stop after {steps} steps
  stop when valid.mae stops falling for 12 steps
  stop when previous(step) >= {last}
}}
"""


def data() -> Data:
    return {"points": {"train": points(20), "valid": points(8, seed=1)}}


def text(steps: int, last: int = 99) -> str:
    return TEXT.format(steps=steps, last=last)


def run(
    steps: int,
    checkpoint: Path | None = None,
    resume: Checkpoint | None = None,
    seed: int = 3,
    last: int = 99,
    listener: Listener | None = None,
) -> Outcome:
    training: Training = lowered(text(steps, last))
    return train(
        training, data(), current_backend(),
        seed=seed, checkpoint=checkpoint, resume=resume, listener=listener,
    )  # fmt: skip


def series(outcome: Outcome) -> list[tuple[str, int, float]]:
    return [(p.series, p.step, p.value) for p in outcome.history]


@on_each_backend
@pytest.mark.parametrize("stopped_at", [1, 4, 6, 7, 11])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, stopped_at: int) -> None:
    path = tmp_path / "last.safetensors"
    begun = run(stopped_at, checkpoint=path)
    resumed = run(14, resume=read_checkpoint(path))
    whole = run(14)
    assert resumed.variables.keys() == whole.variables.keys()
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value, err_msg=name)
    assert series(begun) + series(resumed) == series(whole)
    assert (resumed.figures, resumed.stopped_by) == (whole.figures, whole.stopped_by)
    assert len({value for _, _, value in series(whole)}) > 4  # something does change


@on_each_backend
@pytest.mark.parametrize("event", ["measured", "stepped"])
@pytest.mark.parametrize("stopped_at", [2, 4, 6])
def test_figures_that_were_cut_short_are_taken_again(
    tmp_path: Path, stopped_at: int, event: str
) -> None:
    """The second Ctrl-C does not wait for the figures; what `previous` is must not have moved."""

    class Impatient(Silent):
        step = 0

        def stepped(self, progress: Progress) -> None:
            self.step = progress.step
            if event == "stepped" and progress.step == stopped_at:
                raise KeyboardInterrupt

        def measured(self, points: tuple[Point, ...]) -> None:
            if event == "measured" and self.step == stopped_at:
                raise KeyboardInterrupt

    path = tmp_path / "last.safetensors"
    begun = run(14, checkpoint=path, listener=Impatient())
    written = read_checkpoint(path)
    assert begun.interrupted
    assert not written.state["looked"]
    resumed, whole = run(14, resume=written), run(14)
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value, err_msg=name)
    earlier = [p for p in series(begun) if p[1] < stopped_at]
    assert earlier + series(resumed) == series(whole)


@on_each_backend
def test_a_condition_that_held_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    whole = run(14, last=5, checkpoint=path)
    assert (whole.progress.step, whole.stopped_by) == (6, "previous(step) >= 5")
    resumed = run(
        14, last=5, resume=read_checkpoint(path)
    )  # killed before its figures were written
    assert (resumed.progress.step, resumed.stopped_by) == (6, "previous(step) >= 5")
    assert resumed.figures == whole.figures


@on_each_backend
def test_a_resumed_run_goes_on_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(Silent):
        """Every step lasts a second; `time` begins anywhere."""

        def __init__(self, time: float) -> None:
            self.time = time

        def stepped(self, progress: Progress) -> None:
            self.time += 1

    def run(steps: int, clock: Clock, **places: Any) -> Outcome:
        monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: clock.time))
        by_clock = text(steps).replace("every 4 steps", "every 4 seconds")
        by_clock = by_clock.replace('"fall" every 2 steps', '"fall" every 2 seconds')
        return train(lowered(by_clock), data(), current_backend(), listener=clock, **places)

    path = tmp_path / "last.safetensors"
    whole = run(13, Clock(7))
    run(6, Clock(1000), checkpoint=path)
    resumed = run(13, Clock(50), resume=read_checkpoint(path))
    assert resumed.variables["drift"] == whole.variables["drift"] != 0
    assert resumed.progress.seconds == whole.progress.seconds == 13
    falls = [p for p in series(whole) if p[0] == "fall"]
    assert [step for _, step, _ in falls] == [3, 5, 7, 9, 11, 13]
    assert [p for p in series(resumed) if p[0] == "fall"] == falls[2:]


def test_what_a_checkpoint_keeps_is_the_model(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    run(7, checkpoint=path)
    written = read_checkpoint(path)
    model = {name for name, v in lowered(text(7)).variables.items() if v.is_of_model}
    assert written.kept.keys() == model
    assert model < written.variables.keys()


@on_each_backend
def test_a_checkpoint_that_keeps_the_slots_goes_on_alike(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    run(7, checkpoint=path)
    written = read_checkpoint(path)
    spoilt = {name: np.full_like(value, 7) for name, value in written.variables.items()}
    older = Checkpoint(written.variables, {**spoilt, **written.kept}, written.state)
    once, now = run(14, resume=older), run(14, resume=written)
    for name, value in now.variables.items():
        np.testing.assert_array_equal(once.variables[name], value, err_msg=name)


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "c.safetensors"
    variables = {"net.w": np.arange(3, dtype=np.float32), "n": np.asarray(7, np.int32)}
    kept = {"net.w": np.full(3, np.nan, np.float32)}
    write_checkpoint(path, Checkpoint(variables, kept, {"step": 5, "latest": {"ŷ": 0.1}}))
    again = read_checkpoint(path)
    for name, value in variables.items():
        np.testing.assert_array_equal(again.variables[name], value, strict=True)
    np.testing.assert_array_equal(again.kept["net.w"], kept["net.w"])
    assert again.state["step"] == 5
    assert again.state["latest"] == {"ŷ": 0.1}


OTHERS = [
    ("the seed", lambda c: run(14, resume=c, seed=4)),
    ("the variables", lambda c: run(14, resume=Checkpoint({}, {}, c.state))),
    (
        "the steps in an epoch",
        lambda c: run(14, resume=Checkpoint(c.variables, {}, {**c.state, "steps_per_epoch": 9})),
    ),
]


@pytest.mark.parametrize(("what", "resume"), OTHERS)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, what: str, resume) -> None:
    path = tmp_path / "last.safetensors"
    run(2, checkpoint=path)
    with pytest.raises(FmlError, match=f"E0711.*{what}"):
        resume(read_checkpoint(path))


@pytest.mark.parametrize(
    "content", [None, b"", b"\x00" * 40, b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!"]
)
def test_what_is_no_checkpoint_is_a_diagnostic(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FmlError, match="E0710"):
        read_checkpoint(path)


def test_half_a_checkpoint_is_a_diagnostic(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    run(2, checkpoint=path)
    content = path.read_bytes()
    for length in (7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FmlError, match="E0710"):
            read_checkpoint(path)


def test_a_bit_that_a_disk_has_flipped_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    run(2, checkpoint=path)
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(FmlError, match="E0710"):
            read_checkpoint(path)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, Checkpoint({"w": np.zeros(3)}, {}, {"step": 1}))
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "replace": (Path, "replace", full)}[fails])
    with pytest.raises(FmlError, match=r"E0732.*No space"):
        write_checkpoint(path, Checkpoint({"w": np.ones(3)}, {}, {"step": 2}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_behind_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, Checkpoint({"w": np.zeros(3)}, {}, {"step": 1}))
    code = (
        "import os, sys; from pathlib import Path; import numpy as np\n"
        "from fml.engine.runtime.checkpoint import Checkpoint, write_checkpoint\n"
        "os.fsync = lambda file: os.kill(os.getpid(), 9)\n"
        "write_checkpoint(Path(sys.argv[1]), Checkpoint({'w': np.ones(3)}, {}, {'step': 2}))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    assert read_checkpoint(path).state["step"] == 1
    write_checkpoint(path, Checkpoint({"w": np.ones(3)}, {}, {"step": 3}))
    assert read_checkpoint(path).state["step"] == 3
