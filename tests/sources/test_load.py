"""Fields: statistics of the training samples alone, labels, and the same for new samples."""

from pathlib import Path

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ops.record import Array
from fml.engine.sources.load import transform
from fml.engine.sources.table import Table
from tests.sources.datasets import EXAMPLES, dataset, fault, loaded, words

IRIS = """
data iris = csv("data/iris.csv") {
  x: f32[2]   = [petal_length, sepal_width] |> standardize
  y: label[3] = species
  split train 40%, valid 60% by random(seed = 3)
}"""


def iris() -> tuple[Array, Array]:
    """The columns of `IRIS`, read independently."""
    path = EXAMPLES / "data" / "iris.csv"
    numbers = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(2, 1))
    names = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=4, dtype=str)
    return numbers, names


def test_standardize_takes_its_figures_from_the_training_samples_alone() -> None:
    data = loaded(IRIS)
    numbers, _ = iris()
    train, valid = data.splits["train"]["x"], data.splits["valid"]["x"]
    assert train.mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert train.std(0) == pytest.approx([1, 1], abs=1e-5)
    mean, std = (
        data.statistics["iris.standardize_0.mean"],
        data.statistics["iris.standardize_0.std"],
    )
    undone = np.concatenate([train * std + mean, valid * std + mean])
    order, wanted = np.lexsort(undone.round(3).T), np.lexsort(numbers.round(3).T)
    assert undone[order] == pytest.approx(numbers[wanted], abs=1e-4)
    assert (train * std + mean).mean(0) == pytest.approx(mean, abs=1e-4)
    assert abs(valid.mean(0)).max() > 1e-3


def test_statistics_are_exact_in_double_precision(tmp_path: Path) -> None:
    values = 1000 + np.random.default_rng(0).normal(size=5000).astype(np.float32)
    (tmp_path / "t.csv").write_text("a\n" + "\n".join(map(repr, values.tolist())) + "\n")
    data = loaded('data d = csv("t.csv") { x: f32 = a |> standardize }', base=tmp_path)
    exact = values.astype(np.float64)
    mean, std = data.statistics["d.standardize_0.mean"], data.statistics["d.standardize_0.std"]
    assert mean == np.float32(exact.mean())
    assert std == np.float32(exact.std())


def test_figures_may_depend_on_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n2\n3\n6\n")
    text = 'data d = csv("t.csv") { x: f32 = (a |> standardize)^2 |> standardize }'
    found = loaded(text, base=tmp_path).splits["train"]["x"]
    a = np.array([1.0, 2, 3, 6])
    once = ((a - a.mean()) / a.std()) ** 2
    assert found == pytest.approx((once - once.mean()) / once.std(), abs=1e-5)


def test_fields_are_computed_by_their_expressions(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,10\n4,20\n")
    text = 'data d = csv("t.csv") { x: f32[3] = [a, sqrt(a), a / b]; y: f32 = log(b) - 1 }'
    train = loaded(text, base=tmp_path).splits["train"]
    assert train["x"] == pytest.approx(np.array([[1, 1, 0.1], [4, 2, 0.2]]))
    assert train["y"] == pytest.approx(np.log([10, 20]) - 1)


def test_words_are_numbered_in_sorted_order() -> None:
    data = loaded(IRIS)
    _, names = iris()
    assert data.classes == {"y": ("setosa", "versicolor", "virginica")}
    counts = np.bincount(np.concatenate([part["y"] for part in data.splits.values()]))
    assert counts.tolist() == [(names == name).sum() for name in sorted(set(names))]
    # Setosas are those with short petals, so the numbers went to the right flowers.
    short = data.splits["train"]["x"][:, 0] < -0.9
    assert ((data.splits["train"]["y"] == 0) == short).all()


def test_whole_numbers_are_classes_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("y\n2\n0\n1.0\n2\n")
    data = loaded('data d = csv("t.csv") { y: label[3] = y }', base=tmp_path)
    assert data.splits["train"]["y"].tolist() == [2, 0, 1, 2]
    assert data.classes == {}


@pytest.mark.parametrize(
    ("cells", "code", "said"),
    [
        (["1", "2", "3"], "E0508", "classes are 0 to 2, found 1 to 3"),
        (["0", "1", "1.5"], "E0508", "whole numbers, found 1.5"),
        (["0", "-1", "1"], "E0508", "found -1 to 1"),
        (["0", "nan", "1"], "E0508", "a class is missing"),
        (["a", "b", "a"], "E0508", "2 classes were found"),
        (["a", "b", "1", "2"], "E0508", "declare `label[4]`"),
        (["a", "", "b"], "E0504", "line 3"),
    ],
)
def test_labels_that_are_no_classes_are_reported(
    tmp_path: Path, cells: list[str], code: str, said: str
) -> None:
    lines = [f'"{cell}",0' for cell in cells]
    (tmp_path / "t.csv").write_text("\n".join(["y,z", *lines]) + "\n")
    found = fault('data d = csv("t.csv") { y: label[3] = y }', base=tmp_path)
    assert found.code == code
    assert said in words(found), words(found)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ('data d = csv("t.csv") { x: f32 = 2 * petal_lenght }', "petal_lenght"),
        ('data d = csv("t.csv") { x: f32 = 2 * word }', "word"),
        ('data d = csv("t.csv") { x: f32 = log(a) }', "x: f32 = log(a)"),
        ('data d = csv("t.csv") { y: label[2] = other }', "y: label[2] = other"),
        ('data d = csv("t.csv") { y: label[2] = word }', "y: label[2] = word"),
        ('data d = csv("u.csv") { x: f32 = a }', 'data d = csv("u.csv") { x: f32 = a }'),
        ("data d = given { x: f32 }", "data d = given { x: f32 }"),
    ],
)
def test_faults_of_the_data_stand_where_they_are_declared(
    tmp_path: Path, text: str, marked: str
) -> None:
    (tmp_path / "t.csv").write_text("a,word\n0,one\n")
    span = fault(text, base=tmp_path).span
    assert span is not None
    assert span.text == marked


