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
        return graph.restricted_to([*graph.outputs.values(), *effects])
