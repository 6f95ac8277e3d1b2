"""Copies of operands in the order in which a contraction reads them."""

from collections.abc import Sequence

from fml.engine.kernels.expr import Buffer, Expr, Load, Var, constant, index, wide
from fml.engine.kernels.loops import For, Statement, Store

COPY = 0.12  # cycles for an entry whose neighbours are copied with it
TURN = 0.9  # cycles for an entry of a matrix that is turned round
_LANES = 64
_BESIDE = 16  # entries from as many rows that are written beside each other


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
    outer: Sequence[tuple[int, int, int]] = (), to_start: int = 0,
) -> list[Statement]:  # fmt: skip
    """Turn matrices round: rows `source_step` apart to columns, which lie `to_step` apart.

    Args:
        source: what is read.
        to: what is written.
        rows: entries that lie beside each other in `to`.
        columns: entries that lie beside each other in `source`.
        source_step: from one row to the next one.
        to_step: from one column to the next one.
        outer: size of further axes, with the step along them in `source` and in `to`.
        to_start: where the first matrix begins in `to`.
    """
    variables = [Var(f"matrix{n}") for n in range(len(outer))]
    source_at, to_at = index(0), index(to_start)
    for var, (_, a, b) in zip(variables, outer, strict=True):
        source_at, to_at = source_at + var * a, to_at + var * b
    made: list[Statement] = []
    whole = rows // _BESIDE * _BESIDE
    for begin, end in ((0, whole), (whole, rows)):
        beside = min(_BESIDE, end - begin)
        if not beside:
            continue
        row, column = Var("row"), Var("column")
        read = (source_at + row * source_step) + column
        write = (to_at + column * to_step) + row
        copies = tuple(
            Store(to, write + n, Load(source, read + n * source_step)) for n in range(beside)
        )
        line = For(column, index(0), index(columns), copies)
        made.append(For(row, index(begin), index(end), (line,), beside))
    for var, (size, _, _) in zip(reversed(variables), reversed(list(outer)), strict=True):
        made = [For(var, index(0), index(size), tuple(made))]
    return made
