"""All operations by name, put together from their families."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fml.engine.ops import (
    binary,
    convolution,
    indexing,
    learners,
    linear,
    pieces,
    pooling,
    random,
    reductions,
    runtime,
    shape,
    unary,
    values,
)
from fml.engine.ops.record import Op


def _by_name(*families: Iterable[Op]) -> Mapping[str, Op]:
    table: dict[str, Op] = {}
    for op in (op for family in families for op in family):
        if op.name in table:
            raise ValueError(f"two operations are called `{op.name}`")
        table[op.name] = op
    return MappingProxyType(table)


FAMILIES = (
    unary, binary, values, shape, pieces, indexing, reductions, linear, convolution, pooling,
    random, learners, runtime,
)  # fmt: skip
OPS: Mapping[str, Op] = _by_name(*(family.OPS for family in FAMILIES))
