"""Memory is known before a run: what a process grows by is what was said, and little else."""

import json
import subprocess
import sys

import pytest

from fml.engine.backends.null import NullBackend
from fml.engine.runtime.trainer import Trainer
from tests.dsl.programs import lowered, points

MIB = 1 << 20

# Trains a program, and prints what it had said, and how much resident memory it grew by until
# step 100; the data are there, and the libraries are loaded, when it begins.
MEASURE = """
import json, sys
import numpy as np
import fml, fml.training

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

text, shape, batches = sys.argv[1], json.loads(sys.argv[2]), 20
random = np.random.default_rng(0)
x = random.normal(size=(shape[0], *shape[1:])).astype(np.float32)
y = random.integers(0, 10, shape[0])

class Watch:
    def started(self, start):
        self.said = start.footprint.nbytes
    def stepped(self, progress):
        if progress.step == 100:
            print(json.dumps([self.said, resident() - before]))
    def measured(self, points): ...
    def interrupted(self): ...
    def stopped(self, progress, why): ...

# What a process holds anyway: imports, LLVM, machine code.
fml.loads(text).train(data={"d": {"x": x, "y": y}}, steps=1)
before = resident()
fml.loads(text).train(data={"d": {"x": x, "y": y}}, run="a", on_event=Watch())
"""

HEAD = "option batch = 128\noption steps = 100\ndata d = given {{ x: f32[{axes}]; y: label[10] }}\n"
PLAN = """
train {
  net = net()
  feed x, y from d.train |> shuffle |> batch(batch)
  minimize loss = cross_entropy(net(x), y)
  using adam(1e-3)
  measure accuracy(net(x), y) on d.train every 50 steps
  keep highest train.accuracy
  stop after steps steps
}
"""
DENSE = (
    "model net(x: f32[N, D]) = x |> dense(1024) |> relu |> dropout(0.2) |> dense(1024) |> dense(10)"
)
CONV = """model net(x: f32[N, H, W, C]) =
  x |> conv(32, 5) |> relu |> max_pool(2) |> conv(32, 3) |> relu |> flatten |> dense(10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("model", "shape"), [(DENSE, (2560, 784)), (CONV, (2560, 20, 20, 3))], ids=["dense", "conv"]
)
def test_a_run_grows_by_what_was_said(model: str, shape: tuple[int, ...], tmp_path: object) -> None:
    axes = ", ".join(map(str, shape[1:]))
    text = HEAD.format(axes=axes) + model + PLAN
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, text, json.dumps(shape)],
        capture_output=True, text=True, check=True, cwd=str(tmp_path),
    )  # fmt: skip
    said, grown = json.loads(done.stdout)
    assert said > 8 * MIB  # enough to tell
    assert grown <= 1.05 * said + 16 * MIB


def test_what_is_kept_is_the_model_without_its_slots() -> None:
    text = """
data points = given { x: f32[3]; y: f32 }
model net(x: f32[N, D]) -> f32[N] { param w: f32[D] ~ ones; x @ w }
train {
  net = net()
  feed x, y from points.train |> batch(6)
  minimize loss = mse(net(x), y)
  using adam(0.1)
  keep lowest train.loss
  stop after 3 epochs
}"""
    data = {"points": {"train": points(20)}}
    copies: list[int] = []
    for plan in (text, text.replace("keep lowest train.loss", "")):
        trainer = Trainer(lowered(plan), data, NullBackend(), 0)
        copies.append(trainer.footprint().copies)
        variables = trainer.footprint().variables
    assert copies[0] - copies[1] == 4 * 3
    # Adam's count and two slots; the places of variables begin at multiples of 64 bytes.
    assert variables == 4 * 64
    assert copies[1] == 3 * variables  # two steps back, and the end


def test_what_is_said_is_what_is_allocated() -> None:
    """Every byte that a backend hands out during a run is in the sum."""
    handed: list[int] = []

    class Counting(NullBackend):
        def allocate(self, nbytes: int):
            handed.append(nbytes)
            return super().allocate(nbytes)

    training = lowered("""
data points = given { x: f32[3]; y: f32 }
model net(x: f32[N, D]) -> f32[N] { param w: f32[D] ~ ones; dropout(0.3)(x) @ w }
train {
  net = net()
  feed x, y from points.train |> shuffle |> batch(6)
  minimize loss = mse(net(x), y)
  using momentum(0.1)
  measure mae(net(x), y) on points.train
  log norm(net) as "size" every 2 steps
  stop when norm(net) > 100
  stop after 3 epochs
}""")
    trainer = Trainer(training, {"points": {"train": points(20)}}, Counting(), 0)
    said = trainer.footprint()
    handed.clear()  # those of the first values, which are over
    trainer.run()
    assert max(handed) == said.workspace
    assert sum(handed) == said.workspace + said.constants
    assert said.variables == trainer.store.layout.nbytes
