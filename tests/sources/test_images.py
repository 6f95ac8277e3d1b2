"""Folders of images: what is read, in which order, and what is said about other folders."""

import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fml.engine.ops.record import Array
from fml.engine.sources.images import read_images, read_new
from tests.sources.datasets import fault, fields_of, loaded, words

TEXT = """
data d = images("leaves") {
  x: u8[2, 3, 3] = image
  y: label[2]    = label
}"""
GREY = TEXT.replace("u8[2, 3, 3]", "u8[2, 3, 1]")


def pixels(number: int, channels: int = 3) -> Array:
    """An image of 2x3 that only this number has."""
    return (np.arange(6 * channels) + number).astype(np.uint8).reshape(2, 3, channels)


def write(file: Path, array: Array) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file)


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Two classes, written in no order."""
    folder = tmp_path / "leaves"
    for name, number in {"oak/2": 3, "ash/b": 1, "oak/10": 2, "ash/B": 0}.items():
        write(folder / f"{name}.png", pixels(number))
    return folder


def test_samples_are_in_the_order_of_the_names_of_classes_and_files(leaves: Path) -> None:
    data = loaded(TEXT, base=leaves.parent)
    train = fields_of(data)
    assert train["x"].dtype == np.uint8
    assert train["x"].tolist() == [pixels(number).tolist() for number in range(4)]
    assert train["y"].tolist() == [0, 0, 1, 1]
    assert data.classes == {"y": ("ash", "oak")}


def test_the_order_is_not_that_of_the_disk(leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: sorted(as_it_is(folder), reverse=True))
    train = fields_of(loaded(TEXT, base=leaves.parent))
    assert train["x"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_grey_images_have_one_channel_and_fill_flat_fields(tmp_path: Path) -> None:
    for kind, number in {"ash": 0, "oak": 9}.items():
        write(tmp_path / "leaves" / kind / "1.PNG", pixels(number, 1))
    assert fields_of(loaded(GREY, base=tmp_path))["x"][1].tolist() == pixels(9, 1).tolist()
    flat = GREY.replace("u8[2, 3, 1]", "f32[6]").replace("= image\n", "= image / 2\n")
    assert fields_of(loaded(flat, base=tmp_path))["x"][1].tolist() == [4.5, 5, 5.5, 6, 6.5, 7]


def test_jpeg_files_are_read(tmp_path: Path) -> None:
    even = np.full((2, 3, 3), (200, 100, 50), np.uint8)
    for name in ("ash/1.jpg", "oak/1.JPEG"):
        write(tmp_path / "leaves" / name, even)
    found = fields_of(loaded(TEXT, base=tmp_path))["x"].astype(int)
    assert np.abs(found - even).max() <= 3  # a colour that is even survives JPEG, but for rounding


def test_folders_that_are_all_called_as_splits_are_splits(tmp_path: Path) -> None:
    names = ["train/oak/1", "train/ash/1", "train/oak/2", "valid/oak/1", "test/ash/1"]
    for number, name in enumerate(sorted(names)):
        write(tmp_path / "leaves" / f"{name}.png", pixels(number))
    data = loaded(TEXT, base=tmp_path)
    parts = {split: fields_of(data, split) for split in data.splits}
    labels = {split: part["y"].tolist() for split, part in parts.items()}
    assert labels == {"test": [0], "train": [0, 1, 1], "valid": [1]}
    numbers = {split: part["x"][:, 0, 0, 0].tolist() for split, part in parts.items()}
    assert numbers == {"test": [0], "train": [1, 2, 3], "valid": [4]}
    cut = TEXT.replace("\n}", "\n  split train 2, check 1 from train by random(seed = 1)\n}")
    data = loaded(cut, base=tmp_path)
    counts = {split: len(fields_of(data, split)["y"]) for split in data.splits}
    assert counts == {"train": 2, "check": 1, "valid": 1, "test": 1}


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    for name in ("train", "tram"):
        write(tmp_path / "leaves" / name / "1.png", pixels(0))
    data = loaded(TEXT, base=tmp_path)
    assert data.classes == {"y": ("train", "tram")}
    assert [*data.splits] == ["train"]


def test_what_is_hidden_does_not_count(leaves: Path) -> None:
    (leaves / ".cache").mkdir()
    (leaves / "LICENCE").write_text("free")
    (leaves / "ash" / ".DS_Store").write_bytes(b"\0")
    assert len(fields_of(loaded(TEXT, base=leaves.parent))["x"]) == 4


def test_images_are_in_memory_once_as_bytes(tmp_path: Path) -> None:
    side, count = 256, 24
    for number in range(count):
        name = f"{'ash' if number % 2 else 'oak'}/{number}.png"
        write(tmp_path / "leaves" / name, np.full((side, side, 3), number, np.uint8))
    text = TEXT.replace("u8[2, 3, 3] = image", f"f32[{side}, {side}, 3] = image / 255")
    read_images({"path": "leaves"}, tmp_path)  # what Pillow makes once and keeps
    tracemalloc.start()
    table = read_images({"path": "leaves"}, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    nbytes = side * side * 3 * count
    assert table.columns["image"].nbytes == nbytes
    assert peak < 1.5 * nbytes
    held = loaded(text, base=tmp_path).splits["train"]
    assert sum(part[:].nbytes for part in held.values()) <= nbytes + 4 * count


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("oak/2.png", np.zeros((3, 2, 3), np.uint8), "3x2x3, and 2x3x3"),
        ("oak/2.png", np.zeros((2, 3, 1), np.uint8), "2x3x1, and 2x3x3"),
    ],
)
def test_an_image_of_another_size_is_named_with_the_way_out(
    leaves: Path, name: str, array: Array, said: str
) -> None:
    write(leaves / name, array)
    found = fault(TEXT, base=leaves.parent)
    assert found.code == "E0511"
    assert str(leaves / name) in found.message
    assert said in found.message
    # The remedy is a line that works.
    exec(found.help.partition(": ")[2], {"Image": Image, "file": leaves / name})
    assert len(fields_of(loaded(TEXT, base=leaves.parent))["x"]) == 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "I;16"])
def test_an_image_of_another_mode_is_named_with_the_way_out(leaves: Path, mode: str) -> None:
    file = leaves / "oak" / "2.png"
    Image.new(mode, (3, 2)).save(file)
    found = fault(TEXT, base=leaves.parent)
    assert found.code == "E0510"
    assert str(file) in found.message
    assert f"mode is {mode};" in words(found)
    exec(found.help.partition(": ")[2].partition(",")[0], {"Image": Image, "file": file})
    assert len(fields_of(loaded(TEXT, base=leaves.parent))["x"]) == 4


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("f32[2, 3, 1]", "is 2x3x3, and 2x3x1"),
        ("f32[3, 2, 3]", "is 2x3x3, and 3x2x3"),
        ("f32[3, 3, 2]", "is 2x3x3, and 3x3x2"),  # as many entries, in other places
    ],
)
def test_a_field_of_other_sizes_is_no_image(leaves: Path, sizes: str, said: str) -> None:
    found = fault(TEXT.replace("u8[2, 3, 3]", sizes), base=leaves.parent)
    assert found.code == "E0511"
    assert said in found.message


def test_other_numbers_of_classes_are_listed(leaves: Path) -> None:
    found = fault(TEXT.replace("label[2]", "label[3]"), base=leaves.parent)
    assert found.code == "E0508"
    assert "ash, oak" in words(found)


@pytest.mark.parametrize(
    ("made", "content", "said"),
    [
        ("leaves/oak/2.png", b"", "neither PNG nor JPEG"),
        ("leaves/oak/2.png", b"GIF89a" + bytes(20), "neither PNG nor JPEG"),
        ("leaves/oak/2.png", b"half", "truncated"),
        ("leaves/oak/notes.txt", b"", "notes.txt is no file .png, .jpg, .jpeg"),
        ("leaves/oak/more/1.png", b"", "more is a folder"),
        ("leaves/elm/.keep", b"", "there are no images in it"),
        ("leaves/1.png", b"", "1.png is in no folder of a class"),
        ("leaves/oak/\udcff.png", b"", "'\\udcff.png' is not UTF-8"),
    ],
)
def test_what_is_no_image_in_a_folder_of_a_class_is_named(
    leaves: Path, made: str, content: bytes, said: str
) -> None:
    file = leaves.parent / made
    if content == b"half":
        whole = leaves / "whole.png"
        write(whole, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        content = whole.read_bytes()[:4000]
        whole.unlink()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    found = fault(TEXT, base=leaves.parent)
    assert found.code == "E0510"
    assert said in words(found), words(found)
    assert found.help


def test_pillow_is_held_to_what_it_finds_too_large(
    leaves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    found = fault(TEXT, base=leaves.parent)
    assert found.code == "E0510"
    assert "6 pixels" in words(found)


def test_a_file_or_a_folder_that_may_not_be_read_is_named(
    leaves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Refused here, as whoever runs the tests may be permitted everything.
    def refused(file: Path, *_: object) -> None:
        raise PermissionError(13, os.strerror(13), str(file))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        found = fault(TEXT, base=leaves.parent)
    assert (found.code, found.notes) == ("E0510", ("Permission denied",))
    assert str(leaves / "ash" / "B.png") in found.message
    assert "chmod" in found.help
    monkeypatch.setattr(Path, "iterdir", refused)
    found = fault(TEXT, base=leaves.parent)
    assert (found.code, found.notes) == ("E0510", ("Permission denied",))
    assert str(leaves) in found.message


def test_empty_folders_and_files_say_what_there_must_be(tmp_path: Path) -> None:
    leaves = tmp_path / "leaves"
    leaves.mkdir()
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0510"
    assert "a folder for each class" in found.help
    (leaves / "train").mkdir()
    assert str(leaves / "train") in fault(TEXT, base=tmp_path).message
    (leaves / "train").rmdir()
    leaves.rmdir()
    assert fault(TEXT, base=tmp_path).code == "E0501"
    leaves.write_bytes(b"")
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0501"
    assert "is a file" in found.message


def test_without_pillow_the_remedy_is_to_install_it(
    leaves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    found = fault(TEXT, base=leaves.parent)
    assert found.code == "E0512"
    assert found.help == "pip install 'fml-lang[images]'"


def test_faults_of_a_field_name_the_file(leaves: Path) -> None:
    text = TEXT.replace("u8[2, 3, 3] = image", "f32[2, 3, 3] = 1 / image")
    found = fault(text, base=leaves.parent)
    assert found.code == "E0509"
    assert f"ash/B.png of {leaves}" in found.message


def test_new_images_are_a_folder_or_a_file(leaves: Path) -> None:
    table = read_new({"path": "oak"}, leaves)
    assert (table.files, table.columns["image"].shape) == (["10.png", "2.png"], (2, 2, 3, 3))
    one = read_new({"path": "oak/2.png"}, leaves)
    assert one.columns["image"][0].tolist() == pixels(3).tolist()
    assert "ash/B.png" in read_new({"path": leaves.name}, leaves.parent).files
