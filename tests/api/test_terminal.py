"""Training on a terminal: what moves, what has colours, and what Ctrl-C does."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.api.programs import FLOWERS, flowers_csv


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flowers.csv").write_text(flowers_csv())
    Path("flowers.fml").write_text(FLOWERS)


def on_terminal(
    *arguments: str, interrupts: Sequence[str] = (), **environment: str
) -> tuple[int, str]:
    """Run the command on a terminal of its own and return its status and all that it drew.

    Ctrl-C is pressed as soon as each of `interrupts` has been drawn, one after the other.
    """
    waited = list(interrupts)
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    child = subprocess.Popen(
        [sys.executable, "-m", "fml", *arguments], stdin=slave, stdout=slave, stderr=slave, env=env
    )
    os.close(slave)
    drawn = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
        if waited and waited[0].encode() in drawn:
            waited.pop(0)
            child.send_signal(signal.SIGINT)
    os.close(master)
    return child.wait(timeout=60), drawn.decode()


def test_on_a_terminal_progress_moves_and_is_gone_at_the_end() -> None:
    status, drawn = on_terminal("train", "flowers.fml")
    assert status == 0
    assert "\x1b[2K" in drawn  # the line of the bar is wiped
    assert "epoch 0/12" in drawn
    assert "stopped: after 12 epochs" in drawn


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_only_where_they_are_wanted(environment: dict[str, str], coloured: bool) -> None:
    Path("broken.fml").write_text(FLOWERS.replace("dense(3)", "dence(3)"))
    status, drawn = on_terminal("check", "broken.fml", **environment)
    assert status == 2
    assert ("\x1b[" in drawn) is coloured


SLOW = """\
data d = npz("d.npz") { x: f32[8] = x; y: label[3] = y }
model net(x: f32[N, D]) -> f32[N, 3] = x |> repeat(20, dense(512)) |> dense(3)
train {
  net = net()
  feed x, y from d.train |> batch(SIZE)
  minimize loss = cross_entropy(net(x), y)
  using sgd(0.001)
  measure cross_entropy(net(x), y) on d.train
  stop after 100000 steps
}
"""


@pytest.mark.parametrize("size", [16, 60_000])
def test_ctrl_c_is_answered_while_a_step_or_the_figures_take_long(size: int) -> None:
    """Steps or figures of 60,000 samples take so long that a second Ctrl-C meets them."""
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(60_000, 8)).astype(np.float32), numbers.integers(0, 3, 60_000)
    np.savez("d.npz", x=x, y=y)
    Path("slow.fml").write_text(SLOW.replace("SIZE", str(size)))
    moments = ["epoch 0", "stopping: the final figures are taken"]
    status, drawn = on_terminal("train", "slow.fml", "--run", "s", interrupts=moments)
    assert status == 130
    assert "Traceback" not in drawn
    assert "stopped: interrupted" in drawn
    assert "go on:" in drawn
    assert "cross_entropy" not in drawn  # no table of figures
    assert Path("runs/s/checkpoints/last.safetensors").is_file()
    assert json.loads(Path("runs/s/figures.json").read_text())["figures"] == {}


def on_screen(drawn: str) -> list[str]:
    """All lines that were ever drawn, without control characters."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn))


@pytest.mark.parametrize("columns", [16, 24, 60, 80, 100])
def test_the_moving_line_always_has_the_epoch_and_never_wraps(columns: int) -> None:
    status, drawn = on_terminal("train", "flowers.fml", COLUMNS=str(columns), NO_COLOR="1")
    assert status == 0
    moving = [line for line in on_screen(drawn) if line.startswith("epoch")]
    assert moving
    assert all(re.match(r"epoch \d+/12( |$)", line) for line in moving)
    assert max(map(len, moving)) < columns
    # What `keep` watches is the figure that is shown first of all.
    assert ("valid.accuracy" in moving[-1]) is (columns >= 60)


def test_without_colour_the_moving_line_still_moves() -> None:
    _, drawn = on_terminal("train", "flowers.fml", NO_COLOR="1")
    assert "\x1b[2K" in drawn
    assert not re.search(r"\x1b\[[0-9;]*m", drawn)
