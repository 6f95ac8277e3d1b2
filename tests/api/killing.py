"""Runs that are killed, stopped or held up where a test wants it, and what they leave behind."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fml.engine.runtime import pace
from fml.engine.runtime.watch import Progress
from tests.api.programs import line_csv

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
  measure mae(ŷ, y), mae(ŷ, y) - previous(mae(ŷ, y)) as "gain" on line.valid
  log norm(net - previous(net)) as "way" every 2 steps
  keep lowest valid.mae
  stop after 9 epochs
  stop when valid.mae stops falling for 8 epochs
}
"""

# Dies at the `count`-th time that something happens, or waits there to be killed if the count is
# below 0; writes checkpoints as often as it can.
DRIVER = """
import os, sys, time
from pathlib import Path
from fml.cli import main
from fml.engine.runtime import lock, pace, saving, trainer
from fml.engine.runtime.run_folder import RunFolder
saving.LEAST_SECONDS_BETWEEN_CHECKPOINTS, saving.SHARE_FOR_CHECKPOINTS = 0, 1e9
pace.SECONDS_AT_ONCE = 0  # each step for itself
owner, name = {"fsync": (os, "fsync"), "replace": (Path, "replace"),
               "append": (RunFolder, "append"), "step": (trainer.Trainer, "_some_steps"),
               "lock": (lock, "take"), "compile": (trainer, "new_store")}[sys.argv[1]]
left, real = abs(int(sys.argv[2])), getattr(owner, name)
def counted(*arguments, **named):
    global left
    left -= 1
    if not left and int(sys.argv[2]) < 0:
        print("here", flush=True)
        time.sleep(600)
    if not left:
        os.kill(os.getpid(), 9)
    return real(*arguments, **named)
setattr(owner, name, counted)
sys.exit(main(sys.argv[3:]))
"""


def line_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder with `line.fml` and its data, of which runs take each step for itself."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pace, "SECONDS_AT_ONCE", 0)
    Path("line.csv").write_text(line_csv(40))
    Path("line.fml").write_text(TEXT)


def killed(event: str, count: int, *arguments: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, event, str(count), "train", "--quiet", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == -9, child.stderr


@contextmanager
def waiting(event: str, count: int, *arguments: str) -> Generator[int]:
    """A process that has come so far and stays there; killed behind the `with`."""
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, event, str(-count), "train", "--quiet", *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "here\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def left_behind(run: str) -> tuple[bytes, list[list[str]], object]:
    """Parameters, figures by step without the seconds, and the end."""
    path = Path("runs", run)
    with (path / "metrics.csv").open(newline="") as file:
        rows = [[*row[:3], *row[4:]] for row in csv.reader(file)]
    ending = json.loads((path / "figures.json").read_text())
    del ending["progress"]["seconds"]
    return (path / "model.safetensors").read_bytes(), rows, ending


class Stop:
    """Interrupts this process behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, start: object) -> None: ...

    def stepped(self, progress: Progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def measured(self, points: object) -> None: ...

    def interrupted(self) -> None: ...

    def stopped(self, progress: object, why: str) -> None: ...
