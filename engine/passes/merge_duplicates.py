"""Compute each thing once."""

from collections.abc import Hashable
from dataclasses import dataclass

from fml.engine.ir.graph import Attribute, Graph, GraphBuilder, Node
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class MergeDuplicates:
    """Merge nodes of one operation, attributes, inputs, guard and axis.

    Leaves alone: effects. Random draws of different places differ in their path and stay apart.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph without duplicates."""
        seen: dict[Hashable, int] = {}

        def merge(node: Node, builder: GraphBuilder) -> int:
            if OPS[node.op].effect:
                return builder.keep(node)
            key = (
                node.op, node.type, node.inputs, node.guard, node.mapped,
                tuple(sorted((k, _exact(v)) for k, v in node.attributes.items())),
            )  # fmt: skip
            if key not in seen:
                seen[key] = builder.keep(node)
            return seen[key]

        return graph.rewrite(merge)


def _exact(value: Attribute) -> str:
    """A key that tells 1, 1.0, True and the two zeros apart."""
    return repr(value)
