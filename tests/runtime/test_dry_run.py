"""Every plan of every example is compiled and walked without data, learners included."""

import struct
from pathlib import Path

import numpy as np
import pytest

import fml
from fml.cli import main
from fml.engine.backends.processor import processor
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Training
from fml.engine.runtime.dry_run import dry_run
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.footprint import Footprint
from fml.engine.runtime.trainer import Trainer
from fml.engine.sources.bind import bind
from fml.training import read_data
from tests.api.programs import CLASSIFIER, points
from tests.dsl.programs import lowered

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*.fml"))
CSV = '= csv("nowhere.csv") { x: f32[2] = [a, b]; y: label[3] = c }'
PLANS = [(path, plan) for path in EXAMPLES for plan in fml.load(path).plans]


@pytest.mark.parametrize(
    ("path", "plan"), PLANS, ids=lambda p: p.stem if isinstance(p, Path) else p or "plan"
)
def test_every_plan_of_the_examples_runs_dry(path: Path, plan: str) -> None:
    program = fml.load(path)
    dry = program.dry_run(plan or None)
    parameters = program.summary(plan or None).parameters
    assert dry.footprint.variables >= 4 * parameters > 0
    assert dry.step_tasks > 2
    assert dry.footprint.workspace > 0
    learners = program.lower(plan or None).learners
    assert dry.learners == (learners and learners.per_device)
    assert (f"for {dry.learners} learner" in str(dry)) == (learners is not None)


def kept(training: Training, data: Data) -> Footprint:
    """What a run takes that writes checkpoints."""
    trainer = Trainer(training, data, processor(), 0)
    trainer.saver.path = Path("never written")
    return trainer.footprint()


def test_a_dry_run_plans_what_is_run() -> None:
    training = lowered(CLASSIFIER)
    data = {"points": dict.fromkeys(("train", "valid", "test"), points(8))}
    trainer = Trainer(training, data, processor(), 0)
    dry = dry_run(training, {}, {"points": "it is not there"})
    assert dry.step_tasks == len(trainer.step.executable.plan.tasks)
    assert dry.footprint == kept(training, data)


@pytest.mark.parametrize("name", ["softmax_regression", "mlp_regularised", "logistic_regression"])
def test_where_the_data_are_there_its_memory_is_that_of_the_run(name: str) -> None:
    program = fml.load(EXAMPLES[0].with_name(f"{name}.fml"))
    training = program.lower()
    bound, splits = bind(training, read_data(program, training, {}))
    dry = program.dry_run()
    assert dry.footprint == kept(bound, splits)
    assert not dry.unread


# Whole splits as a batch, what is measured and logged and asked, bytes that become fields late.
WATCHED = """\
option whole = true
data faces = idx("faces") {
  x: f32[4, 4] = image / 255
  y: label[3]  = label
  split train 40, valid 20, rest 30% from train by random(seed = 7)
}
model net(x: f32[N, H, W]) = x |> flatten |> dense(64) |> relu |> dense(3)
train {
  net = net()
  feed x, y from faces.train |> batch(if whole then 40 else 8)
  logits = net(x)
  minimize loss = cross_entropy(logits, y)
  using adam(0.01)
  measure accuracy(logits, y) on faces.valid
  log norm(net) - previous(norm(net)) as "growth"
  keep lowest valid.loss
  stop after 2 epochs
  stop when previous(valid.loss) < valid.loss - 1
}
"""


def faces(images: int) -> None:
    """Random bytes in the four files of idx: 3 axes for images, 1 for labels."""
    random = np.random.default_rng(0)
    Path("faces").mkdir()
    for stem, count in (("train", images), ("t10k", 50)):
        pixels = random.integers(0, 256, (count, 4, 4), np.uint8)
        labels = random.integers(0, 3, count, np.uint8)
        head = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
        Path(f"faces/{stem}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">4BI", 0, 0, 8, 1, count)
        Path(f"faces/{stem}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def memory_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["train", "faces.fml", *arguments]) == 0
    said = capsys.readouterr()
    return next(line for line in (said.out + said.err).splitlines() if "memory:" in line)


@pytest.mark.parametrize("whole", ["true", "false"])
def test_the_command_says_the_memory_that_the_run_says(
    whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces.fml").write_text(WATCHED)
    faces(100)
    dry = memory_of(capsys, "--dry-run", f"whole={whole}")
    assert dry == memory_of(capsys, f"whole={whole}")


def test_what_is_not_counted_without_the_data_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces.fml").write_text(WATCHED)
    assert main(["train", "faces.fml", "--dry-run", "whole=false"]) == 0
    memory, note = capsys.readouterr().out.splitlines()[1:]
    assert memory.startswith("memory:  at least ")
    # The file writes how many samples `valid` has; what is left for `train` is not known.
    assert note == (
        "note:    `faces` was not read: cannot find the data `faces`; not counted: how its fields "
        "are made of what is read, and of `faces.train`, `faces.test` all but 8 samples"
    )


def test_data_without_the_split_that_is_cut_are_named_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = """= npz("points.npz") { x: f32[2] = x; y: label[3] = y
  split train 30, valid 10 from train }"""
    Path("net.fml").write_text(CLASSIFIER.replace("= given { x: f32[2]; y: label[3] }", source))
    np.savez("points.npz", **points(40))
    assert main(["train", "net.fml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "`points` has no split `train` to cut (points.npz has no splits of its own)" in said
    assert "(leave out `from train`, or call its arrays `train_x`, `train_y`)" in said
    np.savez("points.npz", **{f"{name}_test": array for name, array in points(40).items()})
    assert main(["train", "net.fml", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "points.npz has test" in said
    assert "help: cut another: `from test`" in said


def test_arrays_are_counted_where_they_are_given() -> None:
    program = fml.loads(CLASSIFIER)
    data = {"points": {"train": points(64), "valid": points(900)}}
    alone, counted = program.dry_run(), program.dry_run(data=data)
    assert "its arrays are given when it is trained" in str(alone)
    assert "note" not in str(counted)
    training = program.lower()
    assert counted.footprint == kept(*bind(training, read_data(program, training, data)))
    assert counted.footprint.nbytes > alone.footprint.nbytes
    with pytest.raises(FmlError, match="E0741"):
        program.dry_run(data={"pints": points()})


def test_the_command_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.fml").write_text(CLASSIFIER.replace("= given { x: f32[2]; y: label[3] }", CSV))
    assert main(["train", "net.fml", "--dry-run", "width=7"]) == 0
    assert "`points` was not read: cannot find the data `nowhere.csv`" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_sizes_that_do_not_fit_are_told() -> None:
    text = CLASSIFIER.replace("dense(3)", "dense(width / 3)").replace("-> f32[N, 3]", "")
    with pytest.raises(FmlError, match="E0"):
        fml.loads(text).dry_run()
