"""Drop what nothing needs."""

from dataclasses import dataclass

from fml.engine.ir.graph import Graph
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class RemoveDead:
    """Keep the outputs, the effects, and all that they need."""

    def run(self, graph: Graph) -> Graph:
        """Return the graph without dead nodes."""
        effects = (node.id for node in graph if OPS[node.op].effect)
        live = graph.ancestors([*graph.outputs.values(), *effects])
        # `rewrite` renumbers the inputs but hands each node over under its old number.
        return graph.rewrite(lambda node, builder: builder.keep(node) if node.id in live else None)
