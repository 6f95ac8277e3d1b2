"""Loops that fold: sums are taken in chunks, so that the error of a long one grows with the root of
its length, and neighbouring iterations go into totals of their own, so that they need not wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fml.engine.kernels.deviations import Deviations
from fml.engine.kernels.expr import Expr, Local, Var, constant, index, minimum
from fml.engine.kernels.loops import Declare, Fold, For, Statement, identity
from fml.engine.kernels.nest import DEVIATIONS, Axis

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
    reach = CHUNK * lanes
    deviations = [
        Deviations.of(term.local, term.value, body) for term in terms if term.combine == DEVIATIONS
    ]
    terms = [term for term in terms if term.combine != DEVIATIONS]
    begun: list[Statement] = [term.begun for term in terms]
    if not axes:
        return [*begun, *body, *(term.fold for term in terms)]
    for each in deviations:
        begun += each.begun(axes, reach, lanes)
    *outer, last = axes
    sums = any(term.combine == "add" for term in terms)
    is_long = last.size > reach and prod(axis.size for axis in axes) > reach
    inner = (
        _chunked(last, body, terms, lanes, deviations)
        if deviations or (sums and is_long)
        else (_plain(last, body, terms, lanes),)
    )
    for axis in reversed(outer):
        inner = (For(axis.var, index(0), index(axis.size), inner),)
    return [*begun, *inner]


def _plain(axis: Axis, body: Sequence[Statement], terms: Sequence[Folded], lanes: int) -> Statement:
    folds = (term.fold for term in terms)
    return For(axis.var, index(0), index(axis.size), (*body, *folds), lanes=lanes)


def _chunked(
    axis: Axis,
    body: Sequence[Statement],
    terms: Sequence[Folded],
    lanes: int,
    deviations: Sequence[Deviations],
) -> tuple[Statement, ...]:
    reach, chunk = CHUNK * lanes, Var("chunk")
    parts = [
        replace(term, local=Local(f"{term.local.name}p", term.local.element)) for term in terms
    ]
    start, stop = chunk * reach, minimum(chunk * reach + reach, index(axis.size))

    inside: list[Statement] = [part.begun for part in parts]
    inside += [statement for each in deviations for statement in each.part_begun]
    folds = (statement for each in deviations for statement in each.folds)
    every = (*body, *(part.fold for part in parts), *folds)
    inside.append(For(axis.var, start, stop, every, lanes=lanes))
    inside += [Fold(t.local, t.combine, p.local) for t, p in zip(terms, parts, strict=True)]
    inside += [statement for each in deviations for statement in each.joined(stop - start)]
    return (For(chunk, index(0), index(-(-axis.size // reach)), tuple(inside)),)
