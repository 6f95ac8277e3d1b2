"""`gradient` nodes become reverse-mode nodes: after lowering, before every other pass."""

from dataclasses import replace

from fml.engine.autodiff.reverse import reverse_sweep
from fml.engine.ir.graph import Graph, Node
from fml.engine.ops.build import Builder, Context, Value


def expand_gradients(graph: Graph) -> Graph:
    """Replace every `gradient` node by nodes that compute it.

    Gradients of one scalar share one sweep. Inner gradients come first in the graph, so an outer
    one finds them made into nodes. What does not reach the scalar has the gradient 0. Nodes that
    the sweeps made and nobody reads are left out; all others stay.
    """
    wanted: dict[tuple[int, int | None], list[int]] = {}
    for node in graph.of_op("gradient"):
        wanted.setdefault((node.inputs[0], node.guard), []).append(node.inputs[1])
    if not wanted:
        return graph
    builder = Builder(graph.name)
    renamed: dict[int, int] = {}
    sweeps: dict[tuple[int, int | None], dict[int, Value]] = {}
    for node in graph:
        inputs = tuple(renamed[i] for i in node.inputs)
        guard = None if node.guard is None else renamed[node.guard]
        moved = replace(node, inputs=inputs, guard=guard)
        if node.op != "gradient":
            renamed[node.id] = builder.nodes.keep(moved)
            continue
        key = (node.inputs[0], node.guard)
        if key not in sweeps:
            # A target that comes later cannot lie behind this scalar.
            targets = {renamed[x] for x in wanted[key] if x in renamed}
            sweeps[key] = reverse_sweep(builder, inputs[0], targets, guard)
        made = sweeps[key].get(inputs[1])
        renamed[node.id] = (made or _zeros(builder, moved)).id
    outputs = {name: renamed[number] for name, number in graph.outputs.items()}
    return builder.nodes.finish(outputs).restricted_to(renamed.values())


def _zeros(builder: Builder, node: Node) -> Value:
    context = Context(node.scope, node.phase, node.mapped, node.guard)
    with builder.under(context, node.span):
        return builder.constant(0.0, node.type)
