"""Sums behind sums, taken in one pass: variances of large numbers, factors known beforehand."""

from collections.abc import Callable

import numpy as np
import pytest
from clustered import made
from compiled import HOSTS
from sums import assert_close

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.text import show
from fml.engine.ops.build import Value

HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))


def total(x: Value, axes: tuple[int, ...], keep: bool = True) -> Value:
    return x.call("sum", axes=axes, keep=keep)


def statistics(axes: tuple[int, ...]) -> Callable[[Value], dict[str, Value]]:
    """Mean and sum of squared deviations, and what a normalisation makes of them."""

    def of(x: Value) -> dict[str, Value]:
        count = float(np.prod([x.type.sizes[axis] for axis in axes]))
        centred = x - total(x, axes) / count
        squares = total(centred * centred, axes)
        return {"squares": squares, "scaled": centred * (squares / count).call("rsqrt")}

    return of


@HOST
@pytest.mark.parametrize("mean", [0.0, 1e3, -1e4])
@pytest.mark.parametrize(
    ("sizes", "axes"),
    [
        ((512, 16), (0,)), ((3000, 37), (0,)), ((3, 300, 130), (0, 1)), ((2, 50_000), (1,)),
        ((70_001,), (0,)),
    ],
)  # fmt: skip
def test_variances_of_large_numbers(
    host: Host, sizes: tuple[int, ...], axes: tuple[int, ...], mean: float
) -> None:
    """Rounding takes no more than from a sum of the exact squares."""
    x = (np.random.default_rng(0).standard_normal(sizes) + mean).astype(np.float32)
    found, kernel = made(statistics(axes), host, x)
    wide = x.astype(np.float64)
    exact = ((wide - wide.mean(axes, keepdims=True)) ** 2).sum(axes, keepdims=True)
    terms = int(np.prod([sizes[axis] for axis in axes]))
    assert_close(found["squares"], exact, exact, terms, F32)
    assert show(kernel).count("for chunk") == 1, "more than one pass before the last"


@HOST
@pytest.mark.parametrize("far", [1, 256, 300])
def test_variances_of_what_begins_far_out(host: Host, far: int) -> None:
    """Some zeros, one chunk of them or more, then numbers around ten thousand."""
    x = (np.random.default_rng(1).standard_normal((2000, 5)) + 1e4).astype(np.float32)
    x[:far] = 0
    found, _ = made(statistics((0,)), host, x)
    wide = x.astype(np.float64)
    exact = ((wide - wide.mean(0, keepdims=True)) ** 2).sum(0, keepdims=True)
    assert_close(found["squares"], exact, exact, 2000, F32)


def test_variances_in_doubles_and_of_what_is_no_number() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1000, 9)) + 1e8
    found, _ = made(statistics((0,)), Host.native(), x, element=Element.F64)
    wide = x.astype(np.longdouble)
    exact = ((wide - wide.mean(0, keepdims=True)) ** 2).sum(0, keepdims=True)
    assert_close(found["squares"], exact, exact, 1000, Element.F64)
    odd = rng.standard_normal((1000, 3)).astype(np.float32)
    odd[0, 0], odd[700, 1] = np.inf, np.nan
    squares = made(statistics((0,)), Host.native(), odd)[0]["squares"]
    np.testing.assert_array_equal(np.isnan(squares), [[True, True, False]])


def of_a_normalisation(g: Value, x: Value, scale: Value) -> dict[str, Value]:
    """Gradients of a normalisation by columns: sums of products with what other sums came to."""
    products = total(g * x, (0,))
    slope = g * scale - x * (products * 0.125)
    return {"slope": slope, "sum": total(-slope, (0,))}


@HOST
@pytest.mark.parametrize("sizes", [(1000, 24), (260, 3), (300, 300)])
def test_factors_of_sums_are_taken_out(host: Host, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    g, x = (rng.standard_normal(sizes).astype(np.float32) for _ in range(2))
    scale = rng.standard_normal((1, sizes[1])).astype(np.float32)
    found, kernel = made(of_a_normalisation, host, g, x, scale)
    a, b, c = (array.astype(np.float64) for array in (g, x, scale))
    factor = (a * b).sum(0, keepdims=True) * 0.125
    slope = a * c - b * factor
    size = np.abs(a * c) + np.abs(b * factor) * (1 + np.abs(a * b).sum(0) / np.abs((a * b).sum(0)))
    assert_close(found["slope"], slope, size, sizes[0], F32)
    assert_close(
        found["sum"], -slope.sum(0, keepdims=True), size.sum(0, keepdims=True), sizes[0], F32
    )
    assert show(kernel).count("for chunk") == 1


@HOST
def test_what_varies_along_a_sum_is_no_factor_of_it(host: Host) -> None:
    """A weight for each column, summed over columns, of which there are as many as rows."""

    def weighted(x: Value, w: Value) -> dict[str, Value]:
        centred = x - total(x, (1,)) / 40.0
        return {"sum": total(centred * w, (1,))}

    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((40, 40), (40,)))
    found, _ = made(weighted, host, x, w)
    wide = x.astype(np.float64)
    terms = (wide - wide.mean(1, keepdims=True)) * w
    assert_close(
        found["sum"], terms.sum(1, keepdims=True), np.abs(terms).sum(1, keepdims=True) * 2, 40, F32
    )
