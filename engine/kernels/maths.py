"""Functions of one number as expressions: exp and log and what is made of them, to 2 ulp.

No branches, so that any number of lanes is computed at once, by the CPU's vectors as by a GPU's
threads. The way: an argument is reduced to a small interval (Cody and Waite 1980), a polynomial
takes it from there, and the scale is put back in the exponent. Polynomials of f32 are minimax fits
(Remez 1934) whose coefficients were rounded to f32 one after another, from the lowest, the others
fitted anew each time; beside each stand its interval and its largest error. Those of f64 are series
of Taylor, as long as it takes to leave out less than a quarter of an ulp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.expr import (
    INDEX,
    Expr,
    binary,
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
    exp_series: tuple[float, ...]
    log_terms: int

    @property
    def magic(self) -> float:
        """Adding it rounds to a whole number, which then stands in the last bits."""
        return 1.5 * 2.0**self.fraction

    @property
    def exponent_magic(self) -> float:
        """Adding it leaves the exponent's bits of a power of 2 in the last bits."""
        return self.magic + self.bias

    @property
    def least_normal(self) -> float:
        """The smallest number with all bits of its fraction."""
        return 2.0 ** (1 - self.bias)


# (e^r - 1 - r) / r^2 for |r| < 0.347: 0.053 2^-24 of e^r.
_EXP_OF_F32 = (
    0.4999999403953552,
    0.1666652113199234,
    0.041668280959129333,
    0.008368694223463535,
    0.0013819608138874173,
)
_EXP_OF_F64 = tuple(1 / math.factorial(n) for n in range(2, 14))
FORMATS = {
    F32: Format(
        F32, Element.I32, 23, 127, (0.693145751953125, 1.428606765330187e-06), _EXP_OF_F32, 6
    ),
    F64: Format(
        F64, INDEX, 52, 1023, (0.6931471803691238, 1.9082149292705877e-10), _EXP_OF_F64, 12
    ),
}


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


def _reduced(x: Expr, unit: float = 1.0) -> tuple[Expr, Expr]:
    """n with the bias of exponents, in the last bits of a number, and r: x = n u log 2 + r.

    r is at most half of u log 2; u is a power of 2.
    """
    f = FORMATS[x.type]
    shifted = fma(x, 1 / (unit * math.log(2)), f.exponent_magic)
    n = shifted - f.exponent_magic
    high, low = (part * unit for part in f.ln2)
    return shifted, fma(n, -low, fma(n, -high, x))


def _power_of_two(shifted: Expr) -> Expr:
    """2^n, a normal number, from n as `_reduced` has it."""
    f = FORMATS[shifted.type]
    return bits(bits(shifted, f.whole) << constant(f.fraction, f.whole), shifted.type)


def _less_one(r: Expr, unit: float = 1.0) -> Expr:
    """u (exp(r / u) - 1) for |r| < 0.35 u: r + r^2 / 2 u + r^3 / 6 u^2 + ..."""
    series = [c / unit ** (k + 1) for k, c in enumerate(FORMATS[r.type].exp_series)]
    return fma(r * r, polynomial(r, series), r)


def _exp(x: Expr, more: Expr | None = None) -> Expr:
    """e^(x + more) where that is neither too large nor far below the smallest number."""
    f = FORMATS[x.type]
    shifted, r = _reduced(x)
    found = polynomial(r, [1.0, 1.0, *f.exp_series])
    found = found if more is None else fma(found, more, found)
    return binary("scale", found, shifted - f.exponent_magic)


# Where e^x is 0, and where it is infinite.
_ENDS = {F32: (-104.0, 89.0), F64: (-746.0, 710.0)}


def exp(x: Expr) -> Expr:
    """e^x."""
    return exp_of_sum(x)


def exp_of_sum(x: Expr, more: Expr | None = None) -> Expr:
    """e^(x + more), where the second is not larger than an ulp of the first."""
    low, high = _ENDS[x.type]
    return _exp(minimum(maximum(x, low), high), more)


def expm1(x: Expr) -> Expr:
    """e^x - 1, exact for small x: 2^n (e^r - 1) + (2^n - 1)."""
    low, high = (-20.0, 89.0) if x.type is F32 else (-40.0, 710.0)
    shifted, r = _reduced(minimum(maximum(x, low), high))
    # Half of it, since 2^n may be too large where the result is not.
    half = _power_of_two(shifted - 1.0)
    found = fma(_less_one(r), half, half - 0.5) * 2.0
    return select(_is_tiny(x), x, found)


