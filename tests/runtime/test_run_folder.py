"""Run folders: what was written is read back, whatever happened in between."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.runtime.run_files import Encoding, Ending, Origin
from fml.engine.runtime.run_folder import RunFolder
from fml.engine.runtime.watch import Point, Progress

ORIGIN = Origin(
    "iris.fml",
    "source.fml",
    {"source.fml": "option η = 1\n"},
    "/data",
    "plan",
    {"η": 0.5},
    7,
    "cpu",
)
POINTS = (
    Point("valid.loss", 3, 0.1 + 0.2, 96, 1.5, 1 / 3),
    Point('odd, "name"', 6, 2.0, 192, 2.5, float("nan")),
    Point("train.loss", 6, 2.0, 192, 2.5, float("-inf")),
)
PARAMETERS = {
    "net.W": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "net.b": np.asarray(0.1, np.float32),
}
ENCODINGS = {"iris": Encoding({"iris.x.mean": np.float32([0.1, 1e-30])}, {"y": ("ä", "b, c")})}


def code(caught: pytest.ExceptionInfo[FmlError]) -> str:
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code


def finished(root: Path) -> RunFolder:
    folder = RunFolder.create("iris", "r", root)
    folder.begin(ORIGIN, ENCODINGS, {"fml": "1.2"}, ["fml", "train", "iris.fml"])
    folder.append(POINTS[:1])
    folder.append(POINTS[1:])
    progress = Progress(6, 2.0, 192, 2.5, {"valid.loss": 1 / 3})
    ending = Ending({"valid.loss": 0.1, "odd": float("nan")}, "after 2 epochs", progress)
    folder.finish(PARAMETERS, ending)
    return folder


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    finished(tmp_path)
    folder = RunFolder.open(tmp_path / "r")
    assert folder.origin() == ORIGIN
    ending = folder.ending()
    assert ending.figures["valid.loss"] == 0.1
    assert np.isnan(ending.figures["odd"])
    assert ending.progress.step == 6
    parameters = folder.parameters()
    assert parameters.keys() == PARAMETERS.keys()
    for name, value in PARAMETERS.items():
        assert parameters[name].shape == value.shape
        assert parameters[name].tobytes() == value.tobytes()
    encoding = folder.encodings(["iris"])["iris"]
    assert encoding.classes == ENCODINGS["iris"].classes
    for name, value in ENCODINGS["iris"].statistics.items():
        assert encoding.statistics[name].tobytes() == value.tobytes()


def test_figures_keep_their_bits_and_odd_names(tmp_path: Path) -> None:
    points = finished(tmp_path).points()
    for point, written in zip(points, POINTS, strict=True):
        assert np.float64(point.value).tobytes() == np.float64(written.value).tobytes()
        assert (point.series, point.step, point.epoch) == (
            written.series,
            written.step,
            written.epoch,
        )


@pytest.mark.parametrize("lost", range(1, 30, 4))
def test_a_line_that_was_cut_off_is_left_out_and_written_over(tmp_path: Path, lost: int) -> None:
    folder = finished(tmp_path)
    path = folder.path / "metrics.csv"
    path.write_bytes(path.read_bytes()[:-lost])
    assert [p.series for p in folder.points()] == [p.series for p in POINTS[:2]]
    folder.append(POINTS[2:])
    assert [p.series for p in folder.points()] == [p.series for p in POINTS]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_folder_that_is_discarded_never_looks_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    folder = RunFolder.create("iris", "r", tmp_path)
    folder.begin(ORIGIN, ENCODINGS, {}, [])
    remove, stops = shutil.rmtree, [stop]

    def cut_short(path: Path) -> None:
        (path / "source.fml").unlink(missing_ok=True)
        if stops:
            raise stops.pop()
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", cut_short)
    if stop is KeyboardInterrupt:
        folder.discard()
        assert not folder.path.exists()
    else:  # as a kill would
        with pytest.raises(stop):
            folder.discard()
        assert not folder.is_begun
        with pytest.raises(FmlError, match="remove its folder"):
            folder.require_begun()


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from fml.engine.runtime.run_files import Origin
from fml.engine.runtime.run_folder import RunFolder
from fml.engine.runtime.watch import Point
folder = RunFolder.create("x", "r", Path(sys.argv[1]))
folder.begin(Origin("x", "source.fml", {"source.fml": ""}, "", "", {}, 0, "cpu"), {}, {}, [])
step = 0
while True:
    folder.append([Point("a.b", step, step / 7, step, 0.5, step / 3)])
    step += 1
"""
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    path = tmp_path / "r" / "metrics.csv"
    while not (path.exists() and path.stat().st_size > 5000):
        assert child.poll() is None, "the child has ended by itself"
        time.sleep(0.01)
    child.kill()
    child.wait()
    points = RunFolder(tmp_path / "r").points()
    assert [(p.step, p.value) for p in points] == [(n, n / 3) for n in range(len(points))]
    assert len(points) > 50


