"""Compute what is known before anything runs."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from fml.engine.ir.graph import Attribute, Graph, GraphBuilder, Node
from fml.engine.ir.types import TensorType
from fml.engine.ops.precision import computed
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.passes.constants import array_of


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Replace nodes whose inputs are all constants by their value.

    Leaves alone: random draws, effects, what the runtime provides, guarded nodes, reductions over
    learners, values above `limit` bytes, and values of sizes that are not known yet.
    """

    limit: int = 1 << 12

    def run(self, graph: Graph) -> Graph:
        """Return the graph with known values computed."""
        return graph.rewrite(self._fold)

    def _fold(self, node: Node, builder: GraphBuilder) -> int:
        op = OPS[node.op]
        inputs = [builder[i] for i in node.inputs]
        known = all(i.op == "constant" for i in inputs) and node.op != "constant"
        if not known or op.runtime or op.effect or op.compute is None or node.guard is not None:
            return builder.keep(node)
        # Across learners a value has as many entries as there are learners.
        if not inputs or op.across_learners or not self._is_small(node.type):
            return builder.keep(node)
        with np.errstate(all="ignore"):
            value = computed(op, [array_of(i) for i in inputs], node.attributes, node.type)
        return builder.instead_of(node, "constant", node.type, (), {"value": as_attribute(value)})

    def _is_small(self, kind: TensorType) -> bool:
        definite = all(dim.size is not None for dim in kind.shape)
        return definite and kind.nbytes <= self.limit


def as_attribute(value: Array) -> Attribute:
    """Return an array as the number that fills it, or else as nested tuples."""
    flat = value.reshape(-1)
    # By their bits: the two zeros are equal, and NaN is not equal to itself.
    if flat.size and flat.tobytes() == flat[:1].tobytes() * flat.size:
        return cast(Attribute, flat[0].item())
    return _nested(value.tolist())


def _nested(value: object) -> Attribute:
    if isinstance(value, list):
        return tuple(_nested(v) for v in cast("list[object]", value))
    return cast(Attribute, value)
