"""Copies of operands in the order in which a contraction reads them."""

from collections.abc import Sequence

from fml.engine.kernels.expr import Buffer, Expr, Load, Var, constant, index, wide
from fml.engine.kernels.loops import For, Statement, Store

COPY = 0.12  # cycles for an entry whose neighbours are copied with it
TURN = 1.2  # cycles for an entry whose neighbours go elsewhere
_LANES = 64


def zeroed(buffer: Buffer, size: int) -> Statement:
    """Fill a buffer with zeros."""
    at = Var("zero_at")
    return For(
        at, index(0), index(size), (Store(buffer, at, constant(0, wide(buffer.element))),),
        lanes=_LANES,
    )  # fmt: skip


def copied(
    source: Buffer, source_at: Expr, to: Buffer, to_at: Expr, sizes: Sequence[int],
    source_steps: Sequence[int], to_steps: Sequence[int],
) -> Statement:  # fmt: skip
    """Copy a box of entries: sizes of its axes, and the step of each in both buffers.

    Where the last axis lies without gaps in both, its entries are copied many at once.
    """
    variables = [Var(f"copy{n}") for n in range(len(sizes))]
    for var, a, b in zip(variables, source_steps, to_steps, strict=True):
        source_at, to_at = source_at + var * a, to_at + var * b
    made: Statement = Store(to, to_at, Load(source, source_at))
    lanes = _LANES if source_steps[-1] == to_steps[-1] == 1 else 1
    for var, size in zip(reversed(variables), reversed(sizes), strict=True):
        made = For(var, index(0), index(size), (made,), lanes=lanes)
        lanes = 1
    return made
