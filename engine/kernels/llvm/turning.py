"""Blocks of a matrix turned round in vector registers."""

from collections.abc import Sequence
from dataclasses import replace

from fml.engine.ir.types import BOOL
from fml.engine.kernels.expr import INDEX, wide
from fml.engine.kernels.llvm.instructions import Value, Writer, number, vector
from fml.engine.kernels.llvm.memory import Memory
from fml.engine.kernels.loops import Turn


def turn(w: Writer, memory: Memory, block: Turn, read: Value, write: Value, masks: bool) -> None:
    """Write the instructions of a `Turn` whose first entries are at `read` and `write`.

    A square of as many rows as a vector has lanes takes a shuffle an entry's share of a vector for
    each doubling; other shapes are such a square with lanes left out, or, where the machine has no
    masks, go entry by entry.
    """
    lanes = 1 << (max(block.rows, block.columns) - 1).bit_length()
    if block.rows == block.columns == lanes or masks:
        _in_registers(w, memory, block, read, write, lanes)
        return
    none = number(0, wide(block.source.element))
    for row in range(block.rows):
        for column in range(block.columns):
            at = _moved(w, read, row * block.source_step + column)
            value = memory.load(block.source, at, None, none, 1, None)
            to = _moved(w, write, column * block.to_step + row)
            memory.store(block.to, to, value, 1, None)


def _in_registers(
    w: Writer, memory: Memory, block: Turn, read: Value, write: Value, lanes: int
) -> None:
    element = wide(block.source.element)
    none = number(0, element)
    many = Value("zeroinitializer", element, lanes)
    rows = [many] * lanes
    for row in range(block.rows):
        at = replace(_moved(w, read, row * block.source_step), stride=1)
        rows[row] = memory.load(
            block.source, at, None, none, lanes, _first_lanes(block.columns, lanes)
        )
    for column, value in enumerate(_turned(w, rows)[: block.columns]):
        at = replace(_moved(w, write, column * block.to_step), stride=1)
        memory.store(block.to, at, value, lanes, _first_lanes(block.rows, lanes))


def _turned(w: Writer, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square: each bit of a row's number changes places with that of a lane's."""
    found, lanes = list(rows), len(rows)
    step = lanes // 2
    while step:
        for low in range(lanes):
            if low & step:
                continue
            a, b = found[low], found[low + step]
            first = [k if not k & step else lanes + k - step for k in range(lanes)]
            second = [k + step if not k & step else lanes + k for k in range(lanes)]
            found[low], found[low + step] = _chosen(w, a, b, first), _chosen(w, a, b, second)
        step //= 2
    return found


def _chosen(w: Writer, a: Value, b: Value, lanes: Sequence[int]) -> Value:
    """Lanes of two vectors; those of the second are counted on."""
    chosen = ", ".join(f"i32 {lane}" for lane in lanes)
    text = w.put(f"shufflevector {a.typed}, {b.typed}, {vector('i32', len(lanes))} <{chosen}>")
    return replace(a, text=text)


def _first_lanes(count: int, lanes: int) -> Value | None:
    """A mask of the first lanes, if that is not all."""
    if count == lanes:
        return None
    flags = ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(lanes))
    return Value(f"<{flags}>", BOOL, lanes)


def _moved(w: Writer, at: Value, by: int) -> Value:
    return Value(w.put(f"add i64 {at.text}, {by}"), INDEX) if by else at
