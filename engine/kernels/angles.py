"""Sine and cosine as expressions, to 2 ulp at any angle of f32 and at angles below 2^63 of f64.

The argument is reduced as Payne and Hanek do (1983), by the digits of 2/pi, in floating point:
each product of x with a piece of 2/pi is exact, and so is what is left of it when multiples of 4
quarter turns are taken away. No table is looked up and nothing branches, so large angles cost no
more than small ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import factorial

from fml.engine.ir.types import F32
from fml.engine.kernels.expr import INDEX, Expr, bits, constant, convert, fma, select, unary
from fml.engine.kernels.maths import F64, FORMATS, polynomial

# Angles of f64 are right below this power of 2.
REACH = 63
_MASK = -(1 << 27)


@dataclass(frozen=True, slots=True)
class _Way:
    """How an element is reduced: bits of a piece, and how far up its angles go."""

    piece: int
    reach: int
    terms: int


# A piece of 2/pi and a part of x have 53 bits together at most.
_WAYS = {F32: _Way(29, 128, 6), F64: _Way(26, REACH, 9)}


def sin(x: Expr) -> Expr:
    """Sine of an angle in radians."""
    found = _turned(x, 0)
    # Small angles are their own sine, and 0 keeps its sign.
    return select(unary("abs", x) < 2.0**-28, x, found)


def cos(x: Expr) -> Expr:
    """Cosine of an angle in radians."""
    return _turned(x, 1)


def _turned(x: Expr, quarters: int) -> Expr:
    """The sine of x and so many quarter turns."""
    way = _WAYS[x.type]
    wide = convert(x, F64)
    parts = [wide] if x.type is F32 else list(_halves(wide))
    turn, low = _sum([_rest(part * piece) for piece in _pieces(way) for part in parts])
    shifted = turn + FORMATS[F64].magic
    quarter = bits(shifted, INDEX) + quarters
    high = turn - (shifted - FORMATS[F64].magic)
    r, tail = _radians(high, low)
    sine, cosine = _sine(r, tail, way.terms), _cosine(r, tail, way.terms)
    found = select((quarter & 1).equals(0), sine, cosine)
    return convert(select((quarter & 2).equals(0), found, -found), x.type)


def _halves(x: Expr) -> tuple[Expr, Expr]:
    """A sum of two numbers of 26 bits each."""
    high = bits(bits(x, INDEX) & constant(_MASK, INDEX), F64)
    return high, x - high


def _rest(turns: Expr) -> Expr:
    """What is left when multiples of 4 quarter turns are taken away; exact."""
    return turns - unary("round", turns * 0.25) * 4.0


def _sum(terms: Sequence[Expr]) -> tuple[Expr, Expr]:
    """The sum of terms, and what rounding took from it (Knuth's two-sum)."""
    total: Expr = terms[0]
    lost: Expr = constant(0.0, F64)
    for term in terms[1:]:
        new = total + term
        back = new - total
        lost = lost + ((total - (new - back)) + (term - back))
        total = new
    # More than 2 quarter turns may have come together.
    return _rest(total), lost


def _radians(turn: Expr, low: Expr) -> tuple[Expr, Expr]:
    """Quarter turns in radians: a number and what rounding took from it."""
    half_pi, more = _digits_of_half_pi()
    r = turn * half_pi
    tail = fma(turn, half_pi, -r) + fma(turn, more, low * half_pi)
    return r, tail


def _sine(r: Expr, tail: Expr, terms: int) -> Expr:
    """Taylor's series; the slope of the sine at r is 1 - r^2 / 2, nearly."""
    square = r * r
    series = [(-1) ** (k + 1) / factorial(2 * k + 3) for k in range(terms - 1)]
    cube = square * r
    slope = tail * fma(square, -0.5, 1.0)
    return r + fma(cube, polynomial(square, series), slope)


def _cosine(r: Expr, tail: Expr, terms: int) -> Expr:
    """Taylor's series: 1 - r^2 / 2 is rounded, and what that takes away is put back."""
    square = r * r
    series = [(-1) ** k / factorial(2 * k + 4) for k in range(terms - 1)]
    half = square * 0.5
    lead = 1.0 - half
    lost = (1.0 - lead) - half
    rest = fma(square * square, polynomial(square, series), -r * tail)
    return lead + (lost + rest)


@cache
def _pi(bits_: int) -> int:
    """pi 2^bits, rounded down, by Machin's formula: 16 arctan(1/5) - 4 arctan(1/239)."""
    extra = bits_ + 32

    def arctan_of_inverse(n: int) -> int:
        term = total = (1 << extra) // n
        k, way = 1, -1
        while term:
            term //= n * n
            k += 2
            total += way * (term // k)
            way = -way
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> 32


@cache
def _digits_of_half_pi() -> tuple[float, float]:
    """pi / 2 as a sum of two numbers."""
    exact = Fraction(_pi(200), 1 << 201)
    high = float(exact)
    return high, float(exact - Fraction(high))


@cache
def _pieces(way: _Way) -> tuple[float, ...]:
    """2/pi as a sum of numbers of so many bits, down to where no angle feels it."""
    count = -(-(way.reach + 120) // way.piece)
    last = count * way.piece
    exact = Fraction(2 << 400, _pi(400))
    digits = exact.numerator * (1 << last) // exact.denominator
    found: list[float] = []
    for place in range(count):
        below = last - (place + 1) * way.piece
        piece = digits >> below
        digits -= piece << below
        found.append(float(Fraction(piece, 1 << (last - below))))
    return tuple(found)
