"""Data stay as they came: fields of bytes and of mapped files are computed batch by batch."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fml.dsl.program import check, lower
from fml.engine.ir.source import Source
from fml.engine.ir.training import Duration, StopAfter, Unit
from fml.engine.runtime import measuring
from fml.engine.runtime.feeding import Batches, Selection
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.sources.bind import bind
from fml.engine.sources.load import load
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import example
from tests.sources.datasets import fault, fields_of, loaded, words

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (60, 4, 4), np.uint8)
LABELS = RANDOM.integers(0, 3, 60).astype(np.uint8)
PLAN = """
model net(x: f32[N, H, W, 1]) -> f32[N, 3] = x |> flatten |> dense(8) |> relu |> dense(3)
train {
  net = net()
  feed x, y from d.train |> shuffle |> batch(7)
  minimize loss = cross_entropy(net(x), y)
  using adam(0.01)
  measure accuracy(net(x), y) on d.valid
  stop after 3 epochs
}
"""
BYTES = """
data d = npz("d.npz") {
  x: f32[4, 4, 1] = image / 255 |> standardize
  y: label[3] = label
  split train 40, valid 20 by random(seed = 2)
}
"""
FLOATS = BYTES.replace("image", "floats")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    floats = IMAGES.astype(np.float32)
    np.savez(tmp_path / "d.npz", image=IMAGES, label=LABELS, floats=floats)
    np.save(tmp_path / "d.npy", floats)
    return tmp_path


def outcome(text: str, base: Path) -> Outcome:
    training = lower(check(Source("t.fml", text + PLAN), base), None, {})
    data = {name: load(dataset, None, base) for name, dataset in training.datasets.items()}
    return train(*bind(training, data), current_backend())


@on_each_backend
def test_bytes_train_to_the_bits_of_floats(folder: Path) -> None:
    late, once = outcome(BYTES, folder), outcome(FLOATS, folder)
    assert loaded(BYTES, base=folder).late is not None
    floats = loaded(FLOATS, base=folder).late
    assert floats is not None
    assert floats.outputs.keys() == {"y"}
    assert late.variables.keys() == once.variables.keys()
    for name, value in once.variables.items():
        assert late.variables[name].tobytes() == value.tobytes(), name
    assert [p.value for p in late.history] == [p.value for p in once.history]
    assert late.figures == once.figures


def test_batches_are_bytes_until_a_node_converts_them(folder: Path) -> None:
    training = lower(check(Source("t.fml", BYTES + PLAN), folder), None, {})
    data = {name: load(dataset, None, folder) for name, dataset in training.datasets.items()}
    bound, splits = bind(training, data)
    batches = Batches(bound.feeds[0], splits["d"]["train"], 0)
    rows = batches.rows(3, 1)[0]
    assert {samples[rows].dtype for samples in batches.fields.values()} == {np.dtype(np.uint8)}
    fed = {str(node.type) for node in bound.step.of_op("feed")}
    assert fed == {"u8[N, 4, 4, 1]", "label[3][N]"}
    assert {node.type.dtype.name for node in bound.step.of_op("cast")} == {"float32"}


def test_statistics_of_bytes_are_exact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", 1000)  # a few samples at a time
    data = loaded(BYTES, base=folder)
    held = data.splits["train"]
    rows = next(values.rows for values in held.values() if isinstance(values, Selection))
    exact = (IMAGES[rows] / np.float32(255)).astype(np.float64)[..., None]
    mean, std = (data.statistics[f"d.standardize_0.{figure}"] for figure in ("mean", "std"))
    np.testing.assert_array_equal(mean, exact.mean(0).astype(np.float32))
    np.testing.assert_array_equal(std, exact.std(0).astype(np.float32))
    train_part = fields_of(data)["x"]
    assert train_part == pytest.approx((exact - exact.mean(0)) / exact.std(0), abs=1e-5)


def test_a_file_that_is_mapped_stays_on_disk(folder: Path) -> None:
    text = 'data d = npy("d.npy") { x: f32[4, 4] = array; split train 50, valid 10 }'
    data = loaded(text, base=folder)
    (held,) = data.splits["valid"].values()
    assert isinstance(held, Selection)
    assert isinstance(held.array, np.memmap)
    assert (fields_of(data, "valid")["x"] == IMAGES[50:]).all()


def test_memory_grows_by_the_bytes_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", 1 << 18)
    faces = tmp_path / "faces"
    faces.mkdir()
    head = bytes([0, 0, 8, 3, 0, 0, 39, 16, 0, 0, 0, 28, 0, 0, 0, 28])
    (faces / "train-images-idx3-ubyte").write_bytes(head + bytes(7_840_000))
    (faces / "train-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1, 0, 0, 39, 16]) + bytes(10_000)
    )
    fields = "x: f32[28, 28, 1] = image / 255; split train 90%, valid 10% from train"
    text = f'data d = idx("faces") {{ {fields} }}'
    tracemalloc.start()
    data = loaded(text, base=tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.late is not None
    assert peak < 1.5 * 7_840_000


@pytest.mark.parametrize(
    ("value", "expression", "code", "said"),
    [
        (np.nan, "a", "E0504", "sample 41"),
        (np.inf, "a", "E0504", "sample 41"),
        (-1.0, "log(a)", "E0509", "sample 41"),
    ],
)
def test_faults_in_files_that_are_mapped_name_their_sample(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    expression: str,
    code: str,
    said: str,
) -> None:
    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", 64)
    values = np.ones(60, np.float32)
    values[41] = value
    np.save(tmp_path / "d.npy", values)
    expression = expression.replace("a", "array")
    found = fault(f'data d = npy("d.npy") {{ x: f32 = {expression} }}', base=tmp_path)
    assert found.code == code
    assert said in words(found)


def test_the_example_of_images_takes_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    count = (5_100).to_bytes(4, "big")
    images, side = np.tile(RANDOM.integers(0, 256, 784, np.uint8), 5_100), bytes([0, 0, 0, 28])
    labels = np.arange(5_100, dtype=np.uint8) % 10
    images_file, labels_file = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    (folder / images_file).write_bytes(bytes([0, 0, 8, 3]) + count + 2 * side + images.tobytes())
    (folder / labels_file).write_bytes(bytes([0, 0, 8, 1]) + count + labels.tobytes())
    monkeypatch.setenv("FML_DATA", str(tmp_path))
    training = example("lenet_fashion.fml", samples=100, b=5)
    loaded = {"fashion": load(training.datasets["fashion"], None, tmp_path)}
    bound, splits = bind(training, loaded)
    assert {name: len(next(iter(p.values()))) for name, p in splits["fashion"].items()} == {
        "train": 100, "valid": 5_000,
    }  # fmt: skip
    bound = replace(bound, measures=(), stops=(StopAfter(Duration(1, Unit.STEPS)),), keep=None)
    ended = train(bound, splits, current_backend())
    assert ended.failure is None
    assert all(np.isfinite(value).all() for value in ended.variables.values())
