"""Who reads a variable's old value comes before what overwrites it, and needs no copy of it."""

from dataclasses import dataclass

from fml.engine.ir.graph import Graph, Node
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class OldValuesFirst:
    """Put nodes that read what an assignment overwrites before it, with all that they need.

    Leaves alone: what needs the new value or another assignment that comes later, and what learners
    assign to in turns, whose order is part of what they do.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph in an order in which fewer old values are read late."""
        order = [*graph]
        for assign in graph.of_op("assign"):
            order = _sooner(graph, order, assign)
        if order == [*graph]:
            return graph
        moved = Graph(graph.name, order, graph.outputs)
        return moved.rewrite(lambda node, builder: builder.keep(node))


def _sooner(graph: Graph, order: list[Node], assign: Node) -> list[Node]:
    """An order with the readers of what a node overwrites before it, as far as they can be."""
    target = _beneath(graph, assign.inputs[0])
    if target is None:
        return order
    at = order.index(assign)
    behind = {node.id for node in order[at:]}
    moved: set[int] = set()
    for node in order[at + 1 :]:
        if OPS[node.op].view or target not in (_beneath(graph, value) for value in node.needs):
            continue
        needed = _needed(graph, node.id, behind)
        if not any(OPS[graph[number].op].effect for number in needed):
            moved |= needed
    if not moved:
        return order
    sooner = [node for node in order[at:] if node.id in moved]
    later = [node for node in order[at:] if node.id not in moved]
    return [*order[:at], *sooner, *later]


def _beneath(graph: Graph, value: int) -> int | None:
    """The value that another one is a view of, or itself; None for a view in a learner's turn."""
    while OPS[graph[value].op].view:
        if graph[value].op in {"learners_turn", "learners_pushed"}:
            return None
        (value,) = graph[value].inputs
    return value


def _needed(graph: Graph, number: int, among: set[int]) -> set[int]:
    """A node and all of some others that it needs."""
    found: set[int] = set()
    to_see = [number]
    while to_see:
        one = to_see.pop()
        if one in among and one not in found:
            found.add(one)
            to_see += graph[one].needs
    return found
