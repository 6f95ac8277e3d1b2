"""What `std` draws: augmentation of each image by itself, and first values of parameters."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.dsl.programs import trained

Array = NDArray[Any]
RANDOM = np.random.default_rng(11)

# --- augmentation --------------------------------------------------------------------------------

# A plan's own state takes what the step has made of the images.
AUGMENTED = """
data d = given {{ x: f32[5, 5, 2]; y: label[3] }}
layer still()(x: f32[N, 5, 5, 2]) -> f32 {{
  param w: f32 ~ zeros
  w * sum(x)
}}
train {{
  net = still()
  state seen: f32[40, 5, 5, 2] ~ zeros
  state target: f32[40, 3] ~ zeros
  feed x, y from d.train |> batch(40)
  {made}
  minimize loss = net(image)
  seen <- image[:40]
  measure sum(image) as "sum" on d.train
  using sgd(0)
  stop after 1 step
}}
"""
PICTURES = RANDOM.uniform(1, 2, (40, 5, 5, 2)).astype(np.float32)
CLASSES = RANDOM.integers(0, 3, 40)


def augmented(made: str, check_measured: bool = True) -> Any:
    text = AUGMENTED.format(made=made)
    outcome = trained(text, {"d": {"x": PICTURES, "y": CLASSES}})
    if check_measured:
        np.testing.assert_allclose(outcome.figures["train.sum"], PICTURES.sum(), rtol=1e-5)
    return outcome.variables


def test_flip_h_mirrors_about_half_of_the_images() -> None:
    seen = augmented("image = flip_h(x)")["seen"]
    flipped = [np.array_equal(s, p[:, ::-1]) for s, p in zip(seen, PICTURES, strict=True)]
    kept = [np.array_equal(s, p) for s, p in zip(seen, PICTURES, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 10 < sum(flipped) < 30


def test_pad_crop_shifts_each_image_by_its_own() -> None:
    seen = augmented("image = pad_crop(x, 2)")["seen"]
    room = np.pad(PICTURES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for image, padded in zip(seen, room, strict=True):
        (found,) = [
            (i, j) for i in range(5) for j in range(5)
            if np.array_equal(image, padded[i : i + 5, j : j + 5])
        ]  # fmt: skip
        places.add(found)
    assert {i for i, _ in places} == {j for _, j in places} == set(range(5))


def test_cutout_clears_one_square_that_may_reach_over_the_edge() -> None:
    seen = augmented("image = cutout(x, 3)")["seen"]
    areas = set()
    for image, picture in zip(seen, PICTURES, strict=True):
        cut = np.all(image == 0, -1)
        np.testing.assert_array_equal(image[~cut], picture[~cut])
        rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
        assert cut.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        areas.add((len(rows), len(columns)))
    assert areas <= {(a, b) for a in (2, 3) for b in (2, 3)}
    assert (3, 3) in areas
    assert len(areas) > 1


def test_mixup_shares_images_and_classes_alike() -> None:
    made = "both = mixup(x, label_smooth(y, 0))\n  image = both[0]\n  target <- both[1][:40]"
    found = augmented(made)
    hard = np.eye(3)[CLASSES]
    other = np.roll(PICTURES, 1, 0)
    share = (found["seen"] - other)[:, 0, 0, 0] / (PICTURES - other)[:, 0, 0, 0]
    image = share[:, None, None, None] * PICTURES + (1 - share[:, None, None, None]) * other
    np.testing.assert_allclose(found["seen"], image, rtol=2e-3)
    target = share[:, None] * hard + (1 - share[:, None]) * np.roll(hard, 1, 0)
    np.testing.assert_allclose(found["target"], target, atol=2e-3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_shares_of_mixup_are_beta_distributed(alpha: float) -> None:
    text = f"""
data d = given {{ x: f32[1] }}
layer still()(x: f32[N, 1]) -> f32 {{
  param w: f32 ~ zeros
  w * sum(x)
}}
train {{
  net = still()
  state shares: f32[4000, 1] ~ zeros
  feed x from d.train |> batch(4000)
  both = mixup(x, x, {alpha})
  shares <- both[0][:4000]
  minimize net(x)
  using sgd(0)
  stop after 1 step
}}"""
    # 0 and 1 in turn: a sample is its own share, or one less its own share.
    x = (np.arange(4000) % 2).astype(np.float32)[:, None]
    shares = trained(text, {"d": {"x": x}}).variables["shares"].ravel()
    assert stats.kstest(shares[1::2], stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert stats.kstest(shares[::2], stats.beta(alpha, alpha).cdf).pvalue > 0.01


# --- initialisers --------------------------------------------------------------------------------

FIRST = """
data d = given {{ x: {element}[2] }}
layer still()(x: {element}[N, 2]) -> {element} {{
  param w: {element}[{axes}] ~ {initialiser}
  sum(w) + sum(x)
}}
train {{
  net = still()
  feed x from d.train
  minimize net(x)
  using sgd(0)
  stop after 1 step
}}
"""


def first(initialiser: str, axes: str, element: str = "f32") -> Array:
    text = FIRST.format(initialiser=initialiser, axes=axes, element=element)
    return trained(text, {"d": {"x": np.ones((3, 2))}}).variables["net.w"]


@pytest.mark.parametrize(("element", "atol"), [("f32", 2e-6), ("f64", 1e-14)])
@pytest.mark.parametrize("axes", ["8, 8", "20, 7", "7, 20", "3, 3, 4, 10"])
def test_orthogonal_makes_right_angles(axes: str, element: str, atol: float) -> None:
    w = first("orthogonal(2)", axes, element) / 2
    flat = w.reshape(-1, w.shape[-1])
    product = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=atol)


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_truncated_normal_has_its_distribution(element: str) -> None:
    z = (first("truncated_normal(1, 2)", "20_000", element) - 1) / 2
    assert abs(z).max() <= 2 + 1e-6
    assert stats.kstest(z, stats.truncnorm(-2, 2).cdf).pvalue > 0.01
