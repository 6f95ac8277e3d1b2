"""Splits: every sample in one part at most, totals as written, classes in proportion."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Part, Split
from fml.engine.sources.split import cut
from tests.sources.datasets import fault, loaded, words

METHODS = ("given_order", "random", "stratified")


def parts(*amounts: float) -> tuple[Part, ...]:
    """Whole numbers count, all else are shares."""
    return tuple(Part(f"p{n}", a, not isinstance(a, int)) for n, a in enumerate(amounts))


def sizes(total: int, *amounts: float, method: str = "given_order") -> list[int]:
    labels = np.arange(total) % 3
    made = cut(Split(parts(*amounts), None, method, "y", 5), np.arange(total), labels, "d")
    return [len(rows) for rows in made.values()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("total", "amounts", "wanted"),
    [
        (
            150,
            (0.7, 0.15, 0.15),
            [106, 22, 22],
        ),  # 22.5 and 22.5 rounded down, the rest to the first
        (100, (0.7, 0.3), [70, 30]),
        (100, (0.71, 0.29), [71, 29]),  # 0.29 * 100 is 28.999999999999996 in floating point
        (10, (0.33, 0.33, 0.33), [4, 3, 3]),
        (10, (0.1, 0.5), [5, 5]),
        (60, (50, 10), [50, 10]),
        (60, (30, 10), [30, 10]),  # counts are counts: 20 samples are in no part
        (60, (0.5, 7), [53, 7]),
        (1, (0.5, 0.5), [1, 0]),
        (7, (1.0, 0.0), [7, 0]),
    ],
)
def test_counts_count_and_shares_are_rounded_down(
    method: str, total: int, amounts: tuple[float, ...], wanted: list[int]
) -> None:
    assert sizes(total, *amounts, method=method) == wanted


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(FmlError) as caught:
        sizes(100, 80, 30)
    (found,) = caught.value.diagnostics
    assert found.code == "E0506"
    assert "110 samples, and there are 100" in found.message


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=120),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.sampled_from(METHODS),
    st.integers(-5, 2**70),
)
def test_parts_are_disjoint_sorted_and_of_the_rows(
    classes: list[int], weights: list[float], method: str, seed: int
) -> None:
    labels = np.array(classes)
    rows = np.arange(len(labels)) * 3 + 1
    shares = [float(w) / max(sum(weights), 1) for w in weights]
    split = Split(parts(*shares), None, method, "y", seed)
    made = cut(split, rows, labels, "d")
    together = np.concatenate([*made.values()])
    assert len(together) == len(rows)  # shares leave nothing out
    assert set(together) == set(rows)
    assert all((np.diff(part) > 0).all() for part in made.values())
    again = cut(split, rows, labels, "d")
    assert all((made[name] == again[name]).all() for name in made)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.integers(0, 100),
)
def test_stratified_keeps_every_class_within_one_of_its_proportion(
    classes: list[int], weights: list[int], seed: int
) -> None:
    labels = np.array(classes)
    counts = [weight * len(labels) // max(sum(weights), len(labels)) for weight in weights]
    split = Split(parts(*counts), None, "stratified", "y", seed)
    made = cut(split, np.arange(len(labels)), labels, "d")
    together = np.concatenate([*made.values()])
    assert len(together) == len(set(together)) == sum(counts)
    for count, rows in zip(counts, made.values(), strict=True):
        assert len(rows) == count
        for label in np.unique(labels):
            exact = count * (labels == label).sum() / len(labels)
            assert abs((labels[rows] == label).sum() - exact) < 1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.integers(0, 20),
    st.sampled_from(METHODS),
    st.integers(0, 100),
)
def test_counts_are_exact_and_no_sample_is_in_two_parts(
    counts: list[int], beyond: int, method: str, seed: int
) -> None:
    rows = np.arange(sum(counts) + beyond) + 100
    made = cut(Split(parts(*counts), None, method, "y", seed), rows, rows % 3, "d")
    assert [len(part) for part in made.values()] == counts
    together = [row for part in made.values() for row in part.tolist()]
    assert len(set(together)) == len(together)
    assert set(together) <= set(rows.tolist())


@pytest.mark.parametrize("by", ["", " by random(seed = 4)", " by stratified(y, seed = 4)"])
def test_one_split_of_a_source_is_cut_and_the_others_stay(tmp_path: Path, by: str) -> None:
    x = np.arange(50.0)
    parts = {"x_train": x[:40], "x_test": x[40:], "y_train": x[:40] % 2, "y_test": x[40:] % 2}
    np.savez(tmp_path / "d.npz", **parts)  # type: ignore[arg-type]
    text = f"""
data d = npz("d.npz") {{
  x: f32 = x; y: label[2] = y
  split train 70%, valid 10, extra 5% from train{by}
}}"""
    splits = {
        name: part["x"][:].tolist() for name, part in loaded(text, base=tmp_path).splits.items()
    }
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 28, "valid": 10, "extra": 2, "test": 10,
    }  # fmt: skip
    assert sorted(splits["train"] + splits["valid"] + splits["extra"]) == x[:40].tolist()
    assert splits["test"] == x[40:].tolist()


def test_amounts_may_be_options_and_constants() -> None:
    text = """
few = 2 * 5
quarter = few / 40
data iris = csv("data/iris.csv") {
  x: f32 = petal_length
  split train few, valid 10%, test quarter
}"""
    counts = {name: len(part["x"]) for name, part in loaded(text).splits.items()}
    assert counts == {"train": 98, "valid": 15, "test": 37}


def test_stratified_parts_of_a_balanced_set_are_balanced() -> None:
    labels = np.arange(150) % 3
    split = Split(parts(0.7, 0.2, 0.1), None, "stratified", "y", 4)
    for part in cut(split, np.arange(150), labels, "d").values():
        assert np.ptp(np.bincount(labels[part])) == 0


def test_a_seed_is_an_order_of_its_own() -> None:
    rows = np.arange(100)
    first, second = (
        cut(Split(parts(50, 50), None, "random", None, seed), rows, None, "d")["p0"]
        for seed in (1, 2)
    )
    assert first.tolist() != second.tolist() != rows[:50].tolist()


def test_random_parts_are_drawn_from_everywhere() -> None:
    rows = np.arange(10_000)
    part = cut(Split(parts(0.5, 0.5), None, "random", None, 3), rows, None, "d")["p0"]
    # The mean of 5,000 of 10,000 places drawn without return has standard deviation 28.9.
    assert abs(part.mean() - 4999.5) < 5 * 28.9


def test_a_split_of_a_file_is_cut_by_its_words() -> None:
    text = """
data iris = csv("data/iris.csv") {
  x: f32 = petal_length
  y: label[3] = species
  split train 70%, valid 15%, test 15% by stratified(y, seed = 7)
}"""
    splits = loaded(text).splits
    counts = {name: np.bincount(part["y"]).tolist() for name, part in splits.items()}
    assert {name: sum(each) for name, each in counts.items()} == {
        "train": 106, "valid": 22, "test": 22,
    }  # fmt: skip
    assert all(max(each) - min(each) <= 1 for each in counts.values())


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("split train 100, valid 51", "151 samples, and there are 150"),
        ("split train 50%, valid 50% from train", "leave out `from train`"),
        ("split training 50%, valid 50%", "no samples in a split `train`"),
    ],
)
def test_splits_that_cannot_be_are_reported(split: str, said: str) -> None:
    text = 'data iris = csv("data/iris.csv") {{ x: f32 = petal_width |> standardize; {} }}'
    found = fault(text.format(split))
    assert found.code == "E0506"
    assert said in words(found)
