"""Functions of one number as expressions: exp and log and what is made of them, to 2 ulp.

No branches, so that any number of lanes is computed at once, by the CPU's vectors as by a GPU's
threads. The way: an argument is reduced to a small interval (Cody and Waite 1980), a polynomial
takes it from there, and the scale is put back in the exponent's bits. Series are those of Taylor
where they converge as fast as a fit would; their lengths are chosen so that what is left out is
below a quarter of an ulp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.expr import (
    INDEX,
    Expr,
    bits,
    constant,
    convert,
    fma,
    maximum,
    minimum,
    select,
    unary,
)

F64 = Element.F64


@dataclass(frozen=True, slots=True)
class Format:
    """What is to be known of a floating-point element.

    `ln2` are two numbers whose sum is log 2 to twice the precision; the first has zeros at its
    end, so that its product with a small whole number is exact.
    """

    element: Element
    whole: Element
    fraction: int
    bias: int
    ln2: tuple[float, float]
    exp_terms: int
    log_terms: int

    @property
    def one(self) -> int:
        """The bits of 1."""
        return self.bias << self.fraction

    @property
    def magic(self) -> float:
        """Adding it rounds to a whole number, which then stands in the last bits."""
        return 1.5 * 2.0**self.fraction

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`."""
        return (self.bias + self.fraction) << self.fraction | 1 << (self.fraction - 1)

    @property
    def least_normal(self) -> float:
        """The smallest number with all bits of its fraction."""
        return 2.0 ** (1 - self.bias)


FORMATS = {
    F32: Format(F32, Element.I32, 23, 127, (0.693145751953125, 1.428606765330187e-06), 7, 6),
    F64: Format(
        F64, INDEX, 52, 1023, (0.6931471803691238, 1.9082149292705877e-10), 13, 12
    ),
}  # fmt: skip


def polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """Sum of `coefficients[i] x^i`, by Horner's rule."""
    total: Expr = constant(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total


def is_nan(x: Expr) -> Expr:
    """Whether it is no number."""
    return x.differs(x)


def magnitude(x: Expr) -> Expr:
    """|x|."""
    return unary("abs", x)


def with_sign_of(size: Expr, x: Expr) -> Expr:
    """A number that is not negative, with the sign of another, of its zeros too."""
    whole = FORMATS[x.type].whole
    sign = bits(x, whole) & constant(-(1 << (31 if x.type is F32 else 63)), whole)
    return bits(bits(size, whole) | sign, x.type)


def _is_tiny(x: Expr) -> Expr:
    """Whether it is small beside an ulp of 1: its own logarithm of 1 + x; 0 keeps its sign."""
    return magnitude(x) < 2.0 ** -(FORMATS[x.type].fraction + 2)


# --- exp ------------------------------------------------------------------------------------------


def _reduced(x: Expr, low: float, high: float) -> tuple[Expr, Expr, Expr]:
    """n, as a whole number, and r with its tail, where x = n log 2 + r + tail, |r| < 0.35.

    x is taken no lower and no higher than the bounds.
    """
    f = FORMATS[x.type]
    x = minimum(maximum(x, low), high)
    shifted = x * (1 / math.log(2)) + f.magic
    n = shifted - f.magic
    whole = bits(shifted, f.whole) - f.magic_bits
    high_part = fma(-n, f.ln2[0], x)
    r = fma(-n, f.ln2[1], high_part)
    tail = fma(-n, f.ln2[1], high_part - r)
    return whole, r, tail


def _less_one(r: Expr, tail: Expr) -> Expr:
    """exp(r + tail) - 1 for |r| < 0.35: r + r^2 / 2 + r^3 / 6 + ..."""
    terms = FORMATS[r.type].exp_terms
    series = [1 / math.factorial(n) for n in range(2, terms + 1)]
    return r + fma(r * r, polynomial(r, series), tail)


def power_of_two(n: Expr, element: Element) -> Expr:
    """2^n for a whole number in the range of normal exponents."""
    f = FORMATS[element]
    return bits((n + f.bias) << constant(f.fraction, f.whole), element)


def _scaled(x: Expr, n: Expr) -> Expr:
    """x 2^n in two steps, since 2^n itself may not be a number; it is rounded once."""
    f = FORMATS[x.type]
    # A shift to the right brings zeros in, so the number is made positive before.
    half = ((n + 4 * f.bias) >> constant(1, f.whole)) - 2 * f.bias
    return x * power_of_two(half, x.type) * power_of_two(n - half, x.type)


def exp(x: Expr) -> Expr:
    """e^x."""
    return exp_of_sum(x)


def exp_of_sum(x: Expr, more: Expr | None = None) -> Expr:
    """e^(x + more), where the second is not larger than an ulp of the first."""
    low, high = (-104.0, 89.0) if x.type is F32 else (-746.0, 710.0)
    n, r, tail = _reduced(x, low, high)
    found = _less_one(r, tail) + 1.0
    return _scaled(found if more is None else fma(found, more, found), n)


def expm1(x: Expr) -> Expr:
    """e^x - 1, exact for small x: 2^n (e^r - 1) + (2^n - 1)."""
    low, high = (-20.0, 89.0) if x.type is F32 else (-40.0, 710.0)
    n, r, tail = _reduced(x, low, high)
    less_one = _less_one(r, tail)
    # Half of it, since 2^n may be too large where the result is not.
    half = power_of_two(n - 1, x.type)
    found = fma(less_one, half, half - 0.5) * 2.0
    found = select(n.equals(0), less_one, found)
    return select(_is_tiny(x), x, found)


def _share(part: Expr, total: Expr, lost: Expr) -> tuple[Expr, Expr]:
    """part / (total + lost), and 1 / total, where `lost` is what rounding took from the total.

    One step of Newton's method makes up for the rounding of the total and of its inverse.
    """
    inverse = 1.0 / total
    found = part * inverse
    left = fma(-found, total, part) - found * lost
    return fma(left, inverse, found), inverse


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-x), by e^-|x|, which does not overflow."""
    small = exp(-magnitude(x))
    total = small + 1.0
    share, _ = _share(select(x < 0.0, small, 1.0), total, small - (total - 1.0))
    return share


def tanh(x: Expr) -> Expr:
    """By t = e^2|x| - 1: t / (t + 2), and where that is above 1/2, 1 - 2 / (t + 2)."""
    size = magnitude(x)
    grown = expm1(size * 2.0)
    total = grown + 2.0
    share, inverse = _share(grown, total, grown - (total - 2.0))
    found = select(size < 0.55, share, 1.0 - 2.0 * inverse)
    return select(is_nan(x), x, with_sign_of(found, x))


# --- log ------------------------------------------------------------------------------------------


def split(x: Expr) -> tuple[Expr, Expr]:
    """e, as a float, and m with x = 2^e m, sqrt(1/2) <= m < sqrt(2), for x above 0."""
    f = FORMATS[x.type]
    below = x < f.least_normal
    shift = float(f.fraction + 1)
    word = bits(select(below, x * 2.0**shift, x), f.whole)
    # The bits of sqrt(1/2) are taken away, so that the exponent changes there.
    root = (f.bias - 1) << f.fraction | int((math.sqrt(0.5) * 2 - 1) * 2**f.fraction)
    moved = word - root
    exponent = (moved + (f.bias << f.fraction)) >> constant(f.fraction, f.whole)
    e = exponent - f.bias
    m = bits(word - (e << constant(f.fraction, f.whole)), x.type)
    number = convert(e, x.type)
    return select(below, number - shift, number), m


def _log_of(x: Expr, correction: Expr | None = None) -> Expr:
    """log x + correction for x above 0; the correction is small beside an ulp of x.

    With f = m - 1 and s = f / (2 + f), log m = f - f^2 / 2 + s (f^2 / 2 + R), where R is the rest
    of the series of 2 artanh s.
    """
    f = FORMATS[x.type]
    e, m = split(x)
    small = m - 1.0
    s = small / (small + 2.0)
    square = s * s
    rest = square * polynomial(square, [2 / (2 * k + 3) for k in range(f.log_terms)])
    half = small * small * 0.5
    low = e * f.ln2[1]
    if correction is not None:
        low = low + correction
    return fma(e, f.ln2[0], small - (half - fma(s, half + rest, low)))


def _at_edges(found: Expr, x: Expr, least: float) -> Expr:
    """A logarithm with what it is at its pole, beyond it, at infinity and for NaN."""
    found = select(x.equals(math.inf), x, found)
    found = select(x.equals(least), -math.inf, found)
    return select((x < least) | is_nan(x), math.nan, found)


def log(x: Expr) -> Expr:
    """Natural logarithm."""
    return _at_edges(_log_of(x), x, 0.0)


def log1p(x: Expr) -> Expr:
    """log(1 + x): log u for u = 1 + x rounded, and what rounding took away, over u."""
    u = x + 1.0
    # The larger of both is taken away first, which is exact.
    lost = select(magnitude(x) < 1.0, x - (u - 1.0), 1.0 - (u - x))
    found = _log_of(u, lost / u)
    return select(_is_tiny(x), x, _at_edges(found, x, -1.0))


def softplus(x: Expr) -> Expr:
    """log(1 + e^x) without overflow."""
    return maximum(x, 0.0) + log1p(exp(-magnitude(x)))


# --- roots and signs ------------------------------------------------------------------------------


def sqrt(x: Expr) -> Expr:
    """Square root, correctly rounded."""
    return unary("sqrt", x)


def rsqrt(x: Expr) -> Expr:
    """1 / sqrt(x)."""
    return 1.0 / sqrt(x)


def sign(x: Expr) -> Expr:
    """-1, 0 or 1; NaN stays."""
    one = constant(1, x.type)
    found = select(x > 0, one, constant(0, x.type))
    if x.type is Element.U8:
        return found
    found = select(x < 0, constant(-1, x.type), found)
    return select(is_nan(x), x, found) if x.type.is_float else found
