"""Cut a graph in two: what is computed sample by sample, and what needs all samples at once."""

from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ops.by_sample import Reach, reaches
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class Halves:
    """A graph in two.

    `each` computes outputs, [samples, ...], for as many samples as it is given; `all` has an
    `argument` of the name of each, and the outputs of the graph that was cut.
    """

    each: Graph
    all: Graph


def cut_apart(graph: Graph, dim: str) -> Halves | None:
    """Cut a graph behind the last values that are made sample by sample; None if there are none.

    Joining the outputs of `each` for all samples and computing `all` of them is exactly what the
    graph says. `dim` is the name of the number of samples; gradients must have been made into
    nodes. Nodes that depend on no sample are in both halves where both need them, and so are feeds.
    """
    reach = reaches(graph, dim)
    fed: set[int] = set()
    for node in graph:
        is_read = OPS[node.op].runtime or not fed.isdisjoint(node.inputs)
        if reach[node.id] is Reach.SAMPLE and is_read:
            fed.add(node.id)
    behind = {number for node in graph if node.id not in fed for number in node.needs}
    last = {n for n in fed & (behind | {*graph.outputs.values()}) if not OPS[graph[n].op].runtime}
    if not last:
        return None
    names = {number: f"%{number}" for number in sorted(last)}

    def handed_over(node: Node, builder: GraphBuilder) -> int:
        if node.id not in names:
            return builder.keep(node)
        return builder.keep(
            replace(node, op="argument", inputs=(), attributes={"name": names[node.id]})
        )

    # Nothing reads the inputs of what is handed over any longer, unless `all` needs them as well.
    each = Graph(graph.name, [*graph], {name: number for number, name in names.items()})
    rest = graph.rewrite(handed_over)
    return Halves(
        each.restricted_to(each.outputs.values()), rest.restricted_to(rest.outputs.values())
    )