def test_runs_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    paths = {RunFolder.create("iris", root=tmp_path / "runs").path for _ in range(3)}
    assert len(paths) == 3
    assert all(path.is_dir() and path.name.startswith("iris-") for path in paths)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a:b", "a b", "a\n", "-a", "a" * 101]
)
def test_a_name_is_that_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(FmlError) as caught:
        RunFolder.create("iris", name, tmp_path / "runs")
    assert code(caught) == "E0705"
    assert not (tmp_path / "runs").exists()


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in finished(tmp_path).path.iterdir()}
    with pytest.raises(FmlError) as caught:
        RunFolder.create("iris", "r", tmp_path)
    assert code(caught) == "E0704"
    assert {p: p.read_bytes() for p in before} == before


def test_where_nobody_may_write_there_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, no folder")
    with pytest.raises(FmlError) as caught:
        RunFolder.create("iris", "r", tmp_path / "runs")
    assert code(caught) == "E0732"
    folder = RunFolder(tmp_path / "runs" / "r")
    with pytest.raises(FmlError) as caught:
        folder.append(POINTS)
    assert code(caught) == "E0732"


@pytest.mark.parametrize("missing", [".", "options.json", "figures.json"])
def test_what_is_no_finished_run_is_not_opened(tmp_path: Path, missing: str) -> None:
    folder = finished(tmp_path).path
    target = folder / missing
    target.rename(tmp_path / "elsewhere")
    with pytest.raises(FmlError) as caught:
        RunFolder.open(folder)
    assert code(caught) == "E0706"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("options.json", b"{"),
        ("options.json", b"{}"),
        ("options.json", b"[]"),
        ("figures.json", b'{"figures": 3}'),
        ("figures.json", b"\xff\xfe"),
        ("data.json", b'{"iris": {}}'),
        ("data.json", b"3"),
        ("metrics.csv", b"step,epoch\n1,2\n"),
        ("metrics.csv", b"step,epoch,samples,seconds,series,value\n1,2,3,4,a,b\n"),
        ("metrics.csv", b"step,epoch,samples,seconds,series,value\n1,2,3\n"),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 40),
        ("model.safetensors", None),
        ("source.fml", None),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = finished(tmp_path)
    (folder.path / name).unlink()
    if content is not None:
        (folder.path / name).write_bytes(content)
    reads = {
        "options.json": folder.origin, "source.fml": folder.origin, "figures.json": folder.ending,
        "data.json": lambda: folder.encodings(["iris"]), "metrics.csv": folder.points,
        "model.safetensors": folder.parameters,
    }  # fmt: skip
    with pytest.raises(FmlError) as caught:
        reads[name]()
    assert code(caught) == "E0707"
    assert name in caught.value.diagnostics[0].message


def test_json_files_are_json_for_everybody(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for path in finished(tmp_path).path.glob("*.json"):
        json.loads(path.read_text("utf-8"), parse_constant=refuse)
