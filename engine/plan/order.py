"""From a graph to a sequence of steps, in which old values of variables are read in time."""

from dataclasses import dataclass

from fml.engine.ir.graph import Graph, Node
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class Step:
    """A node to be run, or (`snapshot`) a variable's value to be put aside."""

    node: int
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """Steps in order; `aside` tells which (reader, value) pairs read the value put aside."""

    steps: tuple[Step, ...]
    aside: frozenset[tuple[int, int]]
    outputs_aside: frozenset[str]


def sequence(graph: Graph) -> Sequence:
    """Order the nodes as in the graph.

    A node that assigns a variable overwrites the value before it. Whoever reads that value later
    in the order is given a copy, made just before the assignment.
    """
    place = {node.id: at for at, node in enumerate(graph)}
    overwritten: dict[int, int] = {}
    for node in graph.of_op("assign"):
        overwritten.setdefault(node.inputs[0], node.id)
    aside: set[tuple[int, int]] = set()
    late: set[int] = set()
    for value, by in overwritten.items():
        for reader in graph.users(value):
            if place[reader] > place[by]:
                aside.add((reader, value))
                late.add(value)
    outputs = {n for n, value in graph.outputs.items() if value in overwritten}
    late |= {graph.outputs[n] for n in outputs}
    steps: list[Step] = []
    for node in graph:
        if node.op == "assign" and node.inputs[0] in late:
            steps.append(Step(node.inputs[0], snapshot=True))
        if not OPS[node.op].runtime and node.op != "constant":
            steps.append(Step(node.id))
    return Sequence(tuple(steps), frozenset(aside), frozenset(outputs))


def variable_of(node: Node) -> str | None:
    """The variable whose place holds a node's value, or None."""
    return str(node.attributes["name"]) if node.op in {"variable", "assign"} else None
