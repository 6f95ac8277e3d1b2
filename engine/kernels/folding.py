"""Loops that fold: sums are taken in chunks, so that the error of a long one grows with the root of
its length, and neighbouring iterations go into totals of their own, so that they need not wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fml.engine.kernels.expr import Expr, Local, Var, constant, index, minimum
from fml.engine.kernels.loops import Declare, Fold, For, Statement, identity
from fml.engine.kernels.nest import Axis

# Terms that one lane adds up before it begins a new chunk.
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Folded:
    """local `combine`= value."""

    local: Local
    combine: str
    value: Expr

    @property
    def begun(self) -> Declare:
        """The local with what a fold begins with."""
        none = identity(self.combine, self.local.element)
        return Declare(self.local, constant(none, self.local.element))

    @property
    def fold(self) -> Fold:
        """The statement."""
        return Fold(self.local, self.combine, self.value)


def folding(
    axes: Sequence[Axis], body: Sequence[Statement], terms: Sequence[Folded], lanes: int
) -> list[Statement]:
    """Begin the totals and loop over the axes; the last one has lanes."""
    if not axes:
        return [*(term.begun for term in terms), *body, *(term.fold for term in terms)]
    *outer, last = axes
    reach = CHUNK * lanes
    sums = any(term.combine == "add" for term in terms)
    is_long = last.size > reach and prod(axis.size for axis in axes) > reach
    inner = (
        _chunked(last, body, terms, lanes)
        if sums and is_long
        else (_plain(last, body, terms, lanes),)
    )
    for axis in reversed(outer):
        inner = (For(axis.var, index(0), index(axis.size), inner),)
    return [*(term.begun for term in terms), *inner]


def _plain(axis: Axis, body: Sequence[Statement], terms: Sequence[Folded], lanes: int) -> Statement:
    folds = (term.fold for term in terms)
    return For(axis.var, index(0), index(axis.size), (*body, *folds), lanes=lanes)


def _chunked(
    axis: Axis, body: Sequence[Statement], terms: Sequence[Folded], lanes: int
) -> tuple[Statement, ...]:
    reach, chunk = CHUNK * lanes, Var("chunk")
    parts = [
        replace(term, local=Local(f"{term.local.name}p", term.local.element)) for term in terms
    ]
    stop = minimum(chunk * reach + reach, index(axis.size))
    folds = (part.fold for part in parts)
    loop = For(axis.var, chunk * reach, stop, (*body, *folds), lanes=lanes)
    whole = (Fold(t.local, t.combine, p.local) for t, p in zip(terms, parts, strict=True))
    inside = (*(part.begun for part in parts), loop, *whole)
    return (For(chunk, index(0), index(-(-axis.size // reach)), inside),)
