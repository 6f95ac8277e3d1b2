"""Put what computes a field from the columns of its data set where the field is fed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, GraphBuilder, Node, substitute_attribute


@dataclass(frozen=True, slots=True)
class ReadFields:
    """Replace feeds of fields by the graphs that compute them for a batch.

    `graphs` are by data set, their outputs called like the fields, their `N` the number of samples.
    Leaves alone: fields that they do not have.
    """

    graphs: Mapping[str, Graph]

    def run(self, graph: Graph) -> Graph:
        """Return the graph with such fields computed from what their graphs read."""
        return graph.rewrite(self._read)

    def _read(self, node: Node, builder: GraphBuilder) -> int:
        own = self.graphs.get(str(node.attributes.get("data"))) if node.op == "feed" else None
        field = str(node.attributes.get("field"))
        if own is None or field not in own.outputs:
            return builder.keep(node)
        sizes: dict[str, Dim | int] = {"N": node.type.shape[0]}
        wanted = own.ancestors([own.outputs[field]])
        renamed: dict[int, int] = {}
        for inner in own:
            if inner.id in wanted:
                attributes = {
                    k: substitute_attribute(v, sizes) for k, v in inner.attributes.items()
                }
                if inner.op == "feed":
                    attributes["split"] = node.attributes["split"]
                renamed[inner.id] = builder.keep(replace(
                    inner, type=inner.type.substitute(sizes), attributes=attributes,
                    inputs=tuple(renamed[i] for i in inner.inputs), mapped=node.mapped,
                ))  # fmt: skip
        return renamed[own.outputs[field]]
