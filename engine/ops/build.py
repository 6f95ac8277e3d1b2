"""Building graphs with inferred types: a `Value` is a node under construction.

`x * x + 1` on values adds nodes to their builder; the types come from the operations' records.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.graph import Attribute, Graph, GraphBuilder, Node, Phase
from fml.engine.ir.source import Span
from fml.engine.ir.types import TensorType
from fml.engine.ops.table import OPS

Operand: TypeAlias = "Value | float"


@dataclass(frozen=True, slots=True)
class Context:
    """What new nodes are marked with: scope, phase, axis and guard."""

    scope: str = ""
    phase: Phase = Phase.FORWARD
    mapped: bool = False
    guard: int | None = None


class Builder:
    """Adds operations by name and infers their types.

    New nodes are marked with `context` and with `span`, the place in the text, which changes with
    every expression and so stands apart. A node is mapped over learners if the context is or any
    input is, unless its operation reduces that axis.
    """

    def __init__(self, name: str, nodes: GraphBuilder | None = None) -> None:
        self.nodes = nodes or GraphBuilder(name)
        self.context = Context()
        self.span: Span | None = None

    @contextmanager
    def under(self, context: Context, span: Span | None = None) -> Generator[None]:
        """Mark the nodes added inside with this context, and this span if one is given."""
        outer = self.context, self.span
        self.context, self.span = context, span or self.span
        try:
            yield
        finally:
            self.context, self.span = outer

    def value(self, number: int) -> "Value":
        """Return the handle of a node already added."""
        return Value(self, number)

    def call(self, op: str, *inputs: "Value", **attributes: Attribute) -> "Value":
        """Add an operation.

        Raises:
            OpTypeError: the inputs do not fit together.
        """
        record = OPS[op]
        result = record.infer([v.type for v in inputs], attributes)
        return self.add(op, result, inputs, attributes)

    def add(
        self,
        op: str,
        type: TensorType,
        inputs: Sequence["Value"] = (),
        attributes: Mapping[str, Attribute] | None = None,
    ) -> "Value":
        """Add an operation whose type is given (feeds, variables, constants)."""
        context, nodes = self.context, self.nodes.nodes
        numbers = tuple([value.id for value in inputs])
        mapped = context.mapped or any(nodes[number].mapped for number in numbers)
        number = self.nodes.add(
            op,
            type,
            numbers,
            attributes or {},
            scope=context.scope,
            phase=context.phase,
            mapped=mapped and not OPS[op].reduces_learners,
            guard=context.guard,
            span=self.span,
        )
        return Value(self, number)

    def constant(self, value: float | tuple[Attribute, ...], type: TensorType) -> "Value":
        """Add a constant: a number that fills the type, or nested tuples of its shape."""
        return self.add("constant", type, (), {"value": value})

    def finish(self, outputs: Mapping[str, "Value"]) -> Graph:
        """Return the graph of all nodes added."""
        return self.nodes.finish({name: value.id for name, value in outputs.items()})


@dataclass(frozen=True, slots=True)
class Value:
    """A node of a graph under construction; numbers beside it become constants of its element."""

    builder: Builder
    id: int

    @property
    def node(self) -> Node:
        """The node itself."""
        return self.builder.nodes.nodes[self.id]

    @property
    def type(self) -> TensorType:
        """Its type."""
        return self.builder.nodes.nodes[self.id].type

    def call(self, op: str, *others: Operand, **attributes: Attribute) -> "Value":
        """Add an operation with this value first."""
        values = (self.beside(other) for other in others)
        return self.builder.call(op, self, *values, **attributes)

    def beside(self, other: Operand) -> "Value":
        """Return `other`, as a scalar constant of this value's element if it is a number."""
        if isinstance(other, Value):
            return other
        return self.builder.constant(other, self.type.with_shape(()))

    def __add__(self, other: Operand) -> "Value":
        return self.call("add", other)

    def __radd__(self, other: float) -> "Value":
        return self.beside(other).call("add", self)

    def __sub__(self, other: Operand) -> "Value":
        return self.call("subtract", other)

    def __rsub__(self, other: float) -> "Value":
        return self.beside(other).call("subtract", self)

    def __mul__(self, other: Operand) -> "Value":
        return self.call("multiply", other)

    def __rmul__(self, other: float) -> "Value":
        return self.beside(other).call("multiply", self)

    def __truediv__(self, other: Operand) -> "Value":
        return self.call("divide", other)

    def __rtruediv__(self, other: float) -> "Value":
        return self.beside(other).call("divide", self)

    def __pow__(self, other: Operand) -> "Value":
        return self.call("power", other)

    def __matmul__(self, other: "Value") -> "Value":
        return self.call("matmul", other)

    def __neg__(self) -> "Value":
        return self.call("negate")
