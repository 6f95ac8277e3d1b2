"""Maps that turn axes round: lanes hold entries of as many rows, and rows are gone along together.

Going along the result line by line, every entry would come from another line of the input, which
is out of the cache before its next entry is wanted.
"""

from collections.abc import Sequence

from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import Load, index
from fml.engine.kernels.loops import For, Let, Statement, Store
from fml.engine.kernels.nest import Axis, parts_of
from fml.engine.kernels.spaces import around


def turned(
    axes: Sequence[Axis], body: Sequence[Statement], vector: int
) -> tuple[Statement, ...] | None:
    """Loops around a body with the axis inside that what is read goes along; None if there is none.

    Lanes, some vectors of them, run along the last axis, which what is stored goes along.
    """
    last = axes[-1] if axes else None
    if last is None or last.size < vector:
        return None
    values = [s.value for s in body if isinstance(s, Let | Store)]
    loads = [p for value in values for p in parts_of(value) if isinstance(p, Load)]
    places = [affine(load.index) for load in {id(load): load for load in loads}.values()]
    inside = next((axis for axis in axes[:-1] if _is_along(axis, last, places)), None)
    if inside is None:
        return None
    line = For(inside.var, index(0), index(inside.size), tuple(body))
    return around([axis for axis in axes if axis is not inside], (line,), 4 * vector)


def _is_along(axis: Axis, last: Axis, places: Sequence[Affine]) -> bool:
    """Whether more is read with neighbours along an axis than along the last one."""
    found = [(place.stride(axis.var), place.stride(last.var)) for place in places]
    along = sum(a == 1 and abs(b) > 1 for a, b in found)
    return along > sum(b == 1 for _, b in found)
