"""`fml predict` reads what the run's own source reads, and training ends with a command for it."""

import csv
import gzip
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

import fml as package
from fml.engine.ir.graph import Graph
from fml.engine.ops.record import Array
from fml.engine.runtime import evaluate, measuring
from tests.api.test_cli import fml

TABLE = """
data d = {source} {{
  x: f32[2]   = [a, b] |> standardize
  y: label[2] = c
  split train 20, valid 10 by random(seed = 1)
}}
model net(x: f32[N, D]) -> f32[N, 2] = x |> dense(2)
"""
ARRAYS = """
data d = {source} {{
  x: f32[3, 4, 1] = {image} / 255
  y: label[2]     = label
}}
model net(x: f32[N, 3, 4, 1]) -> f32[N, 2] = x |> flatten |> dense(2)
"""
PLAN = """
train {
  net = net()
  feed x, y from d.train |> batch(10)
  minimize loss = cross_entropy(net(x), y)
  using sgd(0.5)
  stop after 30 epochs
}
"""
WAVES = """
data d = npy("d.npy") { x: f32[12] = array / 255 }
model net(x: f32[N, D]) -> f32[N] = x |> dense(1) |> sum(over = [-1])
train {
  net = net()
  feed x from d.train |> batch(10)
  minimize J = mean((net(x) - 1)^2)
  using sgd(0.1)
  stop after 2 epochs
}
"""
POEM = "abcdabcdabcdabcd" * 20
TEXT = """
data d = text("d.txt", window = 4) { x: label[4][4] = text; y: label[4][4] = next }
model net(x: label[4][N, W]) -> f32[N, W, 4] = x |> embedding(8) |> dense(4)
"""


def rows() -> dict[str, Array]:
    """Thirty samples of two classes that one number tells apart."""
    a = np.where(np.arange(30) % 2, 1.0, -1.0) + np.random.default_rng(0).normal(0, 0.1, 30)
    return {"a": a, "b": np.arange(30.0), "c": (a > 0).astype(np.int64)}


def images() -> dict[str, Array]:
    """Thirty images, dark ones and light ones."""
    noise = np.random.default_rng(0).integers(0, 50, (30, 3, 4), np.uint8)
    labels = (np.arange(30) % 2).astype(np.uint8)
    return {"image": noise + 200 * labels[:, None, None], "label": labels}


