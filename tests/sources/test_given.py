"""Arrays handed over from Python: what is taken, and what is said about those that do not fit."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.sources.datasets import fault, fields_of, loaded, words

TEXT = "data points = given { x: f32[2]; y: label[3] }"
X = np.arange(8.0).reshape(4, 2)
Y = np.array([0, 2, 1, 2])


def test_arrays_are_the_training_samples() -> None:
    data = loaded(TEXT, {"x": X, "y": Y})
    assert data.splits.keys() == {"train"}
    train = data.splits["train"]
    assert (train["x"].dtype, train["y"].dtype) == (np.float32, np.int32)
    assert train["x"].tolist() == X.tolist()
    assert train["y"].tolist() == Y.tolist()


def test_splits_from_python_stay_apart() -> None:
    given = {"train": {"x": X, "y": Y}, "test": {"x": X[:1] + 10, "y": Y[1:2]}}
    splits = loaded(TEXT, given).splits
    assert splits["train"]["x"].tolist() == X.tolist()
    assert splits["test"]["x"].tolist() == [[10, 11]]
    assert splits["test"]["y"].tolist() == [2]


def test_one_of_the_splits_may_be_cut() -> None:
    text = "data d = given { x: f32; split train 3, valid 1 from train }"
    splits = loaded(text, {"train": {"x": [1, 2, 3, 4]}, "test": {"x": [9]}}).splits
    assert {name: part["x"].tolist() for name, part in splits.items()} == {
        "train": [1, 2, 3], "valid": [4], "test": [9],
    }  # fmt: skip


@pytest.mark.parametrize("texts", [["b", "a", "c", "a"], np.array(["b", "a", "c", "a"], object)])
def test_text_labels_are_numbered_in_sorted_order(texts: object) -> None:
    data = loaded(TEXT, {"x": X, "y": texts})
    assert data.classes == {"y": ("a", "b", "c")}
    assert data.splits["train"]["y"].tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ("u8", [0, 255]),
        ("i32", [-5, 7]),
        ("i64", [-(2**40), 2**40]),
        ("bool", [True, False]),
        ("f64", [0.1, 1e300]),
        ("f32", [True, False]),
    ],
)
def test_elements_are_those_of_the_field(element: str, values: list[float]) -> None:
    train = fields_of(loaded(f"data d = given {{ x: {element} }}", {"x": values}))
    assert train["x"].tolist() == values


class Sparse:
    """Stands for a sparse matrix, which numpy makes no array of."""

    def toarray(self) -> object:
        return X


class Frame:
    """A table as pandas has it: columns by name, an array as a whole, and no mapping."""

    def __init__(self, **columns: object) -> None:
        self.columns = columns

    def keys(self) -> list[str]:
        return [*self.columns]

    def __getitem__(self, name: str) -> object:
        return self.columns[name]

    def __array__(self, *_: object, **__: object) -> object:
        return np.stack([*self.columns.values()], axis=1)  # pyright: ignore


def test_a_data_frame_is_the_fields_or_the_array_of_one() -> None:
    columns = Frame(a=X[:, 0], b=X[:, 1])
    of_one = loaded(TEXT, {"x": columns, "y": Y})
    assert of_one.splits["train"]["x"].tolist() == X.tolist()
    table = Frame(x=X, y=Y)
    for given in (table, {"train": table, "valid": table}):
        assert loaded(TEXT, given).splits["train"]["x"].tolist() == X.tolist()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, ["there are none", 'data={"points": {"x": ..., "y": ...}}']),
        ({}, ["there are none"]),
        ([1, 2], ["found a list", 'data={"points": {"x": ..., "y": ...}}']),
        (X, ["found an array [4, 2] of float64"]),
        ({"train": {"x": X, "y": Y}, "x": X}, ["the field `x`", "beside the splits `train`"]),
        ({"train": {"x": X, "y": Y}, "test": X}, ["the split `test`", "no dict of its fields"]),
        ({"x": X, "z": Y}, ["no field `z`", "its fields are x, y"]),
        ({"x": X, "yy": Y}, ["did you mean `y`"]),
        ({"x": X}, ["needs an array for its field `y`"]),
        ({"train": {"x": X, "y": Y}, "valid": {"x": X}}, ["field `y` of `valid`"]),
        ({"x": X, "y": Y[:3]}, ["differ in length", "`x` has 4", "`y` has 3"]),
        ({"x": X.T, "y": Y}, ["`x`", "[2, 4] instead of [samples, 2]", "`x.T`"]),
        ({"x": X[0], "y": Y}, ["[2] instead of [samples, 2]", "`x[None]`"]),
        ({"x": X, "y": Y[:, None]}, ["`y`", "[4, 1] instead of [samples]", "`y[:, 0]`"]),
        ({"x": X, "y": np.eye(3)[Y]}, ["[4, 3] instead of [samples]", "`y.argmax(1)`"]),
        ({"x": 3.0, "y": Y}, ["[] instead of [samples, 2]"]),
        ({"x": X[:0], "y": Y[:0]}, ["no samples"]),
        ({"x": [[1, 2], [3]], "y": [0, 1]}, ["rows differ in length"]),
        ({"x": (row for row in X), "y": Y}, ["it is a generator", "`list(x)`"]),
        ({"x": None, "y": Y}, ["it is None"]),
        ({"x": Sparse(), "y": Y}, ["it is a Sparse", "`x.toarray()`"]),
        ({"x": X + 1j, "y": Y}, ["complex128"]),
        ({"x": np.full((4, 2), "1"), "y": Y}, ["`x`", "text", "`x.astype(float)`"]),
        ({"x": X.astype(object), "y": Y}, ["`x`", "objects", "`x.astype(float)`"]),
        ({"x": X, "y": [0, "a", None, 1]}, ["`y`", "objects"]),
        ({"x": np.where(X == 3, np.nan, X), "y": Y}, ["1 entry is NaN", "first of them at [1, 1]"]),
        ({"x": X * 1e300, "y": Y}, ["too large for f32"]),
        ({"x": X, "y": Y.astype(float)}, ["float64", "`y.astype(int)`"]),
        ({"x": X, "y": Y + 0.5}, ["whole numbers, found 0.5", "`y: f32`"]),
        ({"x": X, "y": np.where(Y == 2, np.nan, Y)}, ["NaN", "leave those samples out"]),
        ({"x": X, "y": Y + 1}, ["classes are 0 to 2, found 1 to 3"]),
        ({"x": X, "y": Y - 1}, ["classes are 0 to 2, found -1 to 1"]),
    ],
)
def test_what_does_not_fit_is_named(given: object, said: list[str]) -> None:
    found = fault(TEXT, given)
    assert found.code == "E0505"
    assert all(part in words(found) for part in said), words(found)


@pytest.mark.parametrize(
    ("element", "values", "said"),
    [
        ("u8", [0, 256], "u8 is 0 to 255, found 0 to 256"),
        ("u8", [-1, 0], "found -1 to 0"),
        ("i32", [0.0, 1.0], "`x.astype(int)`"),
        ("bool", [0, 1], "`x != 0`"),
    ],
)
def test_nothing_is_lost_silently(element: str, values: list[float], said: str) -> None:
    found = fault(f"data d = given {{ x: {element} }}", {"x": values})
    assert found.code == "E0505"
    assert said in words(found)


def test_samples_are_not_split_twice() -> None:
    text = "data d = given { x: f32; split train 50%, valid 50% }"
    given: Mapping[str, object] = {"train": {"x": [1.0]}, "test": {"x": [2.0]}}
    assert "split twice" in words(fault(text, given))
