"""On which side of a picture each node stands: a learner's, the central one, or neither.

What passes from one side to another is where learners and central model wait for one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ops import rules

EACH_LEARNER, CENTRAL = "each learner", "central"
_ACROSS = frozenset({"learners_reduce", "learners_roll"})
_NOBODY: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sides:
    """The frame that each node of a graph stands in, by its heading; none is ''.

    `awaited` are the nodes that somebody else's work goes before: they depend on a variable or on
    a batch, and not on counters alone, which all know without asking. `pushes` are the assignments
    of a learner to a central variable.
    """

    graph: Graph
    of: Mapping[int, str]
    awaited: frozenset[int]
    pushes: frozenset[int]

    def is_synchronisation(self, node: Node) -> bool:
        """Whether a node is where learners meet: a reduction over them, a shift, a push."""
        return node.op in _ACROSS or node.id in self.pushes

    def crosses(self, source: Node, target: Node) -> bool:
        """Whether the use of a value is a synchronisation: it leaves its side for another."""
        one, other = self.of[source.id], self.of[target.id]
        shifts = target.op == "learners_roll"
        return bool(one and other) and (one != other or shifts) and source.id in self.awaited

    def purpose(self, guard: int, side: str) -> str:
        """What the nodes of a side do for the others under a condition, in a word; mostly ''."""
        graph = self.graph
        nodes = [n for n in graph if n.guard == guard and self.of[n.id] == side]
        gives = any(self.crosses(n, graph[u]) for n in nodes for u in graph.users(n.id))
        taking = [n for n in nodes if any(self.crosses(graph[i], n) for i in n.inputs)]
        if not taking:
            return ""
        if side == CENTRAL:
            return "central update"
        is_copy = all(n.op == "assign" for n in taking)
        return "correction" if gives else "copy back" if is_copy else "update from the central one"


def sides(
    graph: Graph, heading: str = EACH_LEARNER, learner_of: Mapping[int, str] = _NOBODY
) -> Sides:
    """Tell the sides of a graph apart; without learners there are none.

    `heading` is that of the frame of all learners, `learner_of` those of an unrolled graph.
    """
    awaited: set[int] = set()
    found: dict[int, str] = {}
    has_learners = any(node.mapped for node in graph)
    for node in graph:
        if node.op in {"variable", "feed"} or not awaited.isdisjoint(node.needs):
            awaited.add(node.id)
        is_central = has_learners and (node.id in awaited or node.guard is not None)
        own = learner_of.get(node.id, heading)
        found[node.id] = own if node.mapped else CENTRAL if is_central else ""
    central = {n.attributes.get("name") for n in graph.of_op("variable") if not n.mapped}
    pushes = (n.id for n in graph.of_op("assign") if n.mapped and n.attributes["name"] in central)
    return Sides(graph, found, frozenset(awaited), frozenset(pushes))


def unrolled(graph: Graph, learners: int) -> tuple[Graph, Mapping[int, str]]:
    """Write out what each learner has, and return whose each node is by the heading of its frame.

    A reduction reads the values of all learners, a shift that of another; the results are
    numbered, `loss[0]`.
    """
    builder = GraphBuilder(graph.name)
    copies: dict[int, Sequence[int]] = {}
    learner_of: dict[int, str] = {}
    for node in graph:
        copies[node.id] = [
            _copy(builder, graph, node, copies, learner)
            for learner in range(learners if node.mapped else 1)
        ]
        if node.mapped:
            learner_of |= {number: f"learner {k}" for k, number in enumerate(copies[node.id])}
    outputs: dict[str, int] = {}
    for name, number in graph.outputs.items():
        if graph[number].mapped:
            outputs |= {f"{name}[{k}]": copy for k, copy in enumerate(copies[number])}
        else:
            outputs[name] = copies[number][0]
    return builder.finish(outputs), learner_of


def _copy(
    builder: GraphBuilder,
    graph: Graph,
    node: Node,
    copies: Mapping[int, Sequence[int]],
    learner: int,
) -> int:
    """Add one learner's copy of a node, or a central node."""

    def of(number: int, whose: int) -> int:
        return copies[number][whose if graph[number].mapped else 0]

    inputs = tuple(of(number, learner) for number in node.inputs)
    if node.op == "learners_reduce":
        inputs = tuple(copies[node.inputs[0]])
    elif node.op == "learners_roll":
        count = len(copies[node.inputs[0]])
        inputs = (of(node.inputs[0], (learner - rules.as_int(node.attributes["shift"])) % count),)
    guard = None if node.guard is None else of(node.guard, learner)
    return builder.keep(node.placed(node.id, inputs, guard))
