"""`einsum` and `top_k`, which are composed: what they compute is what numpy does."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.backends import on_each_backend
from tests.dsl.programs import applied, trained

X = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
SQUARE = X[:4]
CUBE = np.sin(np.arange(64, dtype=np.float32)).reshape(4, 4, 4)


@on_each_backend
@pytest.mark.parametrize(
    "spec",
    [
        "ij->ji", "ij->", "ij->j", "...->...", "i...->...i", "ij,ij->", "ij,ij->ij", "ij,ij->i",
        "ij,kj->ik", "ij,ik->jk", "ij,kl->ijkl", "ij,kj->kji", "i...,k...->ik...", "ab,cd->ac",
        "...j,kj->...k",
    ],
)  # fmt: skip
def test_sums_of_einstein(spec: str) -> None:
    count = 1 + spec.count(",")
    got = applied(f'einsum("{spec}", {", ".join(["x", "sin(x)"][:count])})', X)
    wanted = np.einsum(spec, *[X, np.sin(X)][:count])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@on_each_backend
@pytest.mark.parametrize(
    ("spec", "operands", "arrays"),
    [
        ("ii->i", "m", [SQUARE]),
        ("ii->", "m", [SQUARE]),
        ("iji->ji", "c", [CUBE]),
        ("iii->i", "c", [CUBE]),
        ("iij,jk->k", "c, m", [CUBE, SQUARE]),
        ("bij,bjk->bik", "c, c", [CUBE, CUBE]),
        ("bij,bkj->ikb", "c, c", [CUBE, CUBE]),
        ("bij,bjk,ck->bic", "c, c, m", [CUBE, CUBE, SQUARE]),
        ("ij,jk,kl,li->", "m, m, m, m", [SQUARE] * 4),
        ("...ij,jk->...ik", "c, m", [CUBE, SQUARE]),
        ("ij...,...k->ik...", "c, m", [CUBE, SQUARE]),
    ],
)
def test_diagonals_batches_and_many_factors(
    spec: str, operands: str, arrays: list[NDArray[np.float32]]
) -> None:
    rows = "m = stack([x[0], x[1], x[2], x[3]], over = 0)"
    cube = "c = reshape(sin(cast(iota(64), f32)), [4, 4, 4]) + 0 * sum(x)"
    got = applied(f'{rows}; {cube}; einsum("{spec}", {operands})', SQUARE)
    np.testing.assert_allclose(got, np.einsum(spec, *arrays), rtol=1e-4, atol=1e-5)


@on_each_backend
def test_the_gradient_where_a_tensor_stands_twice() -> None:
    """Of the sum of all w^2, by a step of a quarter: w - 0.25 * 2 w is a half of w."""
    text = """
data d = given {{ v: f32[1] }}
model m(v: f32[N, 1]) {{
  param W: f32[3, 4] ~ normal(0, 1)
  einsum("ij,ij->", W, W) + 0 * sum(v)
}}
train {{
  net = m()
  feed v from d.train
  minimize net(v)
  using sgd({rate})
  stop after 1 step
}}"""
    data = {"d": {"v": np.zeros((1, 1), np.float32)}}
    after, before = (trained(text.format(rate=rate), data).variables["net.W"] for rate in (0.25, 0))
    np.testing.assert_allclose(after, before / 2, rtol=1e-6)


@on_each_backend
@pytest.mark.parametrize(("k", "axis"), [(2, 1), (4, 1), (0, 1)])
def test_the_largest_and_their_places(k: int, axis: int) -> None:
    order = np.argsort(-X, axis, kind="stable")[:, :k]
    largest = applied(f"top_k(x, {k}, over = {axis})[0]", X)
    np.testing.assert_array_equal(largest, np.take_along_axis(X, order, axis))
    places = applied(f"cast(top_k(x, {k}, over = {axis})[1], f32)", X)
    np.testing.assert_array_equal(places, order)


@on_each_backend
def test_the_largest_along_another_axis_are_in_their_places() -> None:
    images = np.random.default_rng(4).normal(size=(2, 5, 3)).astype(np.float32)
    got = applied("top_k(x, 2, over = 1)[0]", images)
    np.testing.assert_array_equal(got, -np.sort(-images, 1)[:, :2])
