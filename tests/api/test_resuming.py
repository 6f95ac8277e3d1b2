"""A run that is killed at any moment goes on, and ends as the run that nobody killed."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fml
from fml.cli import main
from fml.engine.ir.diagnostics import FmlError
from fml.engine.runtime.watch import Progress
from tests.api.programs import CLASSIFIER, line_csv, points

TEXT = """\
data line = csv("line.csv") {
  x: f32[1] = [t] |> standardize
  y: f32    = v
  split train 70%, valid 30% by random(seed = 2)
}
model net(x: f32[N, D]) -> f32[N] {
  param w: f32[4] ~ normal
  state seen: f32 ~ zeros
  seen <- seen + 1
  x |> dense(4) |> tanh |> dropout(0.2) |> noise(0.1) |> dot(w)
}
fn dot(x: f32[N, D], w: f32[D]) -> f32[N] = x @ w
train {
  net = net()
  feed x, y from line.train |> shuffle |> batch(4)
  ŷ = net(x)
  minimize loss = mse(ŷ, y)
  using momentum(0.05 |> cosine(9 epochs))
  measure mae(ŷ, y) on line.valid
  keep lowest valid.mae
  stop after 9 epochs
  stop when valid.mae stops falling for 8 epochs
}
"""

# Dies at the `count`-th time that something happens; writes checkpoints as often as it can.
DRIVER = """
import os, sys
from pathlib import Path
from fml.cli import main
from fml.engine.runtime import trainer
from fml.engine.runtime.run_folder import RunFolder
trainer.LEAST_SECONDS_BETWEEN_CHECKPOINTS, trainer.SHARE_FOR_CHECKPOINTS = 0, 1e9
owner, name = {"fsync": (os, "fsync"), "replace": (Path, "replace"),
               "append": (RunFolder, "append"), "step": (trainer.Trainer, "_one_step")}[sys.argv[1]]
left, real = int(sys.argv[2]), getattr(owner, name)
def counted(*arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
    return real(*arguments)
setattr(owner, name, counted)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(line_csv(40))
    Path("line.fml").write_text(TEXT)
    return tmp_path


def killed(event: str, count: int, *arguments: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, event, str(count), "train", "--quiet", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == -9, child.stderr


def left_behind(run: str) -> tuple[bytes, list[list[str]], object]:
    """Parameters, figures by step without the seconds, and the end."""
    path = Path("runs", run)
    with (path / "metrics.csv").open(newline="") as file:
        rows = [[*row[:3], *row[4:]] for row in csv.reader(file)]
    ending = json.loads((path / "figures.json").read_text())
    del ending["progress"]["seconds"]
    return (path / "model.safetensors").read_bytes(), rows, ending


@pytest.mark.parametrize(
    "moments",
    [
        [("step", 1)],
        [("step", 2), ("step", 3), ("fsync", 3)],
        [("fsync", 9), ("append", 3), ("replace", 2)],
        [("replace", 10), ("fsync", 1), ("fsync", 2), ("step", 9)],
        [("append", 1), ("append", 1), ("append", 2), ("step", 20)],
        [("step", 40), ("step", 22)],
    ],
    ids=lambda moments: "-".join(f"{event}{count}" for event, count in moments),
)
def test_a_run_that_is_killed_goes_on(moments: list[tuple[str, int]]) -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    killed(*moments[0], "line.fml", "--run", "a")
    for moment in moments[1:]:
        assert main(["eval", "runs/a"]) == 0
        killed(*moment, "--resume", "runs/a")
    assert main(["train", "--quiet", "--resume", "runs/a"]) == 0
    assert left_behind("a") == left_behind("whole")
    assert not list(Path("runs/a").rglob("*.part"))


def test_a_killed_run_is_measured_and_predicts_by_its_last_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed("step", 30, "line.fml", "--run", "a")
    assert main(["eval", "runs/a"]) == 0
    said = capsys.readouterr()
    assert "last checkpoint, of step 29" in said.err
    assert "fml train --resume runs/a" in said.err
    assert "mae" in said.out
    assert main(["predict", "runs/a", "line.csv", "-o", "out.csv"]) == 0
    assert len(Path("out.csv").read_text().splitlines()) == 41
    run = fml.open_run("runs/a")
    assert run.interrupted
    assert run.steps == 29
    assert max(point.step for point in run.metrics["valid.mae"]) == 28


def test_a_terminated_run_ends_as_by_ctrl_c() -> None:
    Path("long.fml").write_text(TEXT.replace("9 epochs\n  stop when", "900000 epochs\n  stop when"))
    text = Path("long.fml").read_text().replace("for 8 epochs", "for 900000 epochs")
    Path("long.fml").write_text(text)
    child = subprocess.Popen(
        [sys.executable, "-m", "fml", "train", "long.fml", "--run", "a"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    child.stderr.readline()  # it has begun
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped: interrupted" in out
    assert "go on:   fml train --resume runs/a" in out


def test_a_run_that_has_ended_does_not_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 0
    before = left_behind("a")
    assert main(["train", "--resume", "runs/a"]) == 2
    assert "E0712" in capsys.readouterr().err
    assert left_behind("a") == before


def test_data_that_have_changed_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    killed("step", 30, "line.fml", "--run", "a")
    rows = Path("line.csv").read_text()
    Path("line.csv").write_text(rows.replace("0.05,", "0.06,"))
    assert main(["train", "--resume", "runs/a"]) == 2
    assert "the data differ" in capsys.readouterr().err
    Path("line.csv").write_text(rows)
    assert main(["train", "--quiet", "--resume", "runs/a"]) == 0


def test_resuming_takes_nothing_but_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["line.fml"], ["line.fml", "lr=3"], ["--seed", "3"], ["--run", "b"]):
        assert main(["train", "--resume", "runs/a", *more]) == 2
        assert "nothing else" in capsys.readouterr().err


class Stop:
    """Interrupts this process behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, start: object) -> None: ...

    def stepped(self, progress: Progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def measured(self, points: object) -> None: ...

    def stopped(self, progress: object, why: str) -> None: ...


def test_python_goes_on_with_its_own_arrays() -> None:
    program = fml.loads(CLASSIFIER)
    data = {"points": points()}
    begun = program.train(data=data, run="a", on_event=Stop(5))
    assert begun.interrupted
    assert begun.steps == 5
    resumed = fml.resume("runs/a", data)
    whole = program.train(data=data)
    assert not resumed.interrupted
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value)
    assert resumed.figures == whole.figures
    values = [(p.step, p.value) for p in resumed.metrics["train.loss"]]
    assert values == [(p.step, p.value) for p in whole.metrics["train.loss"]]
    with pytest.raises(FmlError, match="E0712"):
        fml.resume("runs/a", data)
    program.train(data=data, run="b", on_event=Stop(5))
    with pytest.raises(FmlError, match="E05"):
        fml.resume("runs/b")


def test_a_full_disk_keeps_what_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, left = os.fsync, [12]

    def full(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(file)

    with monkeypatch.context() as patched:
        patched.setattr("fml.engine.runtime.trainer.LEAST_SECONDS_BETWEEN_CHECKPOINTS", 0)
        patched.setattr("fml.engine.runtime.trainer.SHARE_FOR_CHECKPOINTS", 1e9)
        patched.setattr(os, "fsync", full)
        assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 2
    said = capsys.readouterr().err
    assert "E0732" in said
    assert "No space left on device" in said
    assert "fml train --resume" in said
    assert main(["eval", "runs/a"]) == 0
    assert main(["train", "--quiet", "--resume", "runs/a"]) == 0
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    assert left_behind("a") == left_behind("whole")
