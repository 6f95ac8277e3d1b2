"""Which values of a graph are made sample by sample, so that some of the samples can be computed
without the others: those of a network are, a mean over the batch is not.
"""

from collections.abc import Sequence
from enum import Enum

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Node, attribute_names
from fml.engine.ir.types import TensorType
from fml.engine.ops.table import OPS


class Reach(Enum):
    """What a value depends on."""

    NOTHING = "no sample, nor how many there are"
    SAMPLE = "entry i of the first axis: sample i alone"
    BATCH = "several samples"


def reaches(graph: Graph, dim: str) -> dict[int, Reach]:
    """Return what each node depends on of the samples that the dimension `dim` counts.

    Where in doubt it is `BATCH`; gradients must have been made into nodes.
    """
    found: dict[int, Reach] = {}
    for node in graph:
        found[node.id] = _reach(graph, node, Dim.of(dim), found)
    return found


def _reach(graph: Graph, node: Node, samples: Dim, found: dict[int, Reach]) -> Reach:
    inputs = [graph[number].type for number in node.inputs]
    before = [found[number] for number in node.needs]
    if Reach.BATCH in before or OPS[node.op].effect:
        return Reach.BATCH
    follow = frozenset(place for place, reach in enumerate(before) if reach is Reach.SAMPLE)
    if not follow and not _mentions(node, str(samples)):
        return Reach.NOTHING
    is_apart = _leads(node.type, samples) and _keeps_apart(node, inputs, follow)
    return Reach.SAMPLE if is_apart and node.guard is None else Reach.BATCH


def _mentions(node: Node, dim: str) -> bool:
    in_attributes = (attribute_names(value) for value in node.attributes.values())
    return dim in node.type.names() or any(dim in names for names in in_attributes)


def _leads(type: TensorType, samples: Dim) -> bool:
    """Whether samples are the first axis of a type, and of no other length in it."""
    if not type.rank or type.shape[0] != samples:
        return False
    return samples.name not in type.with_shape(type.shape[1:]).names()


def _keeps_apart(node: Node, inputs: Sequence[TensorType], follow: frozenset[int]) -> bool:
    """Whether entry i of a node is made of entries i of the inputs at the places `follow`."""
    op = OPS[node.op]
    if op.runtime:
        return True
    if op.scalar is not None:
        return all(inputs[place].rank == node.type.rank for place in follow)
    if not follow:
        # The same for every sample: a number that fills its type, or one that is repeated.
        return node.op == "broadcast" or isinstance(node.attributes.get("value"), int | float)
    return op.by_sample is not None and op.by_sample(inputs, node.attributes, node.type, follow)
