"""Windows of a contraction: which part of a summed axis lies inside of the images.

What lies outside is neither read nor multiplied.
"""

from collections.abc import Mapping

from fml.engine.kernels.contraction import Contraction
from fml.engine.kernels.expr import Expr, Var, index, maximum, minimum
from fml.engine.kernels.loops import Let


def clipped(
    what: Contraction, name: str, begins: Mapping[str, Expr], ends: Mapping[str, Expr]
) -> tuple[Expr, Expr, list[Let]]:
    """The range of a summed axis without what windows leave out, and what it is made of.

    `begins` and `ends` are the ranges of all axes. Of two summed axes of a window the inner one is
    clipped.
    """
    begin, end = begins[name], ends[name]
    lets: list[Let] = []
    for window in what.windows_of(name):
        at_place = name == window.place
        other = window.tap if at_place else window.place
        offset = begins[other] * (window.spread if at_place else window.step)
        step = window.step if at_place else window.spread
        low, high = _allowed(offset + window.offset, step, window.limit)
        first, last = Var(f"{name}_first"), Var(f"{name}_last")
        lets += [Let(first, maximum(begin, low)), Let(last, minimum(end, high))]
        begin, end = first, last
    return begin, end, lets


def _allowed(offset: Expr, step: int, limit: int) -> tuple[Expr, Expr]:
    """The x from 0 on with 0 <= offset + step x < limit: from the first, to below the second."""
    zero = index(0)
    if step > 0:
        low = maximum(zero - offset + (step - 1), zero) // step
        return low, maximum(index(limit + step - 1) - offset, zero) // step
    size = -step
    low = maximum(offset - (limit - size), zero) // size
    return low, maximum(offset + size, zero) // size
