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
    turns = _turns(graph)
    in_turns = {number for turn in turns.values() for number in turn}
    for node in graph:
        if OPS[node.op].runtime:
            values[node.id] = stored(np.asarray(provided(node)), node.type)
        elif node.id not in in_turns:
            values[node.id] = _compute(graph, node, values, named, learners)
        elif node.id in turns:
            _take_turns(graph, turns[node.id], values, named, learners)
    return values


def _turns(graph: Graph) -> dict[int, list[int]]:
    """The nodes of each push, by the last: what depends on a turn, as far as it is assigned."""
    found: dict[int, list[int]] = {}
    for push in {node.attributes["push"] for node in graph.of_op("learners_turn")}:
        turns = [n.id for n in graph.of_op("learners_turn") if n.attributes["push"] == push]
        behind: set[int] = set(turns)
        for node in graph:
            if node.op != "learners_pushed" and not behind.isdisjoint(node.inputs):
                behind.add(node.id)
        made = {n for p in graph.of_op("learners_pushed") for n in p.inputs}
        ends = [n for n in behind if graph[n].op == "assign"]
        last = max(n for n in ends if n in made or _assigns_shared(graph, n))
        found[last] = sorted(n for n in behind if n <= last)
    return found


def _assigns_shared(graph: Graph, number: int) -> bool:
    """Whether an assignment ends, or goes on in, a turn."""
    while graph[number].op == "assign":
        number = graph[number].inputs[0]
    return graph[number].op == "learners_turn"


def _take_turns(
    graph: Graph, numbers: list[int], values: dict[int, Array], sizes: Mapping[str, int], k: int
) -> None:
    """One learner after the other: a turn begins with what the one before has left."""
    left: dict[str, Array] = {}
    each: dict[int, list[Array]] = {number: [] for number in numbers}
    for learner in range(k):
        mine = dict(values)
        for number in numbers:
            node = graph[number]
            if node.op == "learners_turn":
                name = str(node.attributes["name"])
                value = np.stack([left[name] if name in left else values[node.inputs[0]]] * k)
            else:
                value = _compute(graph, node, mine, sizes, k)
            mine[number] = value
            each[number].append(value[learner])
            if node.op == "assign" and _assigns_shared(graph, number):
                left[str(node.attributes["name"])] = value[learner]
    values.update({number: np.stack(own) for number, own in each.items()})


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
