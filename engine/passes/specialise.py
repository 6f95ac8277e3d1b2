"""Bind the names of dimensions: after this pass every type has definite sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark
from fml.engine.ir.dims import Dim, Shape
from fml.engine.ir.graph import Graph, GraphBuilder, Node, substitute_attribute


@dataclass(frozen=True, slots=True)
class Specialise:
    """Replace dimension names by numbers in types and attributes, and `dim_value` by constants.

    Raises `FmlError` E0330 where a dimension comes out negative or not whole, and E0329 where a
    name is left without a number.
    """

    sizes: Mapping[str, int] = field(default_factory=dict[str, int])

    def run(self, graph: Graph) -> Graph:
        """Return the graph with all names bound."""
        return graph.rewrite(self._bind)

    def _bind(self, node: Node, builder: GraphBuilder) -> int:
        type = node.type.substitute(self.sizes)
        attributes = {k: substitute_attribute(v, self.sizes) for k, v in node.attributes.items()}
        self._require_sizes(node, type.shape)
        op = node.op
        if op == "dim_value":
            dim = attributes["dim"]
            value = dim.constant if isinstance(dim, Dim) else None
            if value is None:
                raise _unbound(node, dim)
            op, attributes = "constant", {"value": float(value)}
        return builder.keep(replace(node, op=op, type=type, attributes=attributes))

    def _require_sizes(self, node: Node, shape: Shape) -> None:
        for axis in shape:
            if axis.constant is None:
                raise _unbound(node, axis)
            if axis.size is None or axis.size < 0:
                raise _fault(
                    node,
                    "E0330",
                    f"a dimension would be {axis}",
                    "choose sizes that divide, or round with `floor(...)` or `ceil(...)`",
                )


def _unbound(node: Node, dim: object) -> FmlError:
    message = f"the dimension `{dim}` has no size here"
    return _fault(node, "E0329", message, "it must come from the data, an option or the batch")


def _fault(node: Node, code: str, message: str, help: str) -> FmlError:
    marks = (Mark(node.span, str(node.type)),) if node.span else ()
    notes = () if marks else (f"of `{node.op}`, which is {node.type}",)
    return FmlError([Diagnostic(code, message, marks, notes, help)])
