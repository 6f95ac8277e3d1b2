"""Runs a graph with the records' numpy implementations, node by node: the suite's oracle."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fml.engine.ir.graph import Graph, Node, substitute_attribute
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS


def evaluate(
    graph: Graph,
    given: Mapping[str, Array] | Callable[[Node], Array] | None = None,
    sizes: Mapping[str, int] | None = None,
    learners: int = 1,
) -> dict[str, Array]:
    """Return the outputs.

    `given` holds the values of runtime nodes by their attribute `name`, or tells them; those of
    nodes over learners, and outputs like them, are stacked on a new first axis.
    """
    values = values_of(graph, given, sizes, learners)
    return {name: values[number] for name, number in graph.outputs.items()}


def values_of(
    graph: Graph,
    given: Mapping[str, Array] | Callable[[Node], Array] | None = None,
    sizes: Mapping[str, int] | None = None,
    learners: int = 1,
) -> dict[int, Array]:
    """Return the value of every node; where an `assign` is not due, that is the old one."""
    named = {**(sizes or {}), "learners": learners}
    provided = given if callable(given) else _by_name(given or {})
    values: dict[int, Array] = {}
    for node in graph:
        if OPS[node.op].runtime:
            values[node.id] = stored(np.asarray(provided(node)), node.type)
        else:
            values[node.id] = _compute(graph, node, values, named, learners)
    return values


def _by_name(given: Mapping[str, Array]) -> Callable[[Node], Array]:
    return lambda node: given[str(node.attributes["name"])]


def _compute(
    graph: Graph, node: Node, values: Mapping[int, Array], sizes: Mapping[str, int], learners: int
) -> Array:
    record, result = OPS[node.op], node.type.substitute(sizes)
    attributes = {k: substitute_attribute(v, sizes) for k, v in node.attributes.items()}
    if record.across_learners or not node.mapped:
        inputs = [values[i] for i in node.inputs]
        if not _is_due(graph, node, values, None):
            return inputs[0]
        return computed(record, inputs, attributes, result)
    each = []
    for learner in range(learners):
        own = list(_of_learner(graph, node.inputs, values, learner))
        is_due = _is_due(graph, node, values, learner)
        each.append(computed(record, own, attributes, result) if is_due else own[0])
    return np.stack(each)


def _of_learner(
    graph: Graph, numbers: tuple[int, ...], values: Mapping[int, Array], learner: int
) -> Iterator[Array]:
    for number in numbers:
        yield values[number][learner] if graph[number].mapped else values[number]


def _is_due(graph: Graph, node: Node, values: Mapping[int, Array], learner: int | None) -> bool:
    """Whether a node is carried out; without effect, it is carried out for nobody's use."""
    if node.guard is None or node.op != "assign":
        return True
    guard = values[node.guard]
    return bool(guard[learner] if graph[node.guard].mapped else guard)
