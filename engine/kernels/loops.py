"""Kernels as statements: loops over buffers, locals in registers, lanes beside each other.

A loop nest is scheduled into this form; `llvm/` makes machine code of it, `cuda/` prints CUDA C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.types import Element
from fml.engine.kernels.expr import Buffer, Expr, Local, Operand, Var, index, limits


@dataclass(frozen=True, slots=True)
class Let:
    """Compute once, under a name."""

    var: Var
    value: Expr


@dataclass(frozen=True, slots=True)
class Declare:
    """Begin a local; inside a loop over lanes every lane has its own."""

    local: Local
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Change a local of the same loop over lanes, or one that has no lanes."""

    local: Local
    value: Expr


@dataclass(frozen=True, slots=True)
class Fold:
    """local = local `combine` value, where the lanes of a loop meet in a local outside of it.

    Each lane folds its own share, and the shares are folded in a fixed order behind the loop:
    the bits depend on the lanes, never on cores. `combine` is a key of `IDENTITIES`.
    """

    local: Local
    combine: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """Write an entry; 16-bit floats are rounded to nearest, ties to even.

    With `ahead` above 0, an entry so many places on is fetched, for it will be written soon.
    """

    buffer: Buffer
    index: Expr
    value: Expr
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """Turn a block of a matrix round: to[c to_step + r] = source[r source_step + c].

    For all rows r and columns c, of which there are at most as many as a vector has entries; both
    places are counted from an index of their buffer. It is a statement because machines turn a
    square of registers round in far less time than entry by entry.
    """

    source: Buffer
    source_at: Expr
    source_step: int
    to: Buffer
    to_at: Expr
    to_step: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class For:
    """Repeat for var = start, start + step, ... below stop.

    With `lanes` above 1 (the step is then 1) as many iterations are done at once, which must not
    depend on each other but through `Fold`; the number may exceed what the machine's vectors hold,
    for more of them in flight. Expressions that do not depend on the variable stay scalars.
    """

    var: Var
    start: Expr
    stop: Expr
    body: tuple["Statement", ...]
    step: int = 1
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class If:
    """Do something where a condition holds.

    Where it differs from lane to lane, the others are left out: they read and write nothing, and
    their locals stay as they are.
    """

    condition: Expr
    body: tuple["Statement", ...]


Statement: TypeAlias = Let | Declare | Assign | Fold | Store | Turn | For | If

# What a fold begins with.
IDENTITIES: dict[str, float] = {
    "add": 0.0,
    "multiply": 1.0,
    "maximum": float("-inf"),
    "minimum": float("inf"),
    "and": True,
    "or": False,
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function of buffers and sizes.

    It is called with the addresses of the buffers, in order, then with the sizes as i64. Buffers
    do not overlap, but for those in `shared`: pairs of places whose memory may be one, entry for
    entry.

    Attributes:
        scratch: entries of the last buffers, whose content matters to nobody but the kernel.
        parts: where above 0, the last two sizes are `begin` and `end`: of so many parts of the
            work, all independent of each other, those are done.
    """

    name: str
    buffers: tuple[Buffer, ...]
    body: tuple[Statement, ...]
    sizes: tuple[Var, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()
    scratch: tuple[int, ...] = ()
    parts: int = 0


def loop(
    name: str, stop: Operand, body: Sequence[Statement], var: Var | None = None, lanes: int = 1
) -> For:
    """A loop from 0."""
    end = stop if isinstance(stop, Expr) else index(int(stop))
    return For(var or Var(name), index(0), end, tuple(body), lanes=lanes)


def identity(combine: str, element: Element) -> float:
    """What a fold begins with, in an element that may have no infinities."""
    value = IDENTITIES[combine]
    if element.is_float or abs(value) <= 1:
        return value
    return limits(element)[value > 0]
