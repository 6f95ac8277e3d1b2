"""Where nodes run, and what they read when they read a part of something else."""

from dataclasses import dataclass

from fml.engine.ir.graph import Graph, Node
from fml.engine.ops import rules
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """With each learner, or else on a device."""

    mapped: bool = False
    device: int = 0


def where(graph: Graph, node: Node) -> Where:
    """Where a node is computed: what sees one device's learners, on that device."""
    if node.mapped:
        return Where(mapped=True)
    for value in node.inputs:
        read = graph[value]
        if read.op == "all_learners":
            first, count = (rules.as_int(read.attributes[name]) for name in ("first", "count"))
            return Where(device=first // max(count, 1))
    return Where()


def base_of(graph: Graph, value: int) -> int:
    """The value that another one is a view of, through views of views; else itself."""
    while OPS[graph[value].op].view:
        (value,) = graph[value].inputs
    return value
