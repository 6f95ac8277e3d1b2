"""Stores of tiles fetch what the next tile writes.

A line that is written and was not read comes from memory first, and nobody does that ahead of time:
machines foresee reads along a row, not the writes of tile after tile. So the stores of one tile ask
for the lines of the next, and the sums of that are computed meanwhile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fml.engine.kernels.affine import affine
from fml.engine.kernels.expr import Apply, Load
from fml.engine.kernels.independence import Known, all_of, expressions
from fml.engine.kernels.loops import For, If, Kernel, Let, Statement, Store
from fml.engine.kernels.nest import parts_of


def fetching_ahead(kernel: Kernel) -> Kernel:
    """The kernel with stores that fetch ahead, where tiles go along rows that it does not read."""
    read = _read(kernel.body)
    read |= {kernel.buffers[made].name for _, made in kernel.shared}
    read |= {buffer.name for buffer in kernel.buffers[len(kernel.buffers) - len(kernel.scratch) :]}
    written = {s.buffer.name for s in all_of(kernel.body) if isinstance(s, Store)} - read
    if not written:
        return kernel
    return replace(kernel, body=tuple(_fetching(kernel.body, written, None, Known())))


def _read(body: Sequence[Statement]) -> set[str]:
    """The names of buffers that are read."""
    return {
        part.buffer.name
        for statement in all_of(body)
        for e in expressions(statement)
        for part in parts_of(e)
        if isinstance(part, Load)
    }


def _fetching(
    body: Sequence[Statement], written: set[str], tiles: For | None, known: Known
) -> Iterator[Statement]:
    """Statements within a loop over tiles; `known` are the names of indices."""
    for statement in body:
        match statement:
            case Let():
                known = known.behind(statement)
                yield statement
            case For():
                is_once = _is_once(statement)
                around = tiles if is_once or statement.lanes > 1 else statement
                here = known.behind(Let(statement.var, statement.start)) if is_once else known
                inner = _fetching(statement.body, written, around, here)
                yield replace(statement, body=tuple(inner))
            case If():
                inner = _fetching(statement.body, written, tiles, known)
                yield replace(statement, body=tuple(inner))
            case Store(buffer, index) if tiles is not None and buffer.name in written:
                is_along = affine(known.spelt_out(index)).stride(tiles.var) == 1
                yield replace(statement, ahead=tiles.step if is_along else 0)
            case _:
                yield statement


def _is_once(loop: For) -> bool:
    """Whether a loop ends, as can be seen, after its first iteration at the latest."""
    stop = loop.stop
    ends = stop.operands if isinstance(stop, Apply) and stop.function == "minimum" else (stop,)
    lengths = [affine(end).plus(affine(loop.start), -1) for end in ends]
    return any(not length.strides and length.offset <= loop.step for length in lengths)
