"""A run that is killed at any moment goes on, and ends as the run that nobody killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import fml
from fml.cli import main
from fml.engine.backends.interface import Backend
from fml.engine.backends.processor import processor
from fml.engine.ir.diagnostics import FmlError
from fml.training import BACKENDS
from tests.api.killing import TEXT, Stop, killed, left_behind, line_in
from tests.api.programs import CLASSIFIER, line_csv, points


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line_in(tmp_path, monkeypatch)


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


def test_a_run_goes_on_with_other_cores_and_streams() -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    killed("step", 20, "line.fml", "--run", "a", "--cores", "2")
    killed("step", 9, "--resume", "runs/a", "--streams", "2")
    assert main(["train", "--quiet", "--resume", "runs/a", "--cores", "1"]) == 0
    assert left_behind("a") == left_behind("whole")


WITH_OPTIONS = ("line.fml", "lr=0.04", "--seed", "5", "--run")


def with_options() -> None:
    """A file with an option, and a whole run of it to compare with."""
    text = "option lr = 0.05\n" + TEXT.replace("momentum(0.05", "momentum(lr")
    Path("line.fml").write_text(text)
    assert main(["train", "--quiet", *WITH_OPTIONS, "whole"]) == 0


# Of what is written at the beginning, the options are the fifth file and the last, and the first
# checkpoint is the sixth.
@pytest.mark.parametrize(
    "moments",
    [
        [("compile", 1)],
        [("fsync", 6), ("compile", 1), ("fsync", 2)],
        [("replace", 6), ("replace", 1), ("step", 1)],
    ],
    ids=lambda moments: "-".join(f"{event}{count}" for event, count in moments),
)
def test_a_run_that_is_killed_before_its_first_checkpoint_is_begun_again(
    moments: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    with_options()
    killed(*moments[0], *WITH_OPTIONS, "a")
    Path("line.fml").write_text("what the run was begun with is in its folder")
    assert not Path("runs/a/checkpoints/last.safetensors").exists()
    assert main(["eval", "a"]) == 2
    assert "no parameters yet" in capsys.readouterr().err
    assert main(["train", *WITH_OPTIONS, "a"]) == 2
    for moment in moments[1:]:
        killed(*moment, "--resume", "runs/a")
    assert main(["train", "--quiet", "--resume", "runs/a"]) == 0
    assert left_behind("a") == left_behind("whole")
    assert json.loads(Path("runs/a/options.json").read_text())["seed"] == 5
    assert not list(Path("runs/a").rglob("*.part"))


def test_a_run_that_is_begun_again_takes_the_data_as_they_are() -> None:
    killed("compile", 1, "line.fml", "--run", "a")
    Path("line.csv").write_text(line_csv(48))
    assert main(["train", "--quiet", "--resume", "a"]) == 0
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    assert left_behind("a") == left_behind("whole")
    assert Path("runs/a/data.json").read_text() == Path("runs/whole/data.json").read_text()


@pytest.mark.parametrize(
    ("event", "count", "words"),
    [
        ("lock", 1, "it is empty"),
        ("fsync", 1, "was killed before it had begun"),
        ("fsync", 5, "was killed before it had begun"),
        ("replace", 5, "was killed before it had begun"),
    ],
)
def test_a_run_that_is_killed_before_its_options_are_written_is_to_be_removed(
    event: str, count: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(event, count, "line.fml", "--run", "a")
    for command in (["train", "--resume", "a"], ["eval", "a"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "E0706" in said
        assert words in said
        assert "remove it" in said  # or its folder
    assert main(["train", "line.fml", "--run", "a"]) == 2
    assert "remove it" in capsys.readouterr().err


def test_figures_measured_again_are_those_of_the_end() -> None:
    watched = 'measure mean(logits) - previous(mean(logits)) as "d" on points.valid'
    program = fml.loads(CLASSIFIER.replace("  stop after", f"  {watched}\n  stop after"))
    data = {"points": {"train": points(), "valid": points(16)}}
    run = program.train(data=data, run="a")
    assert run.figures["valid.d"] == 0
    assert np.count_nonzero(run.metrics["valid.d"].values) == 2  # of three epochs
    assert run.evaluate() == fml.open_run("runs/a").evaluate(data) == dict(run.figures)


COUNTED = """
data points = given { x: f32[2]; y: f32 }
model line(x: f32[N, D]) -> f32[N] {
  param w: f32[D] ~ normal(0, 1)
  x @ w
}
train {
  z = line()
  learners PER_DEVICE per device {
    w = replica(z)
    state n: f32 ~ zeros
    n <- n + 1
    feed x, y from points.train |> shuffle |> batch(4)
    minimize loss = mse(w(x), y)
    using sgd(0.01)
  }
  use sma(learners.w, z)
  measure size(learners) * mean(y) as "size", steps(1 epoch) * mean(y) as "per_epoch",
    mean(learners.n, over = learners) as "n", step * mean(y) as "step",
    samples * mean(y) as "samples", mean(uniform(y, 0, 1)) as "drawn" on points.train
  stop after 12 steps
}
"""


@pytest.mark.parametrize("per_device", ["3", "auto"])
def test_figures_of_counters_and_learners_are_those_of_the_end(per_device: str) -> None:
    program = fml.loads(COUNTED.replace("PER_DEVICE", per_device))
    data = {"points": {"x": np.ones((48, 2)), "y": np.ones(48)}}
    run = program.train(data=data, run="a", devices=2, seed=5, device="numpy")
    learners = run.variables["w.w"].shape[0]
    wanted = {
        "size": learners, "per_epoch": 48 // (4 * learners), "n": 12, "step": 12,
        "samples": 12 * 4 * learners,
    }  # fmt: skip
    assert {name: run.figures[f"train.{name}"] for name in wanted} == wanted
    assert run.evaluate() == fml.open_run("runs/a").evaluate(data)
    for name, value in run.evaluate().items():
        np.testing.assert_allclose(value, run.figures[name], 1e-6, err_msg=name)
    # A run that was killed has its last checkpoint.
    Path("runs/a/figures.json").unlink()
    assert fml.open_run("runs/a").evaluate(data) == run.evaluate()


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


def test_progress_of_a_run_that_goes_on_knows_what_was_best_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("early.fml").write_text(TEXT.replace("keep lowest", "keep highest"))
    killed("step", 45, "early.fml", "--run", "a")
    assert main(["train", "--resume", "runs/a"]) == 0
    resumed = capsys.readouterr().err.splitlines()[-1]
    assert main(["train", "early.fml", "--run", "b"]) == 0
    whole = capsys.readouterr().err.splitlines()[-1]
    assert "best" in whole
    assert float(whole.rpartition(" ")[2]) < 6  # before the kill
    assert resumed == whole


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
        assert "are those that the run was begun with" in capsys.readouterr().err


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


def test_a_run_goes_on_with_its_cores_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Backend] = []

    def noted(cores: int | None = None, streams: int = 1) -> Backend:
        made.append(processor(cores, streams))
        assert cores == 1
        return made[-1]

    monkeypatch.setitem(cast("dict[str, object]", BACKENDS), "cpu", noted)
    program, data = fml.loads(CLASSIFIER), {"points": points()}
    wide = {"width": 4096, "rounds": "2 epochs"}
    assert program.outlook(streams=2, options=wide).plan.streams.count == 2
    program.train(data=data, run="a", cores=1, streams=2, on_event=Stop(5), options=wide)
    resumed = fml.resume("runs/a", data)
    assert [backend.streams for backend in made] == [2, 2]
    whole = program.train(data=data, cores=1, options=wide)
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value)
