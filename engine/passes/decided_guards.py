"""What is due after every step needs no guard."""

from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.training import Unit
from fml.engine.passes.constants import is_true


@dataclass(frozen=True, slots=True)
class DecidedGuards:
    """Drop guards that are always true; `every 1 step` is always due.

    `Simplify` drops assignments whose guard is never true.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph without guards that are always true."""
        return graph.rewrite(_decide)


def _decide(node: Node, builder: GraphBuilder) -> int:
    if _is_always_due(node):
        return builder.instead_of(node, "constant", node.type, (), {"value": True})
    is_always = node.guard is not None and is_true(builder[node.guard])
    return builder.keep(replace(node, guard=None) if is_always else node)


def _is_always_due(node: Node) -> bool:
    if node.op != "fires" or node.attributes["unit"] != Unit.STEPS.value:
        return False
    amount = node.attributes["amount"]
    assert isinstance(amount, int | float)
    return amount <= 1
