"""Reverse-mode differentiation inside a graph under construction: one sweep from a scalar."""

from collections.abc import Sequence, Set
from dataclasses import replace

from fml.engine.ir.graph import GraphBuilder, Node, Phase
from fml.engine.ops.build import Builder, Context, Value
from fml.engine.ops.record import Call
from fml.engine.ops.table import OPS


def reverse_sweep(
    builder: Builder, y: int, targets: Set[int], guard: int | None
) -> dict[int, Value]:
    """Add the nodes that compute the gradients of the scalar `y` for the `targets`.

    Visits only what lies between a target and `y`, through floating-point values. Targets that
    `y` does not depend on are absent from the result. The new nodes have the scope and the place
    in the text of the node they are the gradient of, and the guard given.

    Where each learner has its own `y`, each has its own gradients, also for what all share.

    Raises:
        TypeError: between a target and a `y` of each learner lies an operation across learners.
    """
    nodes = builder.nodes
    path = _between(nodes, y, targets)
    if y not in path:
        return {}
    is_own = nodes[y].mapped
    if is_own and any(OPS[nodes[number].op].across_learners for number in path - targets):
        raise TypeError("a learner's own scalar depends on other learners'")
    with builder.under(_context(nodes[y], guard), nodes[y].span):
        gradients = {y: builder.constant(1.0, nodes[y].type)}
    for number in sorted(path, reverse=True):
        node = nodes[number]
        if number not in gradients or not path.intersection(node.inputs):
            continue
        with builder.under(_context(node, guard), node.span):
            for source, part in zip(node.inputs, _parts(builder, node, gradients), strict=True):
                if part is None or source not in path:
                    continue
                own = part if is_own else _for_axis(part, nodes[source])
                if source in gradients:
                    # The sum has the axis of what it is the gradient of, not of this node.
                    with builder.under(replace(builder.context, mapped=nodes[source].mapped)):
                        own = gradients[source] + own
                gradients[source] = own
    return {target: gradients[target] for target in targets if target in gradients}


def _parts(builder: Builder, node: Node, gradients: dict[int, Value]) -> Sequence[Value | None]:
    """What each input contributes to, by the rule of the node's operation."""
    rule = OPS[node.op].gradient
    if rule is None:
        raise TypeError(f"`{node.op}` makes floats of floats and has no gradient")
    inputs = tuple(map(builder.value, node.inputs))
    return rule(gradients[node.id], Call(inputs, builder.value(node.id), node.attributes))


def _between(nodes: GraphBuilder, y: int, targets: Set[int]) -> set[int]:
    """The floating-point nodes that depend on a target and that `y` depends on."""
    behind: set[int] = set()
    stack = [y]
    while stack:
        number = stack.pop()
        if number not in behind and nodes[number].type.is_float:
            behind.add(number)
            stack.extend(nodes[number].inputs)
    path: set[int] = set()
    # Numbers grow along the edges.
    for number in sorted(behind):
        if number in targets or not path.isdisjoint(nodes[number].inputs):
            path.add(number)
    return path


def _context(node: Node, guard: int | None) -> Context:
    forward = node.phase in {Phase.DATA, Phase.FORWARD}
    phase = Phase.BACKWARD if forward else node.phase
    return Context(node.scope, phase, node.mapped, guard)


def _for_axis(part: Value, source: Node) -> Value:
    """Give a contribution the axis of what it is the gradient of.

    A value that all learners share gets the sum of their contributions; a contribution that they
    share is each one's own.
    """
    if part.node.mapped and not source.mapped:
        return part.call("learners_reduce", kind="sum")
    if source.mapped and not part.node.mapped:
        with part.builder.under(_context(source, part.node.guard), source.span):
            return part.call("broadcast", shape=source.type.shape)
    return part
