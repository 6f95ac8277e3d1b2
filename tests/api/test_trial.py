"""What tripped new users: each of these ended in a traceback, or in an answer that was wrong."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fml
from fml.cli import main
from fml.engine.ir.diagnostics import FmlError
from fml.engine.runtime import trainer
from tests.api.programs import CLASSIFIER, LINE, line_csv, points


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(line_csv())
    Path("line.fml").write_text(LINE.replace("x: f32[1] = [t]", "x: f32[2] = [t, s]").replace(
        "f32[1]", "f32[2]"
    ))  # fmt: skip
    rows = line_csv().splitlines()
    Path("line.csv").write_text(
        "\n".join(["t,v,s"] + [f"{row},{k % 3}" for k, row in enumerate(rows[1:])])
    )


ROWS: list[tuple[dict[str, object], str]] = [
    ({"t": [0.1, 0.2], "s": [1]}, "differ in length"),
    ({"t": [0.1], "s": [1, 2, 3]}, "differ in length"),
    ({"t": 0.1, "s": 1}, "no list of numbers"),
    ({"t": [[0.1], [0.2, 0.3]], "s": [1, 2]}, "no list of numbers"),
    ({"t": ["a"], "s": [1]}, "E0504"),
]


@pytest.mark.parametrize(("rows", "what"), ROWS, ids=lambda x: str(x)[:24])
def test_rows_that_do_not_fit_are_told(rows: dict[str, object], what: str) -> None:
    run = fml.load("line.fml").train()
    with pytest.raises(FmlError, match=what):
        run.predict(rows)


def test_numbers_written_as_text_are_numbers_in_rows() -> None:
    run = fml.load("line.fml").train()
    texts, numbers = ({"t": t, "s": s} for t, s in ((["0.25"], ["1"]), ([0.25], [1])))
    np.testing.assert_array_equal(
        run.predict(texts)["prediction"], run.predict(numbers)["prediction"]
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_labels_are_of_one_kind_in_all_splits(swapped: bool) -> None:
    numbers = points(24)
    words: dict[str, Any] = {**numbers, "y": [f"c{k}" for k in numbers["y"]]}
    parts = [words, numbers] if swapped else [numbers, words]
    splits = dict(zip(("train", "valid"), parts, strict=True))
    with pytest.raises(FmlError, match=r"text in `.*` and numbers in `.*`"):
        fml.loads(CLASSIFIER).train(data={"points": splits})


def test_ctrl_c_before_the_first_step_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "new_store", interrupted)
        assert main(["train", "line.fml", "--run", "a"]) == 130
    assert not Path("runs/a").exists()
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 0


def test_a_folder_that_a_kill_left_without_its_options_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/source.fml").write_text("")
    for arguments in (
        ["train", "line.fml", "--run", "a"],
        ["train", "--resume", "a"],
        ["eval", "a"],
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "killed before it had begun" in said
        assert "remove" in said


def test_a_run_that_has_ended_is_not_offered_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 0
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 2
    assert "--resume" not in capsys.readouterr().err


def test_damaged_encodings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 0
    Path("runs/a/data.json").write_text(json.dumps({}))
    for arguments in (["eval", "a"], ["predict", "a", "line.csv"]):
        assert main(arguments) == 2
        assert "E0707" in capsys.readouterr().err


def test_a_run_is_found_by_its_name_from_python() -> None:
    fml.load("line.fml").train(run="a")
    run = fml.open_run("a")
    assert run.folder == Path("runs/a")


def test_the_next_command_is_one_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("line.fml").read_text().replace("model straight", "layer straight")
    Path("plain.fml").write_text(text)
    assert main(["train", "plain.fml", "--run", "a"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert main(line.split()[2:]) == 0


def test_the_next_command_names_images_where_samples_are_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez("images.npz", x=np.zeros((12, 4, 4, 1), np.uint8), y=np.arange(12) % 3)
    Path("images.fml").write_text("""
data d = npz("images.npz") { x: f32[4, 4, 1] = x / 255; y: label[3] = y }
model net(x: f32[N, 4, 4, 1]) -> f32[N, 3] = x |> flatten |> dense(3)
train {
  net = net()
  feed x, y from d.train
  minimize loss = cross_entropy(net(x), y)
  using sgd(0.1)
  stop after 2 epochs
}""")
    assert main(["train", "images.fml", "--run", "a"]) == 0
    assert "next:    fml predict runs/a images.npz " in capsys.readouterr().out


@pytest.mark.parametrize("depth", [0, -1])
def test_pictures_have_a_depth(depth: int) -> None:
    with pytest.raises(FmlError, match="E0744"):
        fml.load("line.fml").visualize(max_depth=depth)
