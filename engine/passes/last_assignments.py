"""A variable that is assigned twice is stored once."""

from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class LastAssignments:
    """Drop assignments that another one always overwrites: who reads them reads the new value.

    Leaves alone: an assignment under a guard, and what one under a guard overwrites, which stays
    where that does nothing; what learners assign to a central variable, one after another; what is
    read as a part of something else, as all learners' values are: that is stored in any case, and
    the variable's place is at hand, while another one would have to be fetched.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph with one assignment for each variable, where that can be."""
        viewed = {value for node in graph if OPS[node.op].view for value in node.inputs}
        lost = {n.inputs[0] for n in graph.of_op("assign") if _overwrites_all(graph, n)} - viewed
        old: dict[int, int] = {}  # lost assignment -> the variable, in the new graph

        def change(node: Node, builder: GraphBuilder) -> int:
            if node.op != "assign":
                return builder.keep(node)
            before = old.get(graph[node.id].inputs[0], node.inputs[0])
            if node.id in lost:
                old[node.id] = before
                return node.inputs[1]
            return builder.keep(replace(node, inputs=(before, node.inputs[1])))

        return graph.rewrite(change) if lost else graph


def _overwrites_all(graph: Graph, node: Node) -> bool:
    """Whether a node always assigns to every learner what another one has assigned to."""
    first = graph[node.inputs[0]]
    if first.op != "assign" or first.guard is not None or node.guard is not None:
        return False
    variable = graph[first.inputs[0]]
    while variable.op == "assign":
        variable = graph[variable.inputs[0]]
    of_one_axis = (first, node, graph[first.inputs[1]])
    return all(one.mapped == variable.mapped for one in of_one_axis)
