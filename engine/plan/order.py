"""From a graph to a sequence of steps, in which old values of variables are read in time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.graph import Graph, Node
from fml.engine.ops.table import OPS
from fml.engine.plan.task import Work
from fml.engine.plan.where import base_of


@dataclass(frozen=True, slots=True)
class LateReads:
    """Which (reader, value) pairs, and which outputs, find a variable overwritten.

    They read a copy, made just before.
    """

    aside: frozenset[tuple[int, int]]
    outputs: frozenset[str]


@dataclass(frozen=True, slots=True)
class PutAside:
    """A variable's value is copied before it is overwritten."""

    value: int


Step: TypeAlias = Work | PutAside


@dataclass(frozen=True, slots=True)
class Sequence:
    """Steps in order.

    `aside` are the pairs (place of a step, value) that read what was put aside.
    """

    steps: tuple[Step, ...]
    aside: frozenset[tuple[int, int]]
    outputs_aside: frozenset[str]


def late_reads(graph: Graph) -> LateReads:
    """Find who reads a variable's value behind the node that overwrites it."""
    place = {node.id: at for at, node in enumerate(graph)}
    overwritten = _overwritten(graph)
    aside = {
        (node.id, value)
        for node in graph
        if not OPS[node.op].view
        for value in node.needs
        if (base := base_of(graph, value)) in overwritten
        and place[node.id] > place[overwritten[base]]
    }
    outputs = {n for n, value in graph.outputs.items() if base_of(graph, value) in overwritten}
    return LateReads(frozenset(aside), frozenset(outputs))


def sequence(graph: Graph, works: Iterable[Work]) -> Sequence:
    """Put copies of what is overwritten too early between the works, which stay in their order."""
    works, late = tuple(works), late_reads(graph)
    place = {node: at for at, work in enumerate(works) for node in work.nodes}
    overwritten = _overwritten(graph)
    # A late reader may have been moved to before the assignment, where the value is still there; or
    # it is no work of its own, and who reads it reads the value instead.
    late_works = {
        (at, value)
        for at, work in enumerate(works)
        for value in needs(work)
        if (base := base_of(graph, value)) in overwritten and at > place[overwritten[base]]
    }
    late_works |= {
        (place[reader], value)
        for reader, value in late.aside
        if place.get(reader) == place[overwritten[base_of(graph, value)]]
    }
    read_late = [*(value for _, value in late_works), *(graph.outputs[n] for n in late.outputs)]
    copied = {base_of(graph, value) for value in read_late}
    steps: list[Step] = []
    aside: set[tuple[int, int]] = set()
    for at, work in enumerate(works):
        for node in map(graph.__getitem__, work.nodes):
            if node.op == "assign" and node.inputs[0] in copied:
                steps.append(PutAside(node.inputs[0]))
        aside.update((len(steps), value) for value in needs(work) if (at, value) in late_works)
        steps.append(work)
    return Sequence(tuple(steps), frozenset(aside), late.outputs)


def needs(work: Work) -> tuple[int, ...]:
    """What a work reads, its guard too."""
    return work.inputs if work.guard is None else (*work.inputs, work.guard)


def node_by_node(graph: Graph) -> tuple[Work, ...]:
    """Every node that computes, as work of its own, in the graph's order."""
    return tuple(
        Work(
            (node.id,),
            node.inputs,
            (node.id,),
            node.guard,
            shared=tuple((place, 0) for place in OPS[node.op].in_place),
        )
        for node in graph
        if not (OPS[node.op].runtime or OPS[node.op].view or node.op == "constant")
    )


def provided(graph: Graph) -> list[int]:
    """The nodes whose values the runtime provides."""
    return [n.id for n in graph if OPS[n.op].runtime and n.op != "variable"]


def variable_of(node: Node) -> str | None:
    """The variable whose place holds a node's value, or None."""
    return str(node.attributes["name"]) if node.op in {"variable", "assign"} else None


def _overwritten(graph: Graph) -> dict[int, int]:
    """The node that overwrites each value that is overwritten."""
    found: dict[int, int] = {}
    for node in graph.of_op("assign"):
        found.setdefault(base_of(graph, node.inputs[0]), node.id)
    return found
