"""What gradients of several families are made of: undoing broadcasts, reductions and casts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.types import TensorType
from fml.engine.ops.rules import ONE, Dims

if TYPE_CHECKING:
    from fml.engine.ops.build import Value


def sum_to(g: "Value", type: TensorType) -> "Value":
    """Sum a gradient over the axes along which a value of `type` was broadcast."""
    missing = g.type.rank - type.rank
    if missing:
        g = g.call("sum", axes=tuple(range(missing)), keep=False)
    stretched = tuple(
        axis
        for axis, (have, want) in enumerate(zip(g.type.shape, type.shape, strict=True))
        if want == ONE and have != ONE
    )
    return g.call("sum", axes=stretched, keep=True) if stretched else g


def kept(shape: Dims, axes: Sequence[int]) -> Dims:
    """The shape with 1 on the reduced axes."""
    return tuple(ONE if axis in axes else dim for axis, dim in enumerate(shape))


def reshaped(x: "Value", shape: Dims) -> "Value":
    """Reshape, unless it has that shape."""
    return x if x.type.shape == shape else x.call("reshape", shape=shape)


def expand(reduced: "Value", shape: Dims, axes: Sequence[int]) -> "Value":
    """Spread the result of a reduction over the shape that was reduced."""
    return reshaped(reduced, kept(shape, axes)).call("broadcast", shape=shape)


def chosen(condition: "Value", yes: "Value | float", no: "Value | float", like: "Value") -> "Value":
    """`select` whose numbers take the element of `like`."""
    return condition.call("select", like.beside(yes), like.beside(no))


def size_of(dim: Dim, like: "Value") -> "Value":
    """A dimension as a scalar of the element of `like`."""
    element = like.type.element
    return like.builder.call("dim_value", dim=dim, element=element)  # pyright: ignore[reportArgumentType]
