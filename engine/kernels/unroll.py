"""Folds over few entries written out: windows of images become maps, which others can join."""

from dataclasses import replace
from itertools import product
from math import prod

from fml.engine.kernels.expr import Expr, apply, index
from fml.engine.kernels.nest import Nest, Total, is_by_columns, rewritten, substituted

# Entries of a window of 3 by 3.
_FEW = 9


def unrolled(nest: Nest) -> Nest:
    """A fold over few entries as a map, if lanes can run along the result; else the nest itself."""
    if not nest.over or not 0 < prod(axis.size for axis in nest.over) <= _FEW:
        return nest
    if not is_by_columns(nest):
        return nest
    terms = [
        substituted(nest.value, {a.var: index(i) for a, i in zip(nest.over, place, strict=True)})
        for place in product(*(range(axis.size) for axis in nest.over))
    ]
    total: Expr = terms[0]
    for term in terms[1:]:
        total = apply(nest.combine, total, term)
    if nest.finish is not None:
        made = total
        total = rewritten(nest.finish, lambda part: made if isinstance(part, Total) else None)
    return replace(nest, value=total, over=(), finish=None)
