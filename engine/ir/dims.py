"""Symbolic dimensions: polynomials of names with quotients, floors and ceilings.

A `Dim` is a sum of terms with rational coefficients over atoms; an atom is a name, or a floor
or ceiling that is not yet known. Equal polynomials are equal however they were written, so
`==` and `hash` are structural.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Rounded:
    """`floor(of)` or `ceil(of)` of a quotient that is not yet known to be whole."""

    kind: str
    of: "Dim"

    def __str__(self) -> str:
        return f"{self.kind}({self.of})"


Atom: TypeAlias = str | Rounded
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]
Number: TypeAlias = int | Fraction


def _atom_key(atom: Atom) -> tuple[bool, str]:
    return (not isinstance(atom, str), str(atom))


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension: `terms` are (monomial, coefficient), sorted, no coefficient zero.

    Whole coefficients are of type int, for speed.
    """

    terms: tuple[tuple[Monomial, Number], ...]

    @staticmethod
    def of(value: "Dim | Number | str") -> "Dim":
        """Make a dimension of a number, a name or a dimension."""
        if isinstance(value, Dim):
            return value
        return _named(value) if isinstance(value, str) else _constant(value)

    @property
    def constant(self) -> Number | None:
        """The number that this is, or None where names remain."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    @property
    def size(self) -> int | None:
        """The whole number that this is, or None (names remain, or not whole)."""
        value = self.constant
        return int(value) if value is not None and value.denominator == 1 else None

    @property
    def name(self) -> str | None:
        """The single name that this is, or None."""
        if len(self.terms) != 1:
            return None
        monomial, coefficient = self.terms[0]
        if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
            return None
        atom = monomial[0][0]
        return atom if isinstance(atom, str) else None

    def names(self) -> frozenset[str]:
        """All names mentioned, those inside floors and ceilings too."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                found |= {atom} if isinstance(atom, str) else atom.of.names()
        return frozenset(found)

    def __add__(self, other: "Dim | int") -> "Dim":
        total = dict(self.terms)
        for monomial, coefficient in Dim.of(other).terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return _make(total)

    def __radd__(self, other: int) -> "Dim":
        return self + other

    def __neg__(self) -> "Dim":
        return _make({m: -c for m, c in self.terms})

    def __sub__(self, other: "Dim | int") -> "Dim":
        return self + -Dim.of(other)

    def __mul__(self, other: "Dim | Number") -> "Dim":
        other = Dim.of(other)
        numbers = self.constant, other.constant
        if numbers[0] is not None and numbers[1] is not None:
            return _constant(numbers[0] * numbers[1])
        total: dict[Monomial, Number] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                monomial = _times(left, right)
                total[monomial] = total.get(monomial, 0) + a * b
        return _make(total)

    def __rmul__(self, other: Number) -> "Dim":
        return self * other

    def __truediv__(self, other: "Dim | int") -> "Dim":
        """Exact quotient.

        Raises:
            ZeroDivisionError: the divisor is 0.
            ValueError: the divisor is a sum that does not divide this exactly.
        """
        divisor = Dim.of(other)
        if not divisor.terms:
            raise ZeroDivisionError("division of a dimension by 0")
        if self == divisor:
            return Dim.of(1)
        if len(divisor.terms) == 1:
            monomial, coefficient = divisor.terms[0]
            inverse: Monomial = tuple((atom, -power) for atom, power in monomial)
            return self * _make({inverse: Fraction(1) / coefficient})
        return _divide_by_sum(self, divisor)

    def __pow__(self, power: int) -> "Dim":
        """Raise to a whole power of at least 0."""
        result = Dim.of(1)
        for _ in range(power):
            result = result * self
        return result

    def floor(self) -> "Dim":
        """Round down; stays an atom while names remain in a quotient."""
        return _rounded("floor", self)

    def ceil(self) -> "Dim":
        """Round up; stays an atom while names remain in a quotient."""
        return _rounded("ceil", self)

    def substitute(self, values: Mapping[str, "Dim | int"]) -> "Dim":
        """Replace names by dimensions or numbers."""
        if not values or not self.names() & values.keys():
            return self
        total = Dim.of(0)
        for monomial, coefficient in self.terms:
            term = Dim.of(coefficient)
            for atom, power in monomial:
                factor = _substitute_atom(atom, values)
                base = factor ** abs(power)
                term = term * base if power > 0 else term / base
            total = total + term
        return total

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, coefficient in self.terms:
            term = _term_text(monomial, abs(coefficient))
            sign = " - " if coefficient < 0 else " + "
            text += (sign if text else sign.strip().replace("+", "")) + term
        return text