@pytest.mark.parametrize(
    ("expression", "line"), [("log(a)", 3), ("1 / (a - 4)", 4), ("exp(100 * a)", 2)]
)
def test_a_field_that_is_not_finite_names_its_line(
    tmp_path: Path, expression: str, line: int
) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n0\n4\n")
    found = fault(f'data d = csv("t.csv") {{ x: f32 = {expression} }}', base=tmp_path)
    assert found.code == "E0509"
    assert f"line {line} of" in found.message


def test_a_column_of_one_value_becomes_0_and_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n0.1,1\n0.1,2\n0.1,3\n0.3,4\n")
    text = 'data d = csv("t.csv") { x: f32[2] = [a, b] |> standardize; split train 3, valid 1 }'
    data = loaded(text, base=tmp_path)
    (warning,) = data.warnings
    assert (warning.code, warning.severity) == ("W0501", "warning")
    assert "`a` of `d`" in warning.message
    assert "`b`" not in warning.message
    assert data.splits["train"]["x"][:, 0] == pytest.approx([0, 0, 0], abs=1e-6)
    assert data.splits["valid"]["x"][0, 0] == pytest.approx(0.2, abs=1e-6)


# --- new samples --------------------------------------------------------------------------------


def test_new_samples_are_read_with_the_figures_of_the_training() -> None:
    data = loaded(IRIS)
    numbers, names = iris()
    columns = {"sepal_width": numbers[:, 1], "petal_length": numbers[:, 0]}
    table = Table({**columns, "species": names.astype(object)}, "new")
    found = transform(dataset(IRIS), table, data.statistics, data.classes, ["x", "y"])
    mean, std = (
        data.statistics["iris.standardize_0.mean"],
        data.statistics["iris.standardize_0.std"],
    )
    assert found["x"] == pytest.approx((numbers - mean) / std, abs=1e-5)
    assert found["y"].tolist() == [sorted(set(names)).index(name) for name in names]


def test_new_samples_need_no_columns_of_fields_that_are_not_asked_for() -> None:
    data = loaded(IRIS)
    table = Table({"petal_length": np.ones(2), "sepal_width": np.zeros(2)}, "new")
    found = transform(dataset(IRIS), table, data.statistics, data.classes, ["x"])
    assert found.keys() == {"x"}
    assert found["x"].shape == (2, 2)


def test_new_samples_have_the_classes_of_the_training() -> None:
    data = loaded(IRIS)
    table = Table({"species": np.array(["setosa", "virginia"], object)}, "new.csv", [2, 3])
    with pytest.raises(FmlError) as caught:
        transform(dataset(IRIS), table, data.statistics, data.classes, ["y"])
    (found,) = caught.value.diagnostics
    assert found.code == "E0508"
    assert "line 3 of new.csv has `virginia`" in found.message
    assert found.help == "did you mean `virginica`?"


def test_words_where_classes_were_numbers_are_reported(tmp_path: Path) -> None:
    declared = dataset('data d = csv("t.csv") { y: label[3] = y }')
    table = Table({"y": np.array(["a", "b"], object)}, "new")
    with pytest.raises(FmlError) as caught:
        transform(declared, table, {}, {}, ["y"])
    assert caught.value.diagnostics[0].code == "E0508"
