"""Sine and cosine as expressions, to 2 ulp at any angle.

The argument is reduced as Payne and Hanek do (1983), by the digits of 2/pi. The angle is brought
below 2 by taking a power of 2 away, for which the digits move up: a window of them is chosen by the
bits of the exponent. From there it is floating point: each product of a part of the angle with a
piece of the window is exact, and so is what is left of it when multiples of 4 quarter turns are
taken away. Nothing branches, so large angles cost no more than small ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import factorial, inf, nan

from fml.engine.ir.types import F32
from fml.engine.kernels.expr import (
    INDEX,
    Expr,
    bits,
    constant,
    convert,
    fma,
    maximum,
    select,
    unary,
)
from fml.engine.kernels.maths import F64, FORMATS, polynomial

_HALF = -(1 << 27)  # takes away the last 27 bits of 53
_WORD = 64


@dataclass(frozen=True, slots=True)
class _Way:
    """How an element is reduced.

    Attributes:
        exponent: the largest of its angles.
        above: from this power of 2 on, a digit times an angle below 2 is whole full turns.
        piece: bits of a piece; with a part of an angle there are 53 at most.
        pieces: how many there are. Below the point, as many digits as an angle has, as many as
            an angle and a multiple of pi/2 can have alike, and some more.
        terms: of the series of sine and cosine.
    """

    exponent: int
    above: int
    piece: int
    pieces: int
    terms: int

    @property
    def window(self) -> int:
        """Bits of all pieces."""
        return self.piece * self.pieces


_WAYS = {F32: _Way(127, 25, 29, 4, 6), F64: _Way(1023, 54, 26, 7, 9)}


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
    angle, pieces = _pieces(convert(x, F64), way)
    parts = [angle] if x.type is F32 else list(_halves(angle))
    turns: list[Expr] = []
    for place, piece in enumerate(pieces):
        is_large = way.above - place * way.piece > 0
        turns += [_rest(part * piece) if is_large else part * piece for part in parts]
    turn, low = _sum(turns)
    shifted = turn + FORMATS[F64].magic
    quarter = bits(shifted, INDEX) + quarters
    high = turn - (shifted - FORMATS[F64].magic)
    # Much may have been lost on the way; the slopes below are for little.
    r, tail = _radians(*(_two_sum(high, low) if x.type is F64 else (high, low)))
    sine, cosine = _sine(r, tail, way.terms), _cosine(r, tail, way.terms)
    found = select((quarter & 1).equals(0), sine, cosine)
    found = convert(select((quarter & 2).equals(0), found, -found), x.type)
    return select(unary("abs", x) < inf, found, nan)


def _halves(x: Expr) -> tuple[Expr, Expr]:
    """A sum of two numbers of 26 bits each."""
    high = bits(bits(x, INDEX) & constant(_HALF, INDEX), F64)
    return high, x - high


def _pieces(x: Expr, way: _Way) -> tuple[Expr, list[Expr]]:
    """The angle below 2, and the digits of 2/pi for it as a sum, without those of full turns."""
    f = FORMATS[F64]
    word = bits(x, INDEX)
    exponent = ((word >> constant(f.fraction, INDEX)) & 0x7FF) - f.bias
    taken = maximum(exponent, 0)
    angle = bits(word - (taken << constant(f.fraction, INDEX)), F64)
    words = _window(taken, way)
    pieces: list[Expr] = []
    for place in range(way.pieces):
        piece = _cut(words, place * way.piece, way.piece)
        # Put into the last bits of a power of 2 that gives them their weight.
        unit = way.above - (place + 1) * way.piece
        base = 2.0 ** (unit + f.fraction)
        exponent_bits = (unit + f.fraction + f.bias) << f.fraction
        pieces.append(bits(piece | constant(exponent_bits, INDEX), F64) - base)
    return angle, pieces


def _window(taken: Expr, way: _Way) -> list[Expr]:
    """Words with the bits of the window, moved up by so many bits as were taken from the angle."""
    words: list[Expr] = [constant(word, INDEX) for word in _digits(way)]
    step = 1 << (way.exponent.bit_length() - 1)
    while step >= _WORD:
        left = -(-(step - 1 + way.window) // _WORD)
        moves = (taken & step).differs(0)
        ahead = step // _WORD
        words = [select(moves, words[i + ahead], words[i]) for i in range(left)]
        step //= 2
    up = taken & (_WORD - 1)
    down = constant(_WORD - 1, INDEX) - up
    # By one bit at first, since no machine moves by all 64.
    return [(high << up) | ((low >> constant(1, INDEX)) >> down) for high, low in pairwise(words)]


def _cut(words: Sequence[Expr], begin: int, count: int) -> Expr:
    """So many bits from the one at `begin`, counted from the top, as a whole number."""
    word, first = divmod(begin, _WORD)
    beyond = first + count - _WORD
    mask = (1 << count) - 1
    if beyond <= 0:
        return (words[word] >> constant(-beyond, INDEX)) & mask
    high = (words[word] << constant(beyond, INDEX)) & mask
    return high | (words[word + 1] >> constant(_WORD - beyond, INDEX))


def _rest(turns: Expr) -> Expr:
    """What is left when multiples of 4 quarter turns are taken away; exact."""
    return turns - unary("round", turns * 0.25) * 4.0


def _two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """A sum, and what rounding took from it (Knuth 1969)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _sum(terms: Sequence[Expr]) -> tuple[Expr, Expr]:
    """The sum of terms, less multiples of 4 quarter turns, and what rounding took from it."""
    total: Expr = terms[0]
    lost: Expr = constant(0.0, F64)
    for term in terms[1:]:
        total, more = _two_sum(total, term)
        lost = lost + more
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
def _digits(way: _Way) -> tuple[int, ...]:
    """2/pi in words: the bits from 2^above down to where no angle feels them."""
    count = -(-(way.exponent + way.window) // _WORD) + 1
    places = count * _WORD - way.above
    digits = (2 << 2 * places + 200) // _pi(places + 200)
    found: list[int] = []
    for place in range(count):
        word = digits >> (count - 1 - place) * _WORD & ((1 << _WORD) - 1)
        found.append(word - (1 << _WORD) if word >> (_WORD - 1) else word)
    return tuple(found)
