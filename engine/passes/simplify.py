"""Algebra that holds for every number, NaN and infinities included."""

from dataclasses import dataclass

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.passes.constants import is_filled_with, is_true


@dataclass(frozen=True, slots=True)
class Simplify:
    """Drop operations that change nothing: x + 0, x - 0, x * 1, x / 1, x ^ 1, --x, and shape
    operations to the shape that is there already; x ^ 2 becomes x * x. An assignment under a
    condition that never holds is none.

    Leaves alone: x * 0, which is NaN for NaN and infinities; x + 0 where x is -0 changes its
    sign only. A constant that broadcasts x to another shape keeps its operation.
    """

    def run(self, graph: Graph) -> Graph:
        """Return the simplified graph."""
        return graph.rewrite(_simplify)


_NEUTRAL_RIGHT = {"add": 0, "subtract": 0, "multiply": 1, "divide": 1, "power": 1}
_NEUTRAL_LEFT = {"add": 0, "multiply": 1}
_SHAPING = {"reshape", "broadcast", "cast", "stop_gradient"}


def _simplify(node: Node, builder: GraphBuilder) -> int:
    if node.guard is not None:
        return node.inputs[0] if _never_assigns(node, builder) else builder.keep(node)
    inputs = [builder[i] for i in node.inputs]
    if _is_neutral(node, inputs, _NEUTRAL_RIGHT, 1):
        return inputs[0].id
    if _is_neutral(node, inputs, _NEUTRAL_LEFT, 0):
        return inputs[1].id
    if node.op == "negate" and inputs[0].op == "negate":
        x = builder[inputs[0].inputs[0]]
        return x.id if _is_alike(x, node) else builder.keep(node)
    if node.op == "power" and _is_alike(inputs[0], node) and is_filled_with(inputs[1], 2):
        return _square(node, builder)
    if node.op in _SHAPING and _is_alike(inputs[0], node):
        return inputs[0].id
    is_idle = node.op == "transpose" and node.attributes["order"] == tuple(range(node.type.rank))
    if is_idle and _is_alike(inputs[0], node):
        return inputs[0].id
    return builder.keep(node)


def _never_assigns(node: Node, builder: GraphBuilder) -> bool:
    if node.op != "assign" or node.guard is None:
        return False
    is_never = is_true(builder[node.guard]) is False
    return is_never and _is_alike(builder[node.inputs[0]], node)


def _is_alike(one: Node, other: Node) -> bool:
    """Whether one may stand for the other: what gives a value to every learner is not idle."""
    return one.type == other.type and one.mapped == other.mapped


def _is_neutral(node: Node, inputs: list[Node], numbers: dict[str, int], place: int) -> bool:
    """Whether the operand at a place is the number that changes nothing of the other."""
    if node.op not in numbers or not _is_alike(inputs[1 - place], node):
        return False
    return is_filled_with(inputs[place], numbers[node.op])


def _square(node: Node, builder: GraphBuilder) -> int:
    x = node.inputs[0]
    return builder.instead_of(node, "multiply", node.type, (x, x))