def _exp_of_minus(size: Expr) -> Expr:
    """e^-size for a size that is not negative."""
    return _exp(maximum(-size, _ENDS[size.type][0]))


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-x): by t = e^-|x|, which does not overflow, 1 - t / (1 + t), or t times that."""
    small = _exp_of_minus(magnitude(x))
    factor = select(x < 0.0, small, 1.0)
    return fma(-factor, small / (small + 1.0), factor)


def tanh(x: Expr) -> Expr:
    """By t = (e^2|x| - 1) / 2: t / (t + 1)."""
    size = minimum(magnitude(x), 9.1 if x.type is F32 else 19.1)
    shifted, r = _reduced(size, 0.5)
    power = _power_of_two(shifted)
    grown = fma(_less_one(r, 0.5), power, fma(power, 0.5, -0.5))
    share = grown / (grown + 1.0)
    # t / (t + 1) = t - t t / (t + 1), where for small t an error of the quotient hardly shows.
    found = select(grown < 0.5, fma(-grown, share, grown), share)
    return with_sign_of(found, x)


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


# (log(1 + f) - f) / f^2 for -1/4 <= f <= 1/2: 0.083 2^-24 of log(1 + f).
_LOG_OF_F32 = (
    -0.5,
    0.3333345055580139,
    -0.25000107288360596,
    0.1999083161354065,
    -0.1664692461490631,
    0.14478003978729248,
    -0.131642147898674,
    0.10471309721469879,
    -0.045135438442230225,
)


def _log_by_polynomial(e: Expr, f: Expr) -> Expr:
    """log((1 + f) 2^e) of f32."""
    high, low = FORMATS[F32].ln2
    rest = fma(f * f, polynomial(f, _LOG_OF_F32), e * low)
    return fma(e, high, f + rest)


def log(x: Expr) -> Expr:
    """Natural logarithm."""
    if x.type is F32:
        # 0, infinity and what has no logarithm have an exponent or a significand that tells so.
        return _log_by_polynomial(unary("exponent", x), unary("significand", x) - 1.0)
    return _at_edges(_log_of(x), x, 0.0)


def log1p(x: Expr) -> Expr:
    """log(1 + x): log u for u = 1 + x rounded, and what rounding took away, over u."""
    u = x + 1.0
    if x.type is F32:
        return _log1p_by_polynomial(x, u)
    # The larger of both is taken away first, which is exact.
    lost = select(magnitude(x) < 1.0, x - (u - 1.0), 1.0 - (u - x))
    found = _log_of(u, lost / u)
    return select(_is_tiny(x), x, _at_edges(found, x, -1.0))


def _log1p_by_polynomial(x: Expr, u: Expr) -> Expr:
    """By f = x / 2^e + (1 / 2^e - 1), of which rounding takes next to nothing away."""
    e = unary("exponent", u)
    inverse = _power_of_two(FORMATS[F32].exponent_magic - e)
    # A large x is its own 1 + x; below -1, the significand is NaN.
    is_close = (u >= 0.0) & (e < 30.0)
    f = select(is_close, fma(x, inverse, inverse - 1.0), unary("significand", u) - 1.0)
    return with_sign_of(_log_by_polynomial(e, f), x)


# (log(1 + s) - s) / s^2 for 0 <= s <= 1: 0.089 2^-24 of log(1 + s).
_LOG1P_OF_F32 = (
    -0.4999993145465851,
    0.33330464363098145,
    -0.24958018958568573,
    0.19692102074623108,
    -0.15344882011413574,
    0.10661137104034424,
    -0.05745742470026016,
    0.020086422562599182,
    -0.0032905300613492727,
)


def softplus(x: Expr) -> Expr:
    """log(1 + e^x) without overflow: max(x, 0) + log(1 + e^-|x|)."""
    small = _exp_of_minus(magnitude(x))
    if x.type is F32:
        rest = polynomial(small, _LOG1P_OF_F32)
        return maximum(x, 0.0) + fma(small * small, rest, small)
    return maximum(x, 0.0) + log1p(small)


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
