"""Training, measuring and predicting on the command line, from the first line to the last."""

import csv
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.api.programs import FLOWERS, LINE, SPECIES, flowers_csv, line_csv
from tests.api.test_cli import Ran, fml, process


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("flowers.csv").write_text(flowers_csv())
    Path("flowers.fml").write_text(FLOWERS)
    Path("line.csv").write_text(line_csv())
    Path("line.fml").write_text(LINE)
    return tmp_path


@pytest.fixture
def trained(project: Path, capfd: pytest.CaptureFixture[str]) -> Ran:
    ran = fml(capfd, "train", "flowers.fml", "lr=0.4", "--run", "r", "--seed", "3")
    assert ran.status == 0, ran.err
    return ran


def table_of(out: str) -> dict[str, dict[str, float]]:
    """Read the table of figures back."""
    lines = [line.split() for line in out.splitlines()]
    head = next(i for i, cells in enumerate(lines) if cells and cells[0] == "train")
    rows = itertools.takewhile(bool, lines[head + 2 :])
    return {r[0]: dict(zip(lines[head], map(float, r[1:]), strict=True)) for r in rows}


def test_a_run_ends_with_figures_the_reason_the_folder_and_the_next_command(
    trained: Ran, capfd: pytest.CaptureFixture[str]
) -> None:
    figures = table_of(trained.out)
    assert set(figures) == {"accuracy", "loss"}
    assert set(figures["accuracy"]) == {"train", "valid", "test"}
    assert figures["accuracy"]["test"] == 1
    stored = json.loads(Path("runs/r/figures.json").read_text())["figures"]
    assert stored["valid.loss"] == pytest.approx(figures["loss"]["valid"], rel=1e-3)
    assert "stopped: after 12 epochs (72 steps in " in trained.out
    assert re.search(r"kept:    step \d+, the highest valid.accuracy \(1\)", trained.out)
    assert "run:     runs/r\n" in trained.out
    (command,) = re.findall(r"next:    fml (.*)", trained.out)
    next_ran = fml(capfd, *command.split())
    assert next_ran.out == "wrote 90 predictions to predictions.csv\n"


def test_the_folder_tells_the_whole_run(trained: Ran) -> None:
    folder = Path("runs/r")
    assert (folder / "source.fml").read_text() == FLOWERS
    options = json.loads((folder / "options.json").read_text())
    assert (options["options"], options["seed"], options["device"]) == ({"lr": "0.4"}, 3, "cpu")
    environment = json.loads((folder / "environment.json").read_text())
    assert {"fml", "numpy", "python"} <= environment["versions"].keys()
    assert environment["started"] <= environment["finished"]
    rows = [*csv.DictReader((folder / "metrics.csv").read_text().splitlines())]
    losses = [float(row["value"]) for row in rows if row["series"] == "train.loss"]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    data = json.loads((folder / "data.json").read_text())
    assert data["flowers"]["classes"]["y"] == list(SPECIES)


def test_eval_gives_the_figures_of_the_run(trained: Ran, capfd: pytest.CaptureFixture[str]) -> None:
    ran = fml(capfd, "eval", "runs/r")
    assert (ran.status, ran.err) == (0, "")
    assert table_of(ran.out) == table_of(trained.out)


