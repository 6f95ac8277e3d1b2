"""Runs a graph with the records' numpy implementations, node by node: the suite's oracle."""

from collections.abc import Mapping

import numpy as np

from fml.engine.ir.graph import Graph, Node, substitute_attribute
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS


def evaluate(
    graph: Graph,
    given: Mapping[str, Array] | None = None,
    sizes: Mapping[str, int] | None = None,
    learners: int = 1,
) -> dict[str, Array]:
    """Return the outputs.

    `given` holds the values of runtime nodes by their attribute `name`; those of nodes over
    learners, and outputs like them, are stacked on a new first axis.
    """
    named = {**(sizes or {}), "learners": learners}
    values: dict[int, Array] = {}
    for node in graph:
        if OPS[node.op].runtime:
            value = np.asarray((given or {})[str(node.attributes["name"])])
            values[node.id] = stored(value, node.type)
        else:
            values[node.id] = _compute(graph, node, values, named, learners)
    return {name: values[number] for name, number in graph.outputs.items()}


def _compute(
    graph: Graph, node: Node, values: Mapping[int, Array], sizes: Mapping[str, int], learners: int
) -> Array:
    record, result = OPS[node.op], node.type.substitute(sizes)
    attributes = {k: substitute_attribute(v, sizes) for k, v in node.attributes.items()}
    if record.across_learners or not node.mapped:
        return computed(record, [values[i] for i in node.inputs], attributes, result)
    each = []
    for learner in range(learners):
        own = [values[i][learner] if graph[i].mapped else values[i] for i in node.inputs]
        each.append(computed(record, own, attributes, result))
    return np.stack(each)