def write_csv(path: Path, columns: dict[str, Array]) -> None:
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx(path: Path, array: Array) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def write_files() -> None:
    """The same samples in files of every kind, and new ones without answers."""
    new = {name: column for name, column in rows().items() if name != "c"}
    for name, columns in {"d": rows(), "new": new}.items():
        for ending in (".csv", ".csv.gz"):
            write_csv(Path(name + ending), columns)
        parquet.write_table(pyarrow.table(columns), f"{name}.parquet")
        np.savez(f"{name}.npz", **columns)
    pixels, labels = images().values()
    np.savez("i.npz", **images())
    np.savez("i_new.npz", image=pixels)
    np.save("d.npy", pixels.reshape(30, 12))
    Path("idx").mkdir()
    for split, part in {"train": slice(20), "t10k": slice(20, 30)}.items():
        write_idx(Path(f"idx/{split}-images-idx3-ubyte.gz"), pixels[part])
        write_idx(Path(f"idx/{split}-labels-idx1-ubyte.gz"), labels[part])
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        for folder in (f"shades/{'light' if label else 'dark'}", "bare"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(f"{folder}/{number:02}.png")
    Path("d.txt").write_text(POEM)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


def train(text: str, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Train a program as the run `r`; returns the command that is named at the end."""
    Path("d.fml").write_text(text)
    ran = fml(capfd, "train", "d.fml", "--run", "r")
    assert ran.status == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("next:")]
    return line.split()[2:]


def predicted(capfd: pytest.CaptureFixture[str], data: str) -> list[dict[str, str]]:
    ran = fml(capfd, "predict", "r", data)
    assert ran.status == 0, ran.err
    return [*csv.DictReader(ran.out.splitlines())]


TABLES = ["d.csv", "d.csv.gz", "d.parquet", "d.npz"]


@pytest.mark.parametrize("path", TABLES)
def test_a_table_of_any_kind_is_predicted_from(
    path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = f'{path.split(".")[1]}("{path}")'
    assert train(TABLE.format(source=source) + PLAN, capfd) == [
        "predict", "runs/r", path, "-o", "predictions.csv"
    ]  # fmt: skip
    assert fml(capfd, "predict", "runs/r", path, "-o", "predictions.csv").status == 0
    for other in (*TABLES, *(name.replace("d.", "new.") for name in TABLES)):
        found = [row["prediction"] for row in predicted(capfd, other)]
        assert found == rows()["c"].astype(str).tolist(), other


@pytest.mark.parametrize(
    ("source", "data", "others"),
    [
        ('npz("i.npz")', "i.npz", {"i_new.npz": 0}),
        ('idx("idx")', "idx/t10k-images-idx3-ubyte.gz", {
            "idx": 0, "idx/train-images-idx3-ubyte.gz": 0, "i_new.npz": 0,
        }),
        ('images("shades")', "shades", {"bare": 0, "bare/20.png": 20, "i_new.npz": 0}),
    ],
)  # fmt: skip
def test_images_of_any_kind_are_predicted_from(
    source: str, data: str, others: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    command = train(ARRAYS.format(source=source, image="image") + PLAN, capfd)
    assert command == ["predict", "runs/r", data, "-o", "predictions.csv"]
    assert fml(capfd, *command).out.startswith("wrote ")
    names = ["dark", "light"] if "shades" in source else ["0", "1"]
    for path, first in others.items():
        for number, row in enumerate(predicted(capfd, path)):
            assert row["prediction"] == names[(first + number) % 2]


def test_files_of_classes_are_named_by_their_folders(capfd: pytest.CaptureFixture[str]) -> None:
    train(ARRAYS.format(source='images("shades")', image="image") + PLAN, capfd)
    for row in predicted(capfd, "shades"):
        assert row["file"].startswith(f"{row['prediction']}/")


def test_one_array_is_predicted_from(capfd: pytest.CaptureFixture[str]) -> None:
    assert train(WAVES, capfd)[2] == "d.npy"
    assert len(predicted(capfd, "d.npy")) == 30


def test_what_comes_next_in_a_text_is_predicted(capfd: pytest.CaptureFixture[str]) -> None:
    assert train(TEXT + PLAN.replace("30 epochs", "200 epochs"), capfd)[2] == "d.txt"
    # The classes are those of training, not those of the new text, and nothing follows its end.
    Path("new.txt").write_text("bcdabbdd")
    assert [row["prediction"] for row in predicted(capfd, "new.txt")] == ["cdab", "ccaa"]
    Path("new.txt").write_text("abcdabxd")
    ran = fml(capfd, "predict", "r", "new.txt")
    assert ran.status == 2
    assert "sample 1 of" in ran.err
    assert "`x`" in ran.err
    Path("new.txt").write_text("abc")
    assert "error[E0510]" in fml(capfd, "predict", "r", "new.txt").err


def test_samples_that_were_made_up_have_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    text = TABLE.format(source="blobs(samples = 30, classes = 2)") + PLAN
    command = train(text.replace("[a, b]", "[x1, x2]").replace("= c\n", "= label\n"), capfd)
    assert command == ["eval", "runs/r"]
    assert fml(capfd, *command).status == 0
    write_csv(Path("b.csv"), {"x1": np.zeros(3), "x2": np.ones(3)})
    assert len(predicted(capfd, "b.csv")) == 3


def test_arrays_from_python_may_come_from_files_later(capfd: pytest.CaptureFixture[str]) -> None:
    text = ARRAYS.format(source="given", image="image") + PLAN
    text = text.replace(" = image / 255", "").replace(" = label\n", "\n")
    pixels, labels = images().values()
    scaled = (pixels[..., None] / 255).astype(np.float32)
    run = package.loads(text).train(data={"d": {"x": scaled, "y": labels}}, run="r")
    np.savez("g.npz", x=scaled)
    assert run.predict("g.npz")["prediction"].tolist() == labels.tolist()
    assert [int(row["prediction"]) for row in predicted(capfd, "g.npz")] == labels.tolist()


@pytest.mark.parametrize(
    ("source", "path", "code", "said"),
    [
        ('csv("d.csv")', "absent.csv", "E0501", "does not exist"),
        ('csv("d.csv")', "idx", "E0503", "is a folder"),
        ('csv("d.csv")', "d.npy", "E0502", "its columns are array"),
        ('npz("d.npz")', "broken.npz", "E0510", "cannot be read as arrays of numpy"),
        ('parquet("d.parquet")', "broken.parquet", "E0510", "cannot be read as Parquet"),
        ('csv("d.csv")', "headless.csv", "E0513", "write the names of the columns above"),
    ],
)
def test_what_cannot_be_predicted_from_is_told(
    source: str, path: str, code: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    train(TABLE.format(source=source) + PLAN, capfd)
    for name in ("broken.npz", "broken.parquet"):
        Path(name).write_bytes(b"nothing of the kind")
    Path("headless.csv").write_text("1,2\n3,4\n")
    ran = fml(capfd, "predict", "r", path)
    assert (ran.status, ran.out) == (2, "")
    assert f"error[{code}]" in ran.err
    assert said in ran.err


def test_many_samples_go_through_in_pieces(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    train(ARRAYS.format(source='npz("i.npz")', image="image") + PLAN, capfd)
    whole = package.open_run("r").predict("i.npz")
    run, counts = package.open_run("r"), list[int]()
    section = evaluate.Section

    def counted(graph: Graph, sizes: Mapping[str, int], *others: Any) -> section:
        counts.append(sizes["N"])
        return section(graph, sizes, *others)

    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", 1000)
    monkeypatch.setattr(evaluate, "Section", counted)
    pieces = run.predict("i.npz")
    assert 1 <= counts[-1] < 30
    np.testing.assert_allclose(pieces["score_1"], whole["score_1"], rtol=1e-5)
    np.testing.assert_array_equal(pieces["prediction"], whole["prediction"])


@pytest.mark.parametrize("path", ["idx", "idx/train-labels-idx1-ubyte.gz", "d.csv"])
def test_what_are_no_images_is_told(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    train(ARRAYS.format(source='idx("idx")', image="image") + PLAN, capfd)
    for file in Path("idx").glob("*images*"):
        file.unlink()
    ran = fml(capfd, "predict", "r", path)
    assert ran.status == 2
    assert "error[E05" in ran.err
    assert "help:" in ran.err
