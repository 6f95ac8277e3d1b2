"""Few rows times a large matrix: two sums, so that who has updated half of its rows reads these."""

from dataclasses import dataclass

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.types import Element

_PARTS = 2  # as products are shared by halves


@dataclass(frozen=True, slots=True)
class ProductsInParts:
    """Cut `x @ w` into products of halves of the summed axis, and their sum.

    With few samples, x and the result are small and w is what has to come. Cores that share the
    product by rows of x read all of w, and by its columns every other piece of a row; but the rows
    of w are shared in halves by its gradient and update, and lie in the caches of those who did
    them. (Of 784 x 256 weights and 32 samples: 39 microseconds, not 86.) The bits depend on the
    number of parts, which is always the same, and not on the cores.

    Leaves alone: what has many rows, where reading w is the lesser part; small matrices; those that
    are read the other way round, of which halves of the result are halves of the rows already; and
    numbers of 16 bits, whose parts would be rounded.

    Attributes:
        most_rows: of x.
        least_entries: of w.
    """

    most_rows: int = 64
    least_entries: int = 1 << 15

    def run(self, graph: Graph) -> Graph:
        """Return the graph with such products in parts."""
        return graph.rewrite(self._cut)

    def _cut(self, node: Node, builder: GraphBuilder) -> int:
        if node.op != "matmul" or not self._is_worth(*(builder[v] for v in node.inputs)):
            return builder.keep(node)
        several = node.type.with_shape((Dim.of(_PARTS), *node.type.shape))
        made = builder.instead_of(node, "partial_matmul", several, node.inputs, {"parts": _PARTS})
        return builder.instead_of(node, "sum", node.type, (made,), {"axes": (0,), "keep": False})

    def _is_worth(self, a: Node, b: Node) -> bool:
        if (a.type.rank, b.type.rank) != (2, 2) or "transpose" in {a.op, b.op}:
            return False
        (rows, depth), (_, columns) = a.type.sizes, b.type.sizes
        is_large = rows <= self.most_rows and depth * columns >= self.least_entries
        return is_large and not depth % _PARTS and a.type.element in {Element.F32, Element.F64}
