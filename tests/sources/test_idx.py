"""IDX folders: what is read, where it is looked for, and what is said about other files."""

import gzip
import platform
import struct
from pathlib import Path

import numpy as np
import pytest

from fml.engine.ops.record import Array
from fml.engine.sources.idx import read_idx
from fml.engine.sources.table import Table
from tests.sources.datasets import fault, loaded, words

TRAIN, TEST = np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.full((2, 2, 3), 200, np.uint8)
TEXT = """
data d = idx("faces") {
  x: f32[2, 3, 1] = image / 10
  y: label[3]     = label
}"""


def content(array: Array) -> bytes:
    """An array as IDX, written by the format's description alone."""
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    head = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim])
    return (
        head
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def folder(path: Path, ending: str = "", dash: str = "-") -> Path:
    faces = path / "faces"
    faces.mkdir(parents=True)
    labels = {"train": np.array([0, 2, 1, 2], np.uint8), "t10k": np.array([1, 1], np.uint8)}
    for prefix, images in {"train": TRAIN, "t10k": TEST}.items():
        for kind, array in {
            f"images{dash}idx3": images,
            f"labels{dash}idx1": labels[prefix],
        }.items():
            raw = content(array)
            packed = gzip.compress(raw, mtime=0) if ending else raw
            (faces / f"{prefix}-{kind}-ubyte{ending}").write_bytes(packed)
    return faces


def table(path: Path) -> Table:
    return read_idx({"path": "faces"}, path)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_images_and_labels_are_the_bytes_of_the_files(
    tmp_path: Path, ending: str, dash: str
) -> None:
    folder(tmp_path, ending, dash)
    found = table(tmp_path)
    assert [*found.columns] == ["image", "label"]
    assert found.columns["image"].dtype == np.uint8
    assert (found.columns["image"] == np.concatenate([TRAIN, TEST])).all()
    assert {name: rows.tolist() for name, rows in found.splits.items()} == {
        "train": [0, 1, 2, 3], "test": [4, 5],
    }  # fmt: skip


def test_a_folder_without_test_files_has_one_split(tmp_path: Path) -> None:
    for file in folder(tmp_path).glob("t10k*"):
        file.unlink()
    assert [*table(tmp_path).splits] == ["train"]


@pytest.mark.parametrize("element", ["i1", "i2", "i4", "f4", "f8"])
def test_all_elements_of_the_format_are_read(tmp_path: Path, element: str) -> None:
    images = (TRAIN.astype(np.float64) - 12).astype(element)
    faces = folder(tmp_path)
    for file in faces.glob("t10k*"):
        file.unlink()
    (faces / "train-images-idx3-ubyte").write_bytes(content(images))
    found = table(tmp_path).columns["image"]
    assert found.dtype == np.dtype(element)
    assert (found == images).all()


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("train-images-idx3-ubyte", b"", "begins with nothing"),
        ("train-images-idx3-ubyte", b"\x89PNG", "89 50 4e 47"),
        ("train-images-idx3-ubyte", b"\0\0\x07\x01" + bytes(8), "begins with"),
        ("train-images-idx3-ubyte", content(TRAIN)[:9], "within its sizes"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + bytes([255] * 12), "which it cannot hold"),
        ("train-images-idx3-ubyte", content(TRAIN)[:-1], "promise 24 bytes, and 23"),
        ("t10k-images-idx3-ubyte", content(TEST) + b"!", "more bytes follow the 12"),
        ("t10k-images-idx3-ubyte", content(TEST[:, :1]), "1x3 entries of uint8"),
        ("t10k-images-idx3-ubyte", content(TEST.astype("f4")), "float32"),
        ("t10k-images-idx3-ubyte", content(TEST[:1]), "1 images, its labels are 2"),
        (
            "train-labels-idx1-ubyte",
            gzip.compress(content(TRAIN[0, 0]), mtime=0)[:-6],
            "end-of-stream",
        ),
        ("train-labels-idx1-ubyte", b"\x1f\x8b\x08\0 no gzip", "cannot be read as IDX"),
    ],
)
def test_files_that_are_not_so_are_named_with_the_reason(
    tmp_path: Path, name: str, raw: bytes, said: str
) -> None:
    file = folder(tmp_path) / name
    file.write_bytes(raw)
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0510"
    assert str(file) in found.message
    assert said in words(found), words(found)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (folder(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0501"
    assert "t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz" in found.message


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "faces").write_bytes(b"")
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0501"
    assert "is a file" in found.message


@pytest.mark.parametrize(
    ("release", "remedy"),
    [
        ({"ID": "debian"}, "apt install dataset-fashion-mnist"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt install dataset-fashion-mnist"),
        ({"ID": "fedora"}, "https://github.com/zalandoresearch/fashion-mnist"),
        (None, "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images"),
    ],
)
def test_missing_files_come_with_the_remedy_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: dict[str, str] | None, remedy: str
) -> None:
    def described() -> dict[str, str]:
        if release is None:
            raise OSError("no such file")
        return release

    monkeypatch.setattr(platform, "freedesktop_os_release", described)
    monkeypatch.setenv("FML_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    found = fault(TEXT.replace("faces", "fashion-mnist"), base=tmp_path)
    assert found.code == "E0501"
    assert remedy in found.help


def test_a_folder_of_another_name_has_no_remedy_but_its_place(tmp_path: Path) -> None:
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0501"
    assert "apt" not in words(found)
    assert str(tmp_path / "faces") in words(found)


def test_images_fill_fields_of_as_many_entries(tmp_path: Path) -> None:
    folder(tmp_path)
    flat = TEXT.replace("f32[2, 3, 1]", "f32[6]")
    wrong = TEXT.replace("f32[2, 3, 1]", "f32[5]")
    assert loaded(flat, base=tmp_path).splits.keys() == {"train", "test"}
    found = fault(wrong, base=tmp_path)
    assert found.code == "E0511"
    assert "is 2x3, and 5 is needed" in found.message
