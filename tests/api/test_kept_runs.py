"""Runs that Python keeps in folders: they open as they were, and what is damaged is told."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file

import fml
from tests.api.programs import CLASSIFIER, codes, points


def test_python_writes_no_folder_unless_asked(line: fml.Program) -> None:
    assert line.train().folder is None
    assert not Path("runs").exists()


def test_a_kept_run_opens_as_it_was(line: fml.Program) -> None:
    run = line.train(run="mine")
    assert run.folder == Path("runs/mine")
    opened = fml.open_run("runs/mine")
    assert opened.stopped_by == run.stopped_by
    assert opened.figures == run.figures
    assert opened.steps == run.steps
    assert [p.value for p in opened.metrics["train.J"]] == run.metrics["train.J"].values
    x = np.array([[0.5]])
    assert_array_equal(opened.model(x), run.model(x))
    assert opened.evaluate() == run.figures


def test_two_runs_without_a_name_get_two_folders(line: fml.Program) -> None:
    folders = {line.train(run=None).folder for _ in range(2)}
    assert len(folders) == 2
    assert all(folder and folder.name.startswith("line-") for folder in folders)


def test_imports_and_options_are_kept_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "nets" / "deep").mkdir(parents=True)
    (project / "main").mkdir()
    body = CLASSIFIER.replace(
        "model net(x: f32[N, D]) -> f32[N, 3] = x |> dense(width) |> relu |> dense(3)",
        'from "../nets/net.fml" import head',
    ).replace("m = net()", "m = head(width)")
    (project / "main" / "main.fml").write_text(body)
    (project / "nets" / "net.fml").write_text(
        'from "deep/body.fml" import body\n'
        "model head(w: dim)(x: f32[N, D]) -> f32[N, 3] = x |> body(w) |> dense(3)\n"
    )
    (project / "nets" / "deep" / "body.fml").write_text(
        "layer body(w: dim)(x: f32[N, D]) -> f32[N, w] = x |> dense(w) |> relu\n"
    )
    monkeypatch.chdir(tmp_path)
    program = fml.load(project / "main" / "main.fml")
    run = program.train(data={"points": points()}, run="kept", width=6, rounds="1 epoch")
    for file in project.rglob("*.fml"):
        file.unlink()
    opened = fml.open_run("runs/kept")
    x = points(5)["x"]
    assert_array_equal(opened.model(x), run.model(x))
    assert opened.evaluate({"points": points()}) == run.figures


@pytest.mark.parametrize("file", ["options.json", "figures.json", "model.safetensors", "data.json"])
def test_a_damaged_run_is_reported(file: str, line: fml.Program) -> None:
    line.train(run="r")
    path = Path("runs/r") / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(fml.FmlError) as caught:
        fml.open_run("runs/r")
    assert codes(caught) == ["E0707"]
    assert file in caught.value.diagnostics[0].message


def test_a_torn_line_of_figures_is_left_out(line: fml.Program) -> None:
    run = line.train(run="r")
    path = Path("runs/r/metrics.csv")
    path.write_text(path.read_text() + "400,400.0,80")
    assert fml.open_run("runs/r").metrics["train.J"].values == run.metrics["train.J"].values


def test_saved_parameters_are_read_by_the_language(line: fml.Program) -> None:
    run = line.train()
    run.save("m.safetensors")
    stored = load_file("m.safetensors")
    assert {name: value.tolist() for name, value in stored.items()} == {
        name: value.tolist() for name, value in run.model.parameters.items()
    }
    with pytest.raises(fml.FmlError) as caught:
        run.save("absent/m.safetensors")
    assert codes(caught) == ["E0732"]


def test_parameters_are_saved_as_safetensors_only(line: fml.Program, tmp_path: Path) -> None:
    run = line.train()
    before = [*tmp_path.iterdir()]
    for name in ("m.pkl", "m"):
        with pytest.raises(fml.FmlError, match=r"m\.safetensors") as caught:
            run.save(tmp_path / name)
        assert codes(caught) == ["E0745"]
    assert [*tmp_path.iterdir()] == before