def test_predictions_are_in_order_and_need_no_answers(
    trained: Ran, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("new.csv").write_text("width,length,colour\n3,6.2,red\n5,0.1,blue\n4,3.3,red\n")
    rows = [*csv.DictReader(fml(capfd, "predict", "runs/r", "new.csv").out.splitlines())]
    assert [row["prediction"] for row in rows] == ["crocus", "aster", "bellis"]
    for row in rows:
        scores = {kind: float(row[f"score_{kind}"]) for kind in SPECIES}
        assert max(scores, key=lambda kind: scores[kind]) == row["prediction"]
    ran = fml(capfd, "predict", "runs/r", "flowers.csv", "-o", "out.csv")
    assert ran.out == "wrote 90 predictions to out.csv\n"
    written = [*csv.DictReader(Path("out.csv").read_text().splitlines())]
    truth = [line.split(",")[2] for line in flowers_csv().splitlines()[1:]]
    right = [row["prediction"] == kind for row, kind in zip(written, truth, strict=True)]
    assert sum(right) > 80  # a third if they were out of order


def test_a_regression_predicts_one_column(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert fml(capfd, "train", "line.fml", "--run", "line", "-q").status == 0
    Path("new.csv").write_text("t\n0\n1\n")
    first, *values = fml(capfd, "predict", "runs/line", "new.csv").out.split()
    assert first == "prediction"
    assert [float(v) for v in values] == pytest.approx([-1, 2], abs=0.05)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("length\n1\n", "`width`"),
        ("length,width\n1,wide\n", "`wide`"),
        ("length,width\n1\n", "line 2"),
        ("", "no samples"),
    ],
)
def test_rows_that_do_not_fit_are_reported(
    content: str, words: str, trained: Ran, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("new.csv").write_text(content)
    ran = fml(capfd, "predict", "runs/r", "new.csv")
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err


def test_help_with_a_file_lists_its_options_and_plans(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = fml(capfd, "train", "flowers.fml", "--help")
    assert ran.status == 0
    words = " ".join(ran.out.split())
    assert "lr=0.5 learning rate (in 0.001 .. 10)" in words
    assert 'kind=plain (in ["plain", "wide"])' in words
    assert "(unnamed) The only plan." in words
    assert not Path("runs").exists()


def test_quiet_says_nothing(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = fml(capfd, "train", "flowers.fml", "--quiet")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert len([*Path("runs").iterdir()]) == 1


def test_progress_without_a_terminal_is_plain_lines(trained: Ran) -> None:
    memory, *lines = trained.err.splitlines()
    assert re.fullmatch(r"memory:  \S+ KiB beyond the data", memory)
    assert re.fullmatch(
        r"epoch 1/12, step 6: train.loss \S+, valid.accuracy \S+, valid.loss \S+, "
        r"best \S+ in epoch 1",
        lines[0],
    )
    assert lines[-1].startswith("epoch 12/12, step 72: ")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", trained.err + trained.out)


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("line.fml").write_text(LINE.replace("sgd(0.1)", "sgd(1e30)"))
    ran = fml(capfd, "train", "line.fml", "--run", "nan")
    assert ran.status == 2
    assert "E0703" in ran.err
    assert "stopped: train.J is" in ran.out
    assert "next:    train again with a lower rate" in ran.out


@pytest.mark.parametrize(("given", "advised"), [("200", "0.1"), ("0.1", "0.01")])
def test_a_run_that_diverged_says_so_and_what_to_type_next(
    given: str, advised: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steep = LINE.replace("sgd(0.1)", "sgd(rate * 100)").replace("t]", "100 * t]")
    Path("line.fml").write_text("option rate = 0.1\noption other = 1\n" + steep)
    ran = fml(capfd, "train", "line.fml", "other=2", f"rate={given}", "--run", "steep")
    assert ran.status == 2
    assert "E0703" in ran.err
    # No table of infinities, and no command that applies such a model.
    assert "J" not in ran.out.split("stopped")[0]
    assert "not finite" in ran.out
    assert f"next:    fml train line.fml other=2 rate={advised}\n" in ran.out
    again = fml(capfd, "eval", "steep")
    assert again.status == 2
    assert "E0713" in again.err
    assert "`train.J`" in again.err
    applied = fml(capfd, "predict", "steep", "line.csv", "-o", "p.csv")
    assert applied.status == 2
    assert "E0713" in applied.err
    assert "of no use" in applied.err
    assert len(Path("p.csv").read_text().splitlines()) == 21


def test_a_figure_that_is_only_measured_may_be_not_finite(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = 'mean(log(y)) as "logs", mean(1 / (y - y)) as "poles"'
    measure = f"  measure mae(ŷ, y), {odd} on line.train\n"
    Path("line.fml").write_text(LINE.replace("  stop", f"{measure}  stop"))
    ran = fml(capfd, "train", "line.fml", "--run", "odd")
    assert ran.status == 0
    table = table_of(ran.out)
    assert table["J"]["train"] < 1e-4
    assert table["mae"]["train"] < 1e-2
    assert str(table["logs"]["train"]) == "nan"
    assert table["poles"]["train"] == float("inf")
    assert "note:    `train.logs`, `train.poles` are not finite, and only measured" in ran.out
    assert "of no use" not in ran.out
    assert "next:    fml predict" in ran.out
    again = fml(capfd, "eval", "odd")
    assert again.status == 0
    assert "`train.logs`, `train.poles` are not finite, and only measured" in again.err
    assert str(table_of(again.out)) == str(table)


def test_a_run_is_found_by_its_name(trained: Ran, capfd: pytest.CaptureFixture[str]) -> None:
    assert table_of(fml(capfd, "eval", "r").out) == table_of(trained.out)
    assert fml(capfd, "predict", "r", "flowers.csv", "-o", "p.csv").status == 0
    Path("r").mkdir()  # a folder of that name that is no run is not meant
    assert table_of(fml(capfd, "eval", "r").out) == table_of(trained.out)
    assert "is not the folder of a run" in fml(capfd, "eval", "./r/../runs").err
    Path("here").mkdir()
    assert "is not the folder of a run" in fml(capfd, "eval", "here").err
    assert fml(capfd, "train", "line.fml", "-q", "--run", "s").status == 0
    Path("runs/s").rename("s")
    Path("runs/r").rename("runs/s")  # a run at the path itself goes first
    assert "J" in table_of(fml(capfd, "eval", "s").out)
    Path("runs/s").rename("runs/r")
    assert "did you mean `r`?" in fml(capfd, "eval", "rr").err
    assert "`runs/r`" in fml(capfd, "eval", "absent").err


def test_scores_are_said_to_be_no_probabilities(
    trained: Ran, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "(logits), no probabilities" in fml(capfd, "predict", "r", "flowers.csv").err
    sure = FLOWERS.replace("dense(3)\n", "dense(3) |> softmax\n").replace("softmax(", "flower(")
    Path("flowers.fml").write_text(sure)
    assert fml(capfd, "train", "flowers.fml", "--run", "s", "-q").status == 0
    assert fml(capfd, "predict", "s", "flowers.csv").err == ""
    assert fml(capfd, "train", "line.fml", "--run", "l", "-q").status == 0
    assert fml(capfd, "predict", "l", "line.csv").err == ""
    ran = fml(capfd, "predict", "l", "runs")
    assert (ran.status, ran.out) == (2, "")
    assert "`runs` is a folder" in ran.err
    assert "did you mean `line.csv`?" in fml(capfd, "predict", "l", "lin.csv").err


def test_ctrl_c_leaves_a_run_that_can_be_used(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("flowers.fml").write_text(FLOWERS.replace("12 epochs", "1_000_000 epochs"))
    child = subprocess.Popen(
        [sys.executable, "-m", "fml", "train", "flowers.fml", "--run", "long"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    guard = threading.Timer(60, child.kill)
    guard.start()
    child.stderr.readline()  # the first epoch is over
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    guard.cancel()
    assert child.returncode == 130
    assert err.count("stopping: the final figures are taken") == 1
    assert "stopped: interrupted" in out
    assert "Traceback" not in err
    ran = fml(capfd, "eval", "runs/long")
    assert ran.status == 0
    assert table_of(ran.out) == table_of(out)


def test_the_same_seed_gives_the_same_figures_in_another_process(project: Path) -> None:
    outs = [process("train", "flowers.fml", "--seed", "5", "--run", name) for name in ("a", "b")]
    assert table_of(outs[0].stdout) == table_of(outs[1].stdout)
    first, second = (Path(f"runs/{name}/model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "nul?"])
def test_a_name_that_is_no_folder_is_refused(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = fml(capfd, "train", "flowers.fml", "--run", name)
    assert ran.status == 2
    assert "E0705" in ran.err
