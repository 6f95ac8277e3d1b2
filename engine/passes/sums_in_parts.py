"""Sums over samples and places: first of each sample, so that cores can share them."""

from dataclasses import dataclass
from math import prod

from fml.engine.ir.graph import Graph, GraphBuilder, Node, Phase
from fml.engine.ir.types import Element, TensorType


@dataclass(frozen=True, slots=True)
class SumsInParts:
    """Cut the sum of a gradient over all axes but the last into one of each sample, and their sum.

    Such a sum, a bias's gradient, is made along with the values that it adds up. Its columns fill a
    vector or two and leave nothing to share; samples do. The bits do not depend on the cores.

    Leaves alone: sums of a forward pass, whose squared deviations are added up along with the mean
    (docs/kernels.md); small ones, those of matrices, and numbers of 16 bits, whose parts would be
    rounded.

    Attributes:
        least_entries: of what is added up.
    """

    least_entries: int = 1 << 15

    def run(self, graph: Graph) -> Graph:
        """Return the graph with such sums in parts."""
        return graph.rewrite(self._cut)

    def _cut(self, node: Node, builder: GraphBuilder) -> int:
        if node.op != "sum" or node.phase is not Phase.BACKWARD:
            return builder.keep(node)
        (x,) = (builder[number].type for number in node.inputs)
        if not self._is_worth(x) or node.attributes["axes"] != tuple(range(x.rank - 1)):
            return builder.keep(node)
        places = {"axes": tuple(range(1, x.rank - 1)), "keep": False}
        each = x.with_shape((x.shape[0], x.shape[-1]))
        made = builder.instead_of(node, "sum", each, node.inputs, places)
        samples = {"axes": (0,), "keep": False}
        total = builder.instead_of(node, "sum", x.with_shape(x.shape[-1:]), (made,), samples)
        if not node.attributes["keep"]:
            return total
        shape = {"shape": node.type.shape}
        return builder.instead_of(node, "reshape", node.type, (total,), shape)

    def _is_worth(self, x: TensorType) -> bool:
        if x.rank < 3 or x.element not in {Element.F32, Element.F64}:
            return False
        return x.sizes[0] > 1 and prod(x.sizes) >= self.least_entries
