"""Places in memory as sums of loop variables times strides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fml.engine.kernels.expr import Apply, Const, Expr, Var, index


@dataclass(frozen=True, slots=True)
class Affine:
    """offset + the sum of stride times variable; no stride is 0."""

    offset: int
    strides: Mapping[Var, int]

    def stride(self, var: Var) -> int:
        """By how much the place grows with a variable."""
        return self.strides.get(var, 0)

    def plus(self, other: "Affine", factor: int = 1) -> "Affine":
        """The sum with a multiple of another."""
        strides = dict(self.strides)
        for var, stride in other.strides.items():
            strides[var] = strides.get(var, 0) + factor * stride
        kept = {var: stride for var, stride in strides.items() if stride}
        return Affine(self.offset + factor * other.offset, kept)

    def renamed(self, old: Sequence[Var], new: Var, stride: int) -> "Affine":
        """Variables that run as one, put together as one; the stride is that of the innermost."""
        kept = {var: s for var, s in self.strides.items() if var not in old}
        return Affine(self.offset, {**kept, **({new: stride} if stride else {})})

    @property
    def expression(self) -> Expr:
        """As an expression."""
        total: Expr = index(0)
        for var, stride in self.strides.items():
            total = total + var * stride
        return total + self.offset


def affine(e: Expr) -> Affine | None:
    """What a place is as a sum; None if it is none."""
    match e:
        case Const(value):
            return Affine(int(value), {})
        case Var():
            return Affine(0, {e: 1})
        case Apply("add", (a, b)):
            return _sum(affine(a), affine(b), 1)
        case Apply("subtract", (a, b)):
            return _sum(affine(a), affine(b), -1)
        case Apply("multiply", (a, b)):
            return _product(affine(a), affine(b))
        case _:
            return None


def _sum(a: Affine | None, b: Affine | None, factor: int) -> Affine | None:
    return None if a is None or b is None else a.plus(b, factor)


def _product(a: Affine | None, b: Affine | None) -> Affine | None:
    if a is None or b is None or (a.strides and b.strides):
        return None
    if a.strides:
        a, b = b, a
    return Affine(0, {}).plus(b, a.offset)
