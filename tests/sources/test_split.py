"""Splits: every sample in one part at most, totals as written, classes in proportion."""

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
    st.lists(st.integers(0, 3), min_size=8, max_size=200),
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
)
def test_stratified_keeps_every_class_in_proportion(classes: list[int], counts: list[int]) -> None:
    labels = np.array(classes)
    counts = [count * len(labels) // max(sum(counts), len(labels)) for count in counts]
    split = Split(parts(*counts), None, "stratified", "y", 1)
    made = cut(split, np.arange(len(labels)), labels, "d")
    assert [len(part) for part in made.values()] == counts
    # The last part is cut from all samples: its quotas are within one of exact proportion.
    last = [*made.values()][-1]
    for label in np.unique(labels):
        exact = counts[-1] * (labels == label).sum() / len(labels)
        assert abs((labels[last] == label).sum() - exact) < 1


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
        ("split train 0, valid 10", "no samples in a split `train`"),
    ],
)
def test_splits_that_cannot_be_are_reported(split: str, said: str) -> None:
    text = 'data iris = csv("data/iris.csv") {{ x: f32 = petal_width |> standardize; {} }}'
    found = fault(text.format(split))
    assert found.code == "E0506"
    assert said in words(found)
