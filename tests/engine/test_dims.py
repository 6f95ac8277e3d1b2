"""Symbolic dimensions agree with whole numbers, and equal polynomials are equal."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.ir.dims import Dim

UNTIMED = settings(deadline=None)
NAMES = ("N", "H", "W")
SIZES = st.fixed_dictionaries({name: st.integers(1, 30) for name in NAMES})
Formula = tuple[Dim, Callable[[dict[str, int]], Fraction]]


def leaves() -> st.SearchStrategy[Formula]:
    numbers = st.integers(-9, 9).map(lambda n: (Dim.of(n), lambda sizes: Fraction(n)))
    names = st.sampled_from(NAMES).map(lambda n: (Dim.of(n), lambda sizes: Fraction(sizes[n])))
    return numbers | names


def grow(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    """Formulas with what they are worth, computed without `Dim`."""
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: (p[0][0] + p[1][0], lambda s: p[0][1](s) + p[1][1](s))),
        pairs.map(lambda p: (p[0][0] - p[1][0], lambda s: p[0][1](s) - p[1][1](s))),
        pairs.map(lambda p: (p[0][0] * p[1][0], lambda s: p[0][1](s) * p[1][1](s))),
        st.tuples(inner, st.integers(1, 4)).map(
            lambda p: (p[0][0] / p[1], lambda s: p[0][1](s) / p[1])
        ),
        inner.map(lambda p: (p[0].floor(), lambda s: Fraction(math.floor(p[1](s))))),
        inner.map(lambda p: (p[0].ceil(), lambda s: Fraction(math.ceil(p[1](s))))),
    )  # fmt: skip


FORMULAS = st.recursive(leaves(), grow, max_leaves=6)
POLYNOMIALS = st.recursive(
    leaves(),
    lambda inner: st.tuples(inner, inner).map(
        lambda p: (p[0][0] * p[1][0] + p[0][0], lambda s: p[0][1](s) * p[1][1](s) + p[0][1](s))
    ),
    max_leaves=5,
)


def worth(dim: Dim, sizes: dict[str, int]) -> Fraction | None:
    return dim.substitute(sizes).constant


@UNTIMED
@given(FORMULAS, SIZES)
def test_arithmetic_with_names_is_that_of_their_values(
    formula: Formula, sizes: dict[str, int]
) -> None:
    dim, value = formula
    assert worth(dim, sizes) == value(sizes)


@UNTIMED
@given(POLYNOMIALS, POLYNOMIALS, POLYNOMIALS)
def test_equal_however_written(a: Formula, b: Formula, c: Formula) -> None:
    x, y, z = a[0], b[0], c[0]
    for left, right in (
        (x + y, y + x),
        (x * y, y * x),
        (x * (y + z), x * y + x * z),
        ((x + y) + z, x + (y + z)),
        (x - y, -(y - x)),
        (x + x, 2 * x),
        (x**2 - y**2, (x + y) * (x - y)),
        (x - x, Dim.of(0)),
    ):
        assert left == right
        assert hash(left) == hash(right)
        assert str(left) == str(right)


@UNTIMED
@given(POLYNOMIALS, st.integers(1, 9))
def test_division_undoes_multiplication(formula: Formula, number: int) -> None:
    dim = formula[0]
    assert dim * number / number == dim
    assert dim * Dim.of("N") / Dim.of("N") == dim


@UNTIMED
@given(FORMULAS, SIZES)
def test_substituting_one_name_after_another_is_substituting_all(
    formula: Formula, sizes: dict[str, int]
) -> None:
    dim, step = formula[0], formula[0]
    for name, size in sizes.items():
        step = step.substitute({name: size})
    assert step == dim.substitute(sizes)


@UNTIMED
@given(FORMULAS)
def test_a_name_that_is_substituted_is_gone(formula: Formula) -> None:
    dim = formula[0]
    assert "N" not in dim.substitute({"N": Dim.of("H") + 1}).names()


N, H, W, K = map(Dim.of, "NHWK")

PRINTED = [
    (Dim.of(0), "0"),
    (Dim.of(-3), "-3"),
    (N, "N"),
    (-N, "-N"),
    (2 * N + 1, "2*N + 1"),
    (Dim.of(1) - N, "-N + 1"),
    (H * W * 3, "3*H*W"),
    (N**2 + N, "N^2 + N"),
    (H / 2, "H/2"),
    (3 * H / 2, "3*H/2"),
    (H / (2 * W), "H/(2*W)"),
    (N / N, "1"),
    (((H - K) / 2).floor() + 1, "floor(H/2 - K/2) + 1"),
    ((H / 2).ceil(), "ceil(H/2)"),
]


@pytest.mark.parametrize(("dim", "text"), PRINTED)
def test_printed_as_people_write_them(dim: Dim, text: str) -> None:
    assert str(dim) == text


ROUNDED = [
    (N.floor(), N),
    ((H / 2 + 1).floor(), (H / 2).floor() + 1),
    ((H / 2 + N).ceil(), (H / 2).ceil() + N),
    ((H / 2 + Dim.of(3) / 2).floor(), (H / 2 + Dim.of(1) / 2).floor() + 1),
    (Dim.of(7) / 2 - (Dim.of(7) / 2).floor(), Dim.of(1) / 2),
    ((N + Dim.of(1) / 2).ceil(), N + 1),
    ((Dim.of(-7) / 2).floor(), Dim.of(-4)),
    ((Dim.of(-7) / 2).ceil(), Dim.of(-3)),
]


@pytest.mark.parametrize(("left", "right"), ROUNDED)
def test_whole_terms_come_out_of_a_rounding(left: Dim, right: Dim) -> None:
    assert left == right


def test_quotients_of_sums() -> None:
    assert (H**2 - W**2) / (H + W) == H - W
    with pytest.raises(ValueError, match="not a multiple"):
        H / (H + 1)
    with pytest.raises(ZeroDivisionError):
        H / 0


def test_size_and_name_of_simple_dimensions() -> None:
    assert (Dim.of(3).size, (Dim.of(3) / 2).size, N.size) == (3, None, None)
    assert (N.name, (2 * N).name, (N + 1).name, (N**2).name) == ("N", None, None, None)
    assert (H / N + (K / 2).floor()).names() == {"H", "N", "K"}
