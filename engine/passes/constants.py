"""Constant nodes as arrays."""

import numpy as np

from fml.engine.ir.graph import Node
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array


def array_of(node: Node) -> Array:
    """Return the array of a constant node of definite type."""
    value = stored(np.asarray(node.attributes["value"], node.type.dtype), node.type)
    if value.shape == node.type.sizes:
        return value
    return np.broadcast_to(value, node.type.sizes)


def is_filled_with(node: Node, number: float) -> bool:
    """Whether a node is a constant of one number everywhere."""
    value = node.attributes.get("value")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return node.op == "constant" and is_number and value == number


def is_true(node: Node) -> bool | None:
    """Whether a bool is true, where that is known."""
    return bool(node.attributes["value"]) if node.op == "constant" else None
