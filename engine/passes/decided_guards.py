"""What is due after every step, or never happens, needs no guard."""

from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.training import Unit
from fml.engine.passes.constants import is_true


@dataclass(frozen=True, slots=True)
class DecidedGuards:
    """Drop guards that are always true, and assignments whose guard is never true.

    `every 1 step` is always due. What else is never carried out is dead once nothing assigns it.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph with the guards that depend on something."""
        return graph.rewrite(_decide)


def _decide(node: Node, builder: GraphBuilder) -> int:
    if _is_always_due(node):
        return builder.add(
            "constant", node.type, (), {"value": True},
            scope=node.scope, phase=node.phase, mapped=node.mapped, span=node.span,
        )  # fmt: skip
    guard = None if node.guard is None else is_true(builder[node.guard])
    if guard is False and node.op == "assign":
        return node.inputs[0]
    return builder.keep(replace(node, guard=None) if guard else node)


def _is_always_due(node: Node) -> bool:
    if node.op != "fires" or node.attributes["unit"] != Unit.STEPS.value:
        return False
    amount = node.attributes["amount"]
    assert isinstance(amount, int | float)
    return amount <= 1
