"""What learners do together, as ordinary operations on their values side by side."""

from dataclasses import dataclass

from fml.engine.ir.graph import Attributes, Graph, GraphBuilder, Node
from fml.engine.ir.types import TensorType
from fml.engine.ops.record import OpTypeError
from fml.engine.ops.table import OPS

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

    def _change(self, node: Node, builder: GraphBuilder) -> int:
        match node.op:
            case "learners_reduce":
                return self._reduced(_Beside(node, builder))
            case "learners_roll":
                made = _Beside(node, builder)
                every = made.all_learners(0, self.learners)
                shifted = made.add("roll", (every,), axis=0, shift=node.attributes["shift"])
                return made.add("each_learner", (shifted,), mapped=True)
            case _:
                return builder.keep(node)

    def _reduced(self, made: "_Beside") -> int:
        kind = str(made.node.attributes["kind"])
        each = self.learners // self.devices
        fold = "sum" if kind == "mean" else kind
        parts = [
            made.add(fold, (made.all_learners(device * each, each),), axes=(0,), keep=False)
            for device in range(self.devices)
        ]
        total, *others = parts
        for part in others:
            total = made.add(_JOINED[kind], (total, part))
        if kind != "mean":
            return total
        scalar = made.node.type.with_shape(())
        count = made.constant(float(self.learners), scalar)
        return made.add("divide", (total, count))


@dataclass(frozen=True, slots=True)
class _Beside:
    """Adds nodes in the place of one: of its scope, phase, guard and place in the text."""

    node: Node
    builder: GraphBuilder

    def all_learners(self, first: int, count: int) -> int:
        """The stacked values of the node's input."""
        return self.add("all_learners", (self.node.inputs[0],), first=first, count=count)

    def constant(self, value: float, type: TensorType) -> int:
        return self._put("constant", type, (), {"value": value}, mapped=False)

    def add(
        self, op: str, inputs: tuple[int, ...], *, mapped: bool = False, **given: object
    ) -> int:
        attributes: Attributes = given  # pyright: ignore[reportAssignmentType]
        try:
            type = OPS[op].infer([self.builder[i].type for i in inputs], attributes)
        except OpTypeError as fault:
            raise AssertionError(f"`{op}` in place of `{self.node.op}`: {fault}") from None
        return self._put(op, type, inputs, attributes, mapped=mapped)

    def _put(
        self, op: str, type: TensorType, inputs: tuple[int, ...], given: Attributes, mapped: bool
    ) -> int:
        node = self.node
        return self.builder.add(
            op, type, inputs, given,
            scope=node.scope, phase=node.phase, mapped=mapped, guard=node.guard, span=node.span,
        )  # fmt: skip
