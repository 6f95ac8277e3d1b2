"""Places in memory as sums of loop variables times strides, and quotients of such sums.

What a reshape does to indices, and a broadcast to flat places, are quotients and remainders that
come out as sums again once it is known how far each variable runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from fml.engine.kernels.expr import Apply, Const, Expr, Var, index

# How far a variable runs: from 0 to below this.
Ranges = Mapping[Var, int]


@dataclass(frozen=True, slots=True)
class Affine:
    """offset + the sum of stride times part; no stride is 0.

    A part is a variable, or an expression that is no sum.
    """

    offset: int
    strides: Mapping[Expr, int]

    @property
    def is_plain(self) -> bool:
        """Whether all parts are variables."""
        return all(isinstance(part, Var) for part in self.strides)

    def stride(self, var: Var) -> int:
        """By how much the place grows with a variable."""
        return self.strides.get(var, 0)

    def plus(self, other: "Affine", factor: int = 1) -> "Affine":
        """The sum with a multiple of another."""
        if not other.strides:
            return Affine(self.offset + factor * other.offset, self.strides)
        strides = dict(self.strides)
        for part, stride in other.strides.items():
            strides[part] = strides.get(part, 0) + factor * stride
        kept = {part: stride for part, stride in strides.items() if stride}
        joined = _rejoined(kept)
        return Affine(self.offset + factor * other.offset + joined.offset, joined.strides)

    def divided(self, by: int, ranges: Ranges) -> "tuple[Affine, Affine] | None":
        """Quotient and remainder as sums; None if they are none, as far as can be told."""
        whole = {part: s // by for part, s in self.strides.items() if s % by == 0}
        rest = {part: s for part, s in self.strides.items() if s % by}
        offset = self.offset % by
        reach = _reach(rest, ranges)
        if reach is None or offset + reach >= by:
            return None
        return Affine(self.offset // by, whole), Affine(offset, rest)

    @property
    def expression(self) -> Expr:
        """As an expression."""
        total: Expr = index(0)
        for part, stride in self.strides.items():
            total = total + part * stride
        return total + self.offset


def _rejoined(strides: dict[Expr, int]) -> Affine:
    """Quotients and remainders that belong together put together again.

    x // n * (n s) + x % n * s is x s: a reshape and the one that undoes it.
    """
    if not any(isinstance(part, Apply) for part in strides):
        return Affine(0, strides)
    quotients = {_key(part): part for part in strides if _divisor("quotient", part)}
    if not quotients:
        return Affine(0, strides)
    for part, stride in strides.items():
        by = _divisor("remainder", part)
        if not by:
            continue
        assert isinstance(part, Apply)
        divided = part.operands[0]
        partner = quotients.get(_key_of_quotient(divided, by))
        if partner is not None and strides[partner] == by * stride:
            kept = {p: s for p, s in strides.items() if p is not part and p is not partner}
            return Affine(0, kept).plus(affine(divided), stride)
    return Affine(0, strides)


def _divisor(function: str, part: Expr) -> int:
    match part:
        case Apply(name, (_, Const(value))) if name == function:
            return int(value)
        case _:
            return 0


def _key_of_quotient(divided: Expr, by: int) -> object:
    """The key of `divided // by`, where a quotient of a quotient is one quotient."""
    inner = _divisor("quotient", divided)
    if inner:
        assert isinstance(divided, Apply)
        return "quotient", _key(divided.operands[0]), inner * by
    return "quotient", _key(divided), by


def _key(e: Expr) -> object:
    """What two indices of the same meaning have in common, if they were built alike."""
    match e:
        case Const(value):
            return value
        case Apply(function, operands):
            return function, *map(_key, operands)
        case _:
            return id(e)


def _reach(strides: Mapping[Expr, int], ranges: Ranges) -> int | None:
    """The largest value of a sum that is never negative; None if it may be, or is not known."""
    total = 0
    for part, stride in strides.items():
        size = _size(part, ranges)
        if size is None or stride < 0:
            return None
        total += stride * max(size - 1, 0)
    return total


def _size(part: Expr, ranges: Ranges) -> int | None:
    match part:
        case Var():
            return ranges.get(part)
        case Apply("remainder", (_, Const(value))):
            return int(value)
        case Apply("quotient", (divided, Const(value))):
            inside = affine(divided)
            reach = _reach(inside.strides, ranges)
            return None if reach is None else (inside.offset + reach) // int(value) + 1
        case _:
            return None


def affine(e: Expr, ranges: Ranges | None = None) -> Affine:
    """What a place is as a sum, simplified as far as the ranges of variables allow."""
    known: Ranges = ranges or {}
    match e:
        case Const(value):
            return Affine(int(value), {})
        case Apply("add", (a, b)):
            return affine(a, known).plus(affine(b, known))
        case Apply("subtract", (a, b)):
            return affine(a, known).plus(affine(b, known), -1)
        case Apply("multiply", (a, b)):
            return _product(affine(a, known), affine(b, known))
        case Apply("quotient" | "remainder" as function, (a, Const(value))):
            return _quotient(function, affine(a, known), int(value), known)
        case _:
            return Affine(0, {e: 1})


def _product(a: Affine, b: Affine) -> Affine:
    if a.strides and b.strides:
        return Affine(0, {a.expression * b.expression: 1})
    factor, other = (b.offset, a) if a.strides else (a.offset, b)
    return Affine(0, {}).plus(other, factor)


def _quotient(function: str, a: Affine, by: int, ranges: Ranges) -> Affine:
    place = 0 if function == "quotient" else 1
    both = a.divided(by, ranges)
    if both is not None:
        return both[place]
    factor = _common_factor(a, by, ranges)
    if factor is not None:
        return _by_factor(function, a, by, factor, ranges)
    if any(stride % by and stride < 0 for stride in a.strides.values()):
        # Only the whole is known not to be negative, and quotients are cut off towards 0.
        divided = a.expression
        return Affine(0, {divided // by if function == "quotient" else divided % by: 1})
    # Multiples of the divisor stand outside of a quotient, and leave a remainder alone.
    whole = {part: s // by for part, s in a.strides.items() if s % by == 0}
    rest = Affine(a.offset % by, {part: s for part, s in a.strides.items() if s % by})
    if function == "remainder":
        return Affine(0, {rest.expression % by: 1})
    return Affine(a.offset // by, {**whole, rest.expression // by: 1})


def _common_factor(a: Affine, by: int, ranges: Ranges) -> int | None:
    """The largest factor of a divisor by which a sum can be divided first."""
    factors = sorted({gcd(by, stride) for stride in a.strides.values()}, reverse=True)
    return next((f for f in factors if 1 < f < by and a.divided(f, ranges)), None)


def _by_factor(function: str, a: Affine, by: int, factor: int, ranges: Ranges) -> Affine:
    both = a.divided(factor, ranges)
    assert both is not None
    whole, rest = both
    further = _quotient(function, whole, by // factor, ranges)
    return further if function == "quotient" else rest.plus(further, factor)