Shape: TypeAlias = tuple[Dim, ...]


@lru_cache(1024)
def _named(name: str) -> Dim:
    return Dim(((((name, 1),), 1),))


@lru_cache(1024)
def _constant(value: Number) -> Dim:
    return _make({(): value})


def _make(terms: Mapping[Monomial, Number]) -> Dim:
    kept = [(m, c.numerator if c.denominator == 1 else c) for m, c in terms.items() if c]
    if len(kept) < 2:
        return Dim(tuple(kept))
    # Higher degrees first and the constant last, as people write polynomials.
    kept.sort(key=lambda t: (-sum(p for _, p in t[0]), [(_atom_key(a), -p) for a, p in t[0]]))
    return Dim(tuple(kept))


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda t: _atom_key(t[0])))


def _divide_by_sum(dividend: Dim, divisor: Dim) -> Dim:
    """Long division by the leading term; exact or a ValueError."""
    quotient, rest = Dim.of(0), dividend
    lead = Dim((divisor.terms[0],))
    for _ in range(64):
        if not rest.terms:
            return quotient
        step = Dim((rest.terms[0],)) / lead
        if any(power < 0 for m, _ in step.terms for _, power in m):
            break
        quotient, rest = quotient + step, rest - step * divisor
    raise ValueError(f"{dividend} is not a multiple of {divisor}")


def _rounded(kind: str, value: Dim) -> Dim:
    number = value.constant
    if number is not None:
        return Dim.of(math.floor(number) if kind == "floor" else math.ceil(number))
    # Whole terms come out of the rounding: floor(H/2 + 1) = floor(H/2) + 1.
    whole = {m: c for m, c in value.terms if _is_whole(m, c)}
    rest = {m: c for m, c in value.terms if m not in whole}
    if () in rest:
        outside = math.floor(rest[()])
        whole[()] = whole.get((), 0) + outside
        rest[()] -= outside
    if not rest:
        return value
    broken = _make(rest)
    if broken.constant is not None:
        return _make(whole) + _rounded(kind, broken)
    atom = Rounded(kind, broken)
    return _make(whole) + Dim(((((atom, 1),), 1),))


def _is_whole(monomial: Monomial, coefficient: Number) -> bool:
    return coefficient.denominator == 1 and all(power > 0 for _, power in monomial)


def _substitute_atom(atom: Atom, values: Mapping[str, Dim | int]) -> Dim:
    if isinstance(atom, str):
        return Dim.of(values.get(atom, atom))
    return _rounded(atom.kind, atom.of.substitute(values))


def _term_text(monomial: Monomial, coefficient: Number) -> str:
    above = [_power_text(a, p) for a, p in monomial if p > 0]
    below = [_power_text(a, -p) for a, p in monomial if p < 0]
    if coefficient.numerator != 1 or not above:
        above.insert(0, str(coefficient.numerator))
    if coefficient.denominator != 1:
        below.insert(0, str(coefficient.denominator))
    text = "*".join(above)
    if not below:
        return text
    return f"{text}/{below[0]}" if len(below) == 1 else f"{text}/({'*'.join(below)})"


def _power_text(atom: Atom, power: int) -> str:
    return str(atom) if power == 1 else f"{atom}^{power}"
