"""Arrays as numpy saves them: columns, splits by name, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

from fml.engine.ops.record import Array
from tests.sources.datasets import fault, fields_of, loaded, words

POINTS = np.arange(8.0, dtype=np.float32).reshape(4, 2)
KINDS = np.array([0, 1, 1, 0], np.uint8)
NPZ = 'data d = npz("d.npz") { x: f32[2] = point; y: label[2] = kind }'
NPY = 'data d = npy("d.npy") { x: f32[2] = array }'


def test_arrays_are_columns_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", point=POINTS, kind=KINDS, unused=POINTS[:, 0])
    train = fields_of(loaded(NPZ, base=tmp_path))
    assert train["x"].tolist() == POINTS.tolist()
    assert train["y"].tolist() == KINDS.tolist()


def test_text_in_arrays_is_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", point=POINTS, kind=np.array(["b", "a", "a", "b"]))
    data = loaded(NPZ, base=tmp_path)
    assert data.classes == {"y": ("a", "b")}
    assert data.splits["train"]["y"].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("name", ["{0}_{1}", "{1}_{0}", "{1}/{0}", "{0}.{1}", "{1}-{0}"])
def test_names_of_splits_in_all_arrays_make_splits(tmp_path: Path, name: str) -> None:
    parts = {"train": slice(0, 3), "test": slice(3, 4)}
    arrays = {
        name.format(column, split): array[part]
        for split, part in parts.items()
        for column, array in {"point": POINTS, "kind": KINDS}.items()
    }
    np.savez_compressed(tmp_path / "d.npz", **arrays)  # type: ignore[arg-type]
    splits = loaded(NPZ, base=tmp_path).splits
    found = {split: part["x"].tolist() for split, part in splits.items()}
    assert found == {"train": POINTS[:3].tolist(), "test": POINTS[3:].tolist()}
    cut = NPZ.replace("}", "; split train 2, valid 1 from train }")
    assert {s: len(p["x"]) for s, p in loaded(cut, base=tmp_path).splits.items()} == {
        "train": 2, "valid": 1, "test": 1,
    }  # fmt: skip


def test_splits_of_a_source_are_not_mixed(tmp_path: Path) -> None:
    """Samples to test on would end up in `train`, and nobody would see it."""
    np.savez(tmp_path / "d.npz", point_train=POINTS[:3], kind_train=KINDS[:3],
             point_test=POINTS[3:], kind_test=KINDS[3:])  # fmt: skip
    found = fault(NPZ.replace("}", "; split train 2, valid 1 }"), base=tmp_path)
    assert found.code == "E0506"
    assert "from train" in found.help
    assert any("train, test" in note for note in found.notes)


def test_single_numbers_of_arrays_are_put_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=POINTS[:, 0], b=POINTS[:, 1])
    text = 'data d = npz("d.npz") { x: f32[2] = [b, a] * 2; s: f32 = a + b }'
    train = loaded(text, base=tmp_path).splits["train"]
    assert train["x"].tolist() == (2 * POINTS[:, ::-1]).tolist()
    assert train["s"].tolist() == POINTS.sum(1).tolist()


@pytest.mark.parametrize(
    ("element", "values"),
    [("u8", np.arange(4, dtype=np.uint8)), ("i32", np.arange(4)), ("f64", POINTS[:, 0] + 0.1)],
)
def test_a_field_has_the_element_that_it_declares(
    tmp_path: Path, element: str, values: Array
) -> None:
    np.savez(tmp_path / "d.npz", a=values)
    train = fields_of(loaded(f'data d = npz("d.npz") {{ x: {element} = a }}', base=tmp_path))
    assert train["x"].tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "said"),
    [([1, 2, 300], "sample 2"), ([0.5, 2, 3], "`0.5`"), ([-1, 2, 3], "`-1`")],
)
def test_numbers_that_do_not_fit_an_element_are_reported(
    tmp_path: Path, values: list[float], said: str
) -> None:
    np.savez(tmp_path / "d.npz", a=np.array(values))
    found = fault('data d = npz("d.npz") { x: u8 = a }', base=tmp_path)
    assert found.code == "E0504"
    assert said in found.message


def save(path: Path, arrays: dict[str, object]) -> None:
    np.savez(path / "d.npz", **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "no arrays"),
        ({"point": POINTS, "kind": KINDS[:3]}, "`point` has 4, `kind` has 3"),
        ({"point": POINTS, "kind": np.uint8(1)}, "`kind` is a single value"),
        ({"point": POINTS * 1j, "kind": KINDS}, "complex64"),
        ({"point": POINTS[:0], "kind": KINDS[:0]}, "no samples"),
        ({"point": POINTS, "kind": np.array([{}, 1, 2, 3], object)}, "Python objects"),
        ({"point_train": POINTS, "kind_train": KINDS, "kind_test": KINDS}, "`test` has none"),
        (
            {"point_train": POINTS, "point_test": POINTS[:, :1]},
            "[1] in `test`, and [2] in `train`",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_named(
    tmp_path: Path, arrays: dict[str, object], said: str
) -> None:
    save(tmp_path, arrays)
    found = fault(NPZ, base=tmp_path)
    assert found.code == "E0510"
    assert said in words(found), words(found)


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 torn", b"a,b\n1,2\n", b"\x93NUMPY\x01\0"])
def test_files_of_another_kind_are_reported(tmp_path: Path, raw: bytes) -> None:
    for ending, text in {"npz": NPZ, "npy": NPY}.items():
        (tmp_path / f"d.{ending}").write_bytes(raw)
        found = fault(text, base=tmp_path)
        assert found.code == "E0510"
        assert str(tmp_path / f"d.{ending}") in found.message


def test_the_two_kinds_of_files_are_told_apart(tmp_path: Path) -> None:
    with (tmp_path / "d.npy").open("wb") as file:
        np.savez(file, point=POINTS)
    assert "`npz` reads them" in words(fault(NPY, base=tmp_path))
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, POINTS)
    assert "`npy` reads it" in words(fault(NPZ, base=tmp_path))


def test_columns_of_a_structured_array(tmp_path: Path) -> None:
    rows = np.array([(1.5, 0), (2.5, 1)], [("a", "f4"), ("kind", "u1")])
    np.save(tmp_path / "d.npy", rows)
    text = 'data d = npy("d.npy") { x: f32 = a; y: label[2] = kind }'
    train = fields_of(loaded(text, base=tmp_path))
    assert (train["x"].tolist(), train["y"].tolist()) == ([1.5, 2.5], [0, 1])


def test_labels_may_be_arrays_of_words(tmp_path: Path) -> None:
    words_ = np.array([["b", "a"], ["c", "b"]])
    np.savez(tmp_path / "d.npz", w=words_)
    data = loaded('data d = npz("d.npz") { y: label[3][2] = w }', base=tmp_path)
    assert data.splits["train"]["y"].tolist() == [[1, 0], [2, 1]]
    np.savez(tmp_path / "d.npz", w=np.array([["b", "a"], ["c", ""]]))
    found = fault('data d = npz("d.npz") { y: label[3][2] = w }', base=tmp_path)
    assert "sample 1 of" in found.message


@pytest.mark.parametrize(
    ("label", "code", "said"),
    [
        (np.eye(3)[[0, 1, 2]], "E0511", "`argmax(1)`"),
        (np.array([b"a", b"b", b"c"]), "E0510", "`label.astype(str)`"),
        (np.zeros((3, 4)), "E0511", "as they are in the data: [4]"),
        (np.arange(2), "E0510", "arrays of samples alone"),
        (np.array(3), "E0510", "arrays of samples alone"),
    ],
)
def test_labels_as_others_save_them_are_told(
    tmp_path: Path, label: Array, code: str, said: str
) -> None:
    np.savez(tmp_path / "d.npz", image=np.zeros((3, 2)), label=label)
    found = fault('data d = npz("d.npz") { x: f32[2] = image; y: label[3] = label }', base=tmp_path)
    assert found.code == code
    assert said in found.help
    assert found.marks


def test_a_column_of_labels_is_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.zeros((3, 2)), label=np.array([[0], [2], [1]]))
    data = loaded('data d = npz("d.npz") { x: f32[2] = image; y: label[3] = label }', base=tmp_path)
    assert fields_of(data)["y"].tolist() == [0, 2, 1]


def test_a_word_within_an_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.array([["1", "2"], ["3", "x"]]))
    found = fault('data d = npz("d.npz") { x: f32[2] = image }', base=tmp_path)
    assert "sample 1 of" in found.message
    assert "has `x` in `image`" in found.message
