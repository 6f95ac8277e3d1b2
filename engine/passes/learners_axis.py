"""What learners do together, as ordinary operations on their values side by side."""

from dataclasses import dataclass
from functools import reduce

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ops.build import Builder, Context, Value

# Two partial results are joined by what they were folded with.
_JOINED = {"sum": "add", "mean": "add", "min": "minimum", "max": "maximum"}


@dataclass(frozen=True, slots=True)
class LearnersAxis:
    """Make the axis `learners` the first axis of central values where it is reduced or shifted.

    A reduction is carried out on each device over its own learners, and then across devices.
    """

    learners: int
    devices: int = 1

    def run(self, graph: Graph) -> Graph:
        """Return the graph without operations that see more than one learner."""
        return graph.rewrite(self._change)

    def _change(self, node: Node, nodes: GraphBuilder) -> int:
        if node.op not in {"learners_reduce", "learners_roll"}:
            return nodes.keep(node)
        builder = Builder(nodes.name, nodes)
        change = self._reduced if node.op == "learners_reduce" else self._rolled
        with builder.under(Context(node.scope, node.phase, guard=node.guard), node.span):
            return change(builder.value(node.inputs[0]), node).id

    def _rolled(self, x: Value, node: Node) -> Value:
        every = x.call("all_learners", first=0, count=self.learners)
        shifted = every.call("roll", axis=0, shift=node.attributes["shift"])
        with x.builder.under(Context(node.scope, node.phase, node.mapped, node.guard)):
            return shifted.call("each_learner")

    def _reduced(self, x: Value, node: Node) -> Value:
        kind = str(node.attributes["kind"])
        each = self.learners // self.devices
        parts = [
            x.call("all_learners", first=device * each, count=each).call(
                "sum" if kind == "mean" else kind, axes=(0,), keep=False
            )
            for device in range(self.devices)
        ]
        total = reduce(lambda a, b: a.call(_JOINED[kind], b), parts)
        return total / float(self.learners) if kind == "mean" else total
