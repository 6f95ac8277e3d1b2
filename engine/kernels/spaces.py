"""The loops of a fused kernel: outer axes, those of its folds' results, and inner ones, folded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations, product
from math import prod

from fml.engine.kernels.affine import Ranges, affine
from fml.engine.kernels.expr import Expr, Var, index
from fml.engine.kernels.loops import For, Statement
from fml.engine.kernels.nest import (
    Axis,
    Nest,
    Read,
    axes_of,
    flat_place,
    is_by_columns,
    parts_of,
    row_major,
    substituted,
    unflattened,
)


@dataclass(frozen=True, slots=True)
class Space:
    """Outer and inner axes, and the place of an entry that both together have."""

    outer: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    place: Expr
    by_columns: bool

    @property
    def outer_count(self) -> int:
        """How many entries a fold's result has."""
        return prod(axis.size for axis in self.outer)

    @property
    def inner_count(self) -> int:
        """How many entries are folded into each."""
        return prod(axis.size for axis in self.inner)

    @property
    def outer_place(self) -> Expr:
        """The place of a fold's result."""
        return place_of(self.outer)

    @property
    def ranges(self) -> Ranges:
        """How far each variable runs."""
        return {axis.var: axis.size for axis in (*self.outer, *self.inner)}


class Home(Enum):
    """Where a value of a fused kernel is at hand: at every place, or once for all inner places."""

    INNER = "inner"
    OUTER = "outer"


def place_of(axes: Sequence[Axis]) -> Expr:
    """The place that the variables of axes make up, counted in row-major order."""
    return row_major([axis.var for axis in axes], [axis.size for axis in axes])


def around(axes: Sequence[Axis], body: tuple[Statement, ...], lanes: int) -> tuple[Statement, ...]:
    """Loops around a body; the innermost has lanes."""
    for axis in reversed(axes):
        body = (For(axis.var, index(0), index(axis.size), body, lanes=lanes),)
        lanes = 1
    return body


def spaces_of_map(sizes: Sequence[int]) -> Iterator[Space]:
    """The loops over a shape, from the fewest axes to the most."""
    for merged in _merges(sizes):
        inner = axes_of(merged, "i")
        yield Space((), inner, place_of(inner), False)


def spaces_of_fold(fold: Nest) -> Iterator[Space]:
    """The loops of a fold, from the fewest axes to the most."""
    over = tuple(axis.size for axis in fold.over)
    behind = _behind(fold)
    for outer_sizes, inner_sizes in product(_merges(fold.sizes), _merges(over)):
        outer, inner = axes_of(outer_sizes, "o"), axes_of(inner_sizes, "i")
        for cut in range(len(outer) + 1):
            before, after = outer[:cut], outer[cut:]
            if prod(outer_sizes[cut:]) == behind:
                yield Space(outer, inner, place_of((*before, *inner, *after)), behind > 1)
                break


def _behind(fold: Nest) -> int:
    """How many entries of a fold's result lie behind its folded axes, in what it reads.

    All of them where columns are added up, one for rows, and in between for columns of a batch.
    """
    count = prod(fold.sizes)
    if not is_by_columns(fold):
        return 1
    last = fold.over[-1].var
    reads = (p for p in parts_of(fold.value) if isinstance(p, Read) and p.indices)
    strides = {affine(flat_place(read, fold)).stride(last) for read in reads} - {0}
    stride = strides.pop() if len(strides) == 1 else count
    return stride if 1 < stride < count and count % stride == 0 else count


def reads_at_home(fold: Nest, nest: Nest, homes: Sequence[Home | None]) -> bool:
    """Whether a nest, computed in the loops of a fold, reads values where they are at hand.

    `homes` are those of its inputs, in order; what comes from memory has none, and is at hand
    everywhere.
    """
    space = next(spaces_of_fold(fold))
    at = {
        Home.INNER: affine(space.place, space.ranges),
        Home.OUTER: affine(space.outer_place, space.ranges),
    }
    where = _indices(nest, space)
    for part in parts_of(nest.value):
        home = homes[part.place] if isinstance(part, Read) else None
        if home is None:
            continue
        assert isinstance(part, Read)
        place = substituted(flat_place(part, nest), where)
        if part.guard is not None or affine(place, space.ranges) != at[home]:
            return False
    return True


def _indices(nest: Nest, space: Space) -> dict[Var, Expr]:
    """The variables of a nest as indices in the loops of a space."""
    is_inner = prod(nest.sizes) == space.outer_count * space.inner_count and not nest.over
    place = space.place if is_inner and space.inner_count > 1 else space.outer_place
    outer = zip(nest.axes, unflattened(place, nest.sizes), strict=True)
    over = unflattened(place_of(space.inner), [axis.size for axis in nest.over])
    return {axis.var: e for axis, e in (*outer, *zip(nest.over, over, strict=True))}


def _merges(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """A shape with neighbouring axes put together, those with the fewest axes first."""
    sizes = [size for size in sizes if size != 1]
    for count in range(max(len(sizes), 1)):
        for chosen in combinations(range(1, len(sizes)), count):
            ends = [*chosen, len(sizes)]
            begins = [0, *chosen]
            yield tuple(prod(sizes[a:b]) for a, b in zip(begins, ends, strict=True) if a < b)
