"""Sizes of tiles: as many sums in registers as there is room for, and little left over.

Costs are cycles of a machine with two multiply-adds and two loads a cycle and four cycles from a
sum to the next one; what matters is their order, which is the same on all machines of interest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from fml.engine.ir.types import Element
from fml.engine.kernels.expr import wide
from fml.engine.kernels.llvm.host import Host

_LATENCY = 4.0
_STORE = 1.5  # for one vector of a tile: what comes before and after its sum
_FOLD = 5.0  # lanes of one sum put together
_LINE = 0.3  # for a vector that may not be in the first cache
_LOAD = 0.16  # for each read beside multiply-adds, where vectors have 512 bits
_TILE = 12.0  # loops, addresses, a wrong guess at the end
_UNEVEN = 1.1  # the longer half of the work over the mean of both
_PENALTY = 1.25  # where it is more
_MANY = 64  # repetitions, from which on only whether they are odd matters
_VARIANT = 1.01  # another piece of code has to gain this much


@dataclass(frozen=True, slots=True)
class Tile:
    """Entries of every axis in registers, vectors beside each other, and what it costs."""

    axes: Mapping[str, int]
    vectors: int
    cycles: float


Sizes = Sequence[tuple[str, int]]


def vector_of(element: Element, host: Host) -> int:
    """Entries of a vector register."""
    return host.vector_bytes // (8 if wide(element) in {Element.F64, Element.I64} else 4)


def broadcast_tile(
    rows: Sizes, columns: int, depth: int, vector: int, host: Host,
    vectors: Sequence[int] = range(1, 7), passes: int = 1,
) -> Tile:  # fmt: skip
    """Rows times vectors of columns: every entry of `a` is spread over a vector and used for each.

    Args:
        rows: axes that may be unrolled, with their sizes.
        columns: size of the axis along which vectors lie.
        depth: products of a sum.
        vector: entries of a vector.
        host: the machine.
        vectors: how many may lie beside each other.
        passes: how often a sum is begun again, and put together with what there was.
    """
    best: Tile | None = None
    wide_enough = max(1, -(-columns // vector))
    load = _load(host)
    for beside in vectors:
        if beside > wide_enough:
            break
        for tile in _tiles(rows, (host.vector_registers - 2 - beside) // beside):
            cycles, variants = 0.0, 0
            for count, across in _cut(wide_enough, beside):
                for number, high in _pieces(rows, tile):
                    sums, loads = high * across, high + across
                    each = max(sums / 2, loads / 2, _LATENCY) + load * loads
                    each += _LINE * (across + high / vector)
                    around = passes * (sums * _STORE + _TILE)
                    cycles += count * number * (depth * each + around)
                    variants += 1
            best = _better(best, Tile(tile, beside, cycles * _VARIANT**variants))
    assert best is not None
    return best


def folded_tile(rows: Sizes, columns: Sizes, depth: int, vector: int, host: Host) -> Tile:
    """Rows times columns, where vectors lie along the sum and are folded at its end."""
    best: Tile | None = None
    load = _load(host)
    steps = -(-depth // vector)
    for across in _tiles(columns, 8):
        width = _size(across)
        for tile in _tiles(rows, (host.vector_registers - 1 - width) // width):
            cycles, variants = 0.0, 0
            for count, wide_ in _pieces(columns, across):
                for number, high in _pieces(rows, tile):
                    sums, loads = high * wide_, high + wide_
                    each = max(sums / 2, loads / 2, _LATENCY) + (_LINE + load) * loads
                    cycles += count * number * (steps * each + sums * _FOLD + _TILE)
                    variants += 1
            best = _better(best, Tile({**tile, **across}, 1, cycles * _VARIANT**variants))
    assert best is not None
    return best


def unevenness(parts: Sequence[int], times: int = 1) -> float:
    """What to multiply the cycles of parts of such sizes with, which repeat so many times.

    Of two cores one does the first half of the parts. How much longer it takes than half of the
    work matters only if there are two cores; more than a tenth is not worth it.
    """
    every = [*parts] * (times if times < _MANY else _MANY + times % 2)
    first = sum(every[: len(every) // 2])
    return 1.0 if 2 * max(first, sum(every) - first) <= _UNEVEN * sum(every) else _PENALTY


def _load(host: Host) -> float:
    return _LOAD if host.vector_bytes == 64 else 0.0


def _better(best: Tile | None, found: Tile) -> Tile:
    return found if best is None or found.cycles < best.cycles else best


def _tiles(axes: Sizes, room: int) -> Iterator[dict[str, int]]:
    """Every way to unroll axes into at most `room` entries."""
    ranges = [range(1, max(1, min(size, room)) + 1) for _, size in axes]
    for sizes in product(*ranges):
        tile = {name: size for (name, _), size in zip(axes, sizes, strict=True)}
        if _size(tile) <= max(1, room):
            yield tile


def _size(tile: Mapping[str, int]) -> int:
    size = 1
    for n in tile.values():
        size *= n
    return size


def _pieces(axes: Sizes, tile: Mapping[str, int]) -> list[tuple[int, int]]:
    """How many tiles of how many entries there are."""
    found = [(1, 1)]
    for name, size in axes:
        found = [
            (number * count, high * n)
            for number, high in found
            for count, n in _cut(size, tile[name])
        ]
    return found


def _cut(size: int, step: int) -> list[tuple[int, int]]:
    """Whole steps, and what is left."""
    return [(n, s) for n, s in ((size // step, step), (1, size % step)) if n and s]
