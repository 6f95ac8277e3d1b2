"""What one kernel computes of a graph, and which nodes and clusters are alike."""

from dataclasses import dataclass
from functools import cache
from math import prod

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import TensorType
from fml.engine.kernels.blocks import Block
from fml.engine.kernels.fusion import Fusion, Member, NotFusable, is_read_in_place
from fml.engine.kernels.narrow import rounded
from fml.engine.kernels.nest import Nest, Read, inputs_of, parts_of
from fml.engine.kernels.unroll import unrolled
from fml.engine.ops.table import OPS


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that one kernel computes, in an order in which each reads those before it.

    Attributes:
        inputs: read, from elsewhere; those of a block begin with its operands.
        results: read elsewhere, or outputs of the graph, or with an effect.
        block: where the first node is computed in blocks, how; the others are its epilogue.
        guard: the bool without which nothing is done.
    """

    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    block: Block | None = None
    guard: int | None = None


class Alike:
    """What nodes of a graph have in common, told once for all that are alike.

    Layers of the same sizes differ in the names of their parameters alone.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._texts: dict[int, str] = {}
        self._nests: dict[str, Nest | None] = {}
        self._nest_of: dict[int, Nest | None] = {}
        self._in_place: dict[tuple[str, int], bool] = {}
        self._guarded: dict[str, frozenset[int]] = {}
        self._counts: dict[int, int] = {}

    def text(self, number: int) -> str:
        """What a node does, without its edges: operation, types and attributes.

        As text, which tells 0.0 from -0.0 and 1 from 1.0.
        """
        if number not in self._texts:
            node = self.graph[number]
            given = [_written(self.graph[value].type) for value in node.inputs]
            # The name of what is assigned makes no difference to how.
            attributes = {} if node.op == "assign" else dict(node.attributes)
            self._texts[number] = f"{node.op}{given} {_written(node.type)} {attributes}"
        return self._texts[number]

    def key(self, cluster: Cluster) -> str:
        """What clusters of the same kernel have in common: their nodes, and who reads whom."""
        numbers = {value: n for n, value in enumerate((*cluster.inputs, *cluster.nodes))}
        given = [_written(self.graph[value].type) for value in cluster.inputs]
        nodes = [
            f"{self.text(n)} {[numbers.get(value) for value in self.graph[n].inputs]}"
            for n in cluster.nodes
        ]
        results = [numbers[value] for value in cluster.results]
        return "\n".join((f"{given}", *nodes, f"{results} {cluster.block}"))

    def nest(self, number: int) -> Nest | None:
        """The nest of a node, if its operation has one."""
        if number not in self._nest_of:
            text = self.text(number)
            if text not in self._nests:
                self._nests[text] = _nest_of(self.graph, self.graph[number])
            self._nest_of[number] = self._nests[text]
        return self._nest_of[number]

    def is_read_in_place(self, number: int, place: int) -> bool:
        """Whether the nest of a node reads an input at the place of its own entry alone."""
        key = self.text(number), place
        if key not in self._in_place:
            nest = self.nest(number)
            assert nest is not None
            self._in_place[key] = is_read_in_place(nest, place)
        return self._in_place[key]

    def read_under_guard(self, number: int) -> frozenset[int]:
        """Which inputs the nest of a node reads at places that they may not have."""
        text = self.text(number)
        if text not in self._guarded:
            nest = self.nest(number)
            reads = () if nest is None else parts_of(nest.value)
            self._guarded[text] = frozenset(
                read.place for read in reads if isinstance(read, Read) and read.guard is not None
            )
        return self._guarded[text]

    def count(self, number: int) -> int:
        """Entries of a node's value."""
        if number not in self._counts:
            self._counts[number] = prod(self.graph[number].type.sizes)
        return self._counts[number]


@cache
def _written(type: TensorType) -> str:
    return str(type)


def _nest_of(graph: Graph, node: Node) -> Nest | None:
    op = OPS[node.op]
    if op.nest is None:
        return None
    made = op.nest([graph[value].type for value in node.inputs], node.attributes, node.type)
    return unrolled(rounded(made)) if isinstance(made, Nest) else None


def apart(graph: Graph, cluster: Cluster) -> tuple[Cluster, ...]:
    """The nodes of a cluster, each in one of its own."""
    numbers = {n for n in cluster.nodes if graph[n].op == "constant"}
    found: list[Cluster] = []
    for node in (n for n in cluster.nodes if n not in numbers):
        is_root = cluster.block is not None and node == cluster.nodes[0]
        read = dict.fromkeys(graph[node].inputs)
        given = tuple(v for v in read if v not in numbers)
        inputs = cluster.inputs[:2] if is_root else given
        own = () if is_root else tuple(v for v in read if v in numbers)
        block = cluster.block if is_root else None
        found.append(Cluster((*own, node), inputs, (node,), block, cluster.guard))
    return tuple(found)


def fusion_of(alike: Alike, cluster: Cluster) -> Fusion:
    """A cluster as nests that read each other; the sum of a block is the first input.

    Raises:
        NotFusable: an operation's entries cannot be told one by one.
    """
    graph, inputs, nodes = alike.graph, cluster.inputs, cluster.nodes
    if cluster.block is not None:
        inputs, nodes = (nodes[0], *inputs[2:]), nodes[1:]
    numbers = {node: n for n, node in enumerate((*inputs, *nodes))}
    members: list[Member] = []
    for number in nodes:
        nest = alike.nest(number)
        if nest is None:
            raise NotFusable(f"`{graph[number].op}` has no nest")
        members.append(Member(nest, tuple(numbers[value] for value in graph[number].inputs)))
    given = inputs_of([graph[value].type for value in inputs])
    made = [value for value in cluster.results if value in nodes]
    shared = tuple(
        (numbers[graph[value].inputs[0]], place)
        for place, value in enumerate(made)
        if graph[value].op == "assign" and graph[value].inputs[0] in inputs
    )
    return Fusion(given, tuple(members), tuple(numbers[value] for value in made), shared)
