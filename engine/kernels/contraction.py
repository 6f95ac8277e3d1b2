"""Sums of products over axes: what matrix products, convolutions and their gradients are.

`Contraction` says what is computed: axes, with the step of each operand along each of them.
`Schedule` says how: the loops, and the tile of the result that is kept in registers while the
products are added up. `contracting.py` turns the two into statements.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis with its size, and what one step along it is in each operand, in entries.

    An operand that does not depend on the axis has the step 0: an axis of `a` and `out` counts
    rows, one of `b` and `out` columns, one of all three is a batch, one of `a` and `b` is summed.
    """

    name: str
    size: int
    a: int = 0
    b: int = 0
    out: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Only where 0 <= offset + step * place + spread * tap < limit is there something to add.

    `place` and `tap` are names of axes; both must be loops, the tile may not span them.
    """

    place: str
    tap: str
    step: int
    spread: int
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Contraction:
    """out[...] = the sum over summed axes of a[...] * b[...].

    Attributes:
        starts: entries of `a`, `b` and `out` where every axis is at 0.
    """

    axes: tuple[Axis, ...]
    windows: tuple[Window, ...] = ()
    starts: tuple[int, int, int] = (0, 0, 0)

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        return next(axis for axis in self.axes if axis.name == name)

    def windows_of(self, name: str) -> list[Window]:
        """The windows that an axis belongs to."""
        return [window for window in self.windows if name in {window.place, window.tap}]


def joined(what: Contraction, first: str, second: str) -> Contraction:
    """Make two axes one, called by both names, if one lies behind the other in every operand."""
    a, b = what.axis(first), what.axis(second)
    if (a.a, a.b, a.out) != (b.size * b.a, b.size * b.b, b.size * b.out):
        return what
    one = Axis(first + second, a.size * b.size, b.a, b.b, b.out)
    others = [axis for axis in what.axes if axis not in (a, b)]
    return replace(what, axes=(*others, one))


Steps = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which loops there are.

    Attributes:
        outer: loops around the tile, outermost first, with their steps. An axis may stand here
            twice, first by blocks. A summed axis here cuts the sum: the parts meet in memory.
        tile: how many entries of an axis are unrolled into registers.
        lanes: the axis along whose entries vectors lie, its step 1 in `out` and `b`, or, where it
            is summed, in `a` and `b`.
        vector: entries of one vector.
        vectors: vectors beside each other in a tile.
        inner: loops over summed axes inside of the tile, outermost first.
        is_padded: `b` may be read as far as whole vectors go; what does not count of the last one
            is left out only where sums are stored.
        ahead: entries from what is read of `b` to what is fetched of it, if not 0.
        falling: the axis whose innermost loop goes from its end to its beginning.
    """

    outer: Steps
    tile: Mapping[str, int]
    lanes: str
    vector: int
    vectors: int
    inner: tuple[str, ...]
    is_padded: bool = False
    ahead: int = 0
    falling: str = ""
