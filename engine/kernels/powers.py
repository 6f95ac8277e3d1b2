"""Powers, remainders and the error function as expressions, to 2 ulp.

f32 goes through f64, whose logarithm and exponential are exact enough; f64 takes the logarithm to
twice its precision.
"""

import math
from fractions import Fraction

from fml.engine.ir.types import F32
from fml.engine.kernels.erfcx import ERFCX
from fml.engine.kernels.expr import (
    Expr,
    bits,
    constant,
    convert,
    fma,
    minimum,
    select,
    unary,
)
from fml.engine.kernels.maths import (
    F64,
    FORMATS,
    exp,
    exp_of_sum,
    is_nan,
    log,
    magnitude,
    polynomial,
    split,
    with_sign_of,
)

Pair = tuple[Expr, Expr]


def power(x: Expr, y: Expr) -> Expr:
    """x to the power of y, in floating point, with what C's `pow` is at the edges."""
    wide_x, wide_y = convert(x, F64), convert(y, F64)
    size = magnitude(wide_x)
    narrow = x.type is F32
    found = convert(exp(wide_y * log(size)), F32) if narrow else _double_power(size, y)
    whole = unary("floor", y)
    is_whole = whole.equals(y)
    is_odd = is_whole & (unary("floor", y * 0.5) * 2.0).differs(y)
    is_negative = bits(x, FORMATS[x.type].whole) < 0
    found = select(is_negative & is_odd, -found, found)
    found = select((x < 0.0) & ~is_whole & (x > -math.inf), math.nan, found)
    endless = (x.equals(-1.0)) & magnitude(y).equals(math.inf)
    found = select(is_nan(x) | is_nan(y), x + y, found)
    return select(x.equals(1.0) | y.equals(0.0) | endless, 1.0, found)


def _double_power(size: Expr, y: Expr) -> Expr:
    high, low = _log_twice_as_exact(size)
    edge = log(size)  # at 0, infinity and NaN
    is_plain = (size > 0.0) & (size < math.inf)
    high = select(is_plain, high, edge)
    product = y * high
    lost = fma(y, high, -product) + y * select(is_plain, low, 0.0)
    fits = magnitude(product) < 1e4
    return exp_of_sum(product, select(fits, lost, 0.0))


def _log_twice_as_exact(x: Expr) -> Pair:
    """log x as a sum of two numbers, for x above 0 and finite.

    With s = f / (2 + f): 2s + 2s (s^2 / 3 + s^4 / 5 + ...), where s, s^2 and what stands first in
    the parentheses are sums of two numbers (Dekker 1971).
    """
    e, m = split(x)
    f = m - 1.0
    below = f + 2.0
    s = f / below
    s_low = (fma(-s, below, f) - s * (f - (below - 2.0))) / below
    z = s * s
    z_low = fma(s, s, -z) + 2.0 * s * s_low
    rest = z * polynomial(z, [1 / (2 * k + 5) for k in range(10)])
    third = 1 / 3
    p = rest + third
    p_low = (rest - (p - third)) + float(Fraction(1, 3) - Fraction(third))
    w = z * p
    w_low = fma(z, p, -w) + (z * p_low + z_low * p)
    first = 2.0 * s
    second = first * w
    second_low = fma(first, w, -second) + (first * w_low + 2.0 * s_low * w)
    total = first + second
    total_low = (second - (total - first)) + (second_low + 2.0 * s_low)
    scale = e * FORMATS[F64].ln2[0]
    whole = scale + total
    low = (total - (whole - scale)) + (total_low + e * FORMATS[F64].ln2[1])
    high = whole + low
    return high, low - (high - whole)


def modulo(x: Expr, y: Expr) -> Expr:
    """x - y floor(x / y), with the sign of y; exact in f32, in f64 for quotients below 2^53."""
    a, b = convert(x, F64), convert(y, F64)
    left = _remainder(a, b) if x.type is F32 else fma(-unary("floor", a / b), b, a)
    # A quotient was rounded to the nearest whole number, or up to the next one.
    left = select((left < 0.0) & (b > 0.0) | (left > 0.0) & (b < 0.0), left + b, left)
    beyond = magnitude(b).equals(math.inf) & (magnitude(a) < math.inf)
    opposite = (a < 0.0) & (b > 0.0) | (a > 0.0) & (b < 0.0)
    left = select(beyond, select(opposite, b, a), left)
    left = select(left.equals(0.0), with_sign_of(constant(0.0, F64), b), left)
    return convert(left, x.type)


# Powers of 2 by which the divisor grows, from what brings the largest quotient of f32, 2^277, below
# 2^49, so that its inverse in f64 tells the whole number next to a quotient or the one beside it.
_DIVISORS = (228, 180, 132, 84, 36, 0)


def _remainder(a: Expr, b: Expr) -> Expr:
    """What is left of f32's numbers, held in f64, between -b and b; exact.

    Digit by digit, of 48 bits each: what is left has no more bits than a divisor.
    """
    inverse = 1.0 / b
    for power in _DIVISORS:
        quotient = unary("round", a * (inverse * 2.0**-power))
        a = fma(-quotient, b * 2.0**power, a)
    return a


# (erf x - x) / x over x^2 for |x| < 1.1: 0.084 2^-24 of erf x.
_ERF_BELOW = (
    0.12837916612625122,
    -0.37612608075141907,
    0.11283331364393234,
    -0.026842288672924042,
    0.005165678448975086,
    -0.0007809029193595052,
    7.19109593774192e-05,
)
# erfc(x)^(1/8) for 1.1 <= x <= 3.93: 0.14 2^-24 in erfc x.
_ROOT_OF_ERFC = (
    1.001081109046936,
    -0.14597706496715546,
    -0.060033343732357025,
    -0.012480102479457855,
    0.013409988954663277,
    -0.0025802678428590298,
    0.00016013327694963664,
)


def erf(x: Expr) -> Expr:
    """Error function: near 0 a polynomial, from there 1 - erfc |x|."""
    size = magnitude(x)
    if x.type is F32:
        size = minimum(size, 3.93)
        near = fma(size, polynomial(size * size, _ERF_BELOW), size)
        root = polynomial(size, _ROOT_OF_ERFC)
        square = root * root
        fourth = square * square
        found = select(size < 1.1, near, fma(-fourth, fourth, 1.0))
    else:
        found = _double_erf(size)
    return with_sign_of(found, x)


def _double_erf(size: Expr) -> Expr:
    """Up to 1 the series of Taylor (Abramowitz and Stegun 7.1.5); from there 1 - exp(-x^2) q(t).

    q is a fit of erfcx on 1 .. 6 by Chebyshev polynomials in t, which is linear in 1 / (2 + x).
    """
    size = minimum(size, 6.0)
    series = [
        2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(19)
    ]
    near = fma(size, polynomial(size * size, [series[0] - 1.0, *series[1:]]), size)
    t = 9.6 / (size + 2.0) - 2.2
    tail = 1.0 - exp(-(size * size)) * polynomial(t, ERFCX)
    return select(size < 1.0, near, tail)
