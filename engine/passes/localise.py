"""Learners tell the time for themselves: nothing that depends on counters alone makes them wait."""

from dataclasses import dataclass, field, replace
from math import prod

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ops.table import OPS

_COUNTERS = {"counter", "fires", "random_key"}
# What has more entries than this is computed once, and waited for.
_MOST_ENTRIES = 16


@dataclass(frozen=True, slots=True)
class Localise:
    """Double what depends on the run's counters alone where learners read it: rates, what is due.

    The copies are the learners' own. A key of random draws becomes each learner's.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the graph in which mapped nodes read no central counters."""
        if not any(node.mapped for node in graph):
            return graph
        localising = _Localising()
        return graph.rewrite(localising.change)


@dataclass(slots=True)
class _Localising:
    """The copies that one graph needs, made when they are first read."""

    counted: set[int] = field(default_factory=set[int])
    copies: dict[int, int] = field(default_factory=dict[int, int])

    def change(self, node: Node, builder: GraphBuilder) -> int:
        if node.mapped:
            node = self._reading_own(node, builder)
        number = builder.keep(node)
        if not node.mapped and self._is_counted(node):
            self.counted.add(number)
        return number

    def _is_counted(self, node: Node) -> bool:
        op = OPS[node.op]
        if prod(node.type.sizes) > _MOST_ENTRIES or op.effect:
            return False
        if op.runtime:
            return node.op in _COUNTERS
        return node.op == "constant" or self.counted.issuperset(node.needs)

    def _own(self, number: int, builder: GraphBuilder) -> int:
        """What a mapped node reads in place of a central one."""
        node = builder[number]
        if number not in self.counted or node.op == "constant":
            return number
        if number not in self.copies:
            own = self._reading_own(node, builder)
            self.copies[number] = builder.keep(replace(own, mapped=True))
        return self.copies[number]

    def _reading_own(self, node: Node, builder: GraphBuilder) -> Node:
        """The node as it reads each learner's own."""
        inputs = tuple(self._own(value, builder) for value in node.inputs)
        guard = None if node.guard is None else self._own(node.guard, builder)
        return node.placed(node.id, inputs, guard)
