"""Copies of operands in the order in which a contraction reads them."""

from collections.abc import Sequence

from fml.engine.kernels.expr import Buffer, Expr, Load, Var, constant, index, wide
from fml.engine.kernels.loops import For, Statement, Store, Turn

COPY = 0.12  # cycles for an entry whose neighbours are copied with it
TURN = 0.5  # cycles for an entry of a matrix that is turned round
TURN_FAR = 3.5  # the same where it lies in no near cache, and what is made of it neither
FROM_MEMORY = 1.2  # cycles for an entry that is only read, from there
FAR = 1 << 20  # bytes of what is thought to lie there
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


def turned(
    source: Buffer, to: Buffer, rows: int, columns: int, source_step: int, to_step: int,
    square: int, outer: Sequence[tuple[int, int, int]] = (), source_at: Expr | None = None,
    to_at: Expr | None = None,
) -> list[Statement]:  # fmt: skip
    """Turn matrices round: rows `source_step` apart to columns, which lie `to_step` apart.

    Args:
        source: what is read.
        to: what is written.
        rows: entries that lie beside each other in `to`.
        columns: entries that lie beside each other in `source`.
        source_step: from one row to the next one.
        to_step: from one column to the next one.
        square: entries of a vector: so many rows and columns are turned at once.
        outer: size of further axes, with the step along them in `source` and in `to`.
        source_at: where the first matrix begins in `source`.
        to_at: where it begins in `to`.
    """
    variables = [Var(f"matrix{n}") for n in range(len(outer))]
    read, write = source_at or index(0), to_at or index(0)
    for var, (_, a, b) in zip(variables, outer, strict=True):
        read, write = read + var * a, write + var * b
    made: list[Statement] = []
    for row, first_row, last_row, high in _strips("row", rows, square):
        strip: list[Statement] = []
        for column, first, last, wide_ in _strips("column", columns, square):
            block = Turn(
                source, (read + row * source_step) + column, source_step,
                to, (write + column * to_step) + row, to_step, high, wide_,
            )  # fmt: skip
            strip.append(For(column, index(first), index(last), (block,), wide_))
        made.append(For(row, index(first_row), index(last_row), tuple(strip), high))
    for var, (size, _, _) in zip(reversed(variables), reversed(list(outer)), strict=True):
        made = [For(var, index(0), index(size), tuple(made))]
    return made


def _strips(name: str, size: int, step: int) -> list[tuple[Var, int, int, int]]:
    """Whole steps of an axis, and what is left: a variable, its range, how long a step is."""
    whole = size // step * step
    found = [(Var(name), 0, whole, step), (Var(f"{name}_left"), whole, size, size - whole)]
    return [strip for strip in found if strip[2] > strip[1]]
