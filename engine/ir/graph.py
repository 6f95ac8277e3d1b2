"""The dataflow graph: what the language lowers to and every pass takes and returns.

A node is one operation with one result. Edges carry the place of the argument, so `x * x` is
two edges; a guard (the scalar that says whether the node runs this time) is an edge as well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, cast

from fml.engine.ir.dims import Dim
from fml.engine.ir.source import Span
from fml.engine.ir.types import Element, TensorType

if TYPE_CHECKING:
    import networkx

Attribute: TypeAlias = (
    "bool | int | float | str | Dim | Element | TensorType | tuple[Attribute, ...] | None"
)
Attributes: TypeAlias = Mapping[str, Attribute]
NO_ATTRIBUTES: Attributes = MappingProxyType({})
GUARD = "guard"


class Phase(Enum):
    """What a node is for; tells the parts of a picture apart."""

    DATA = "data"
    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"
    MEASURE = "measure"


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the graph.

    `scope` is the path shown to people (`net.stage_1.conv_0`), `mapped` says that there is one
    of it per learner (its type is one learner's), `guard` is a bool scalar without which the
    node does not run. `span` plays no part in equality.
    """

    id: int
    op: str
    type: TensorType
    inputs: tuple[int, ...] = ()
    attributes: Attributes = field(default_factory=lambda: NO_ATTRIBUTES)
    scope: str = ""
    phase: Phase = Phase.FORWARD
    mapped: bool = False
    guard: int | None = None
    span: Span | None = field(default=None, compare=False)

    @property
    def needs(self) -> tuple[int, ...]:
        """All nodes that this one waits for: its inputs, and its guard if it has one."""
        return self.inputs if self.guard is None else (*self.inputs, self.guard)

    def placed(self, id: int, inputs: tuple[int, ...], guard: int | None) -> "Node":
        """Return this node with another number and other edges."""
        if (id, inputs, guard) == (self.id, self.inputs, self.guard):
            return self
        return Node(
            id, self.op, self.type, inputs, self.attributes, self.scope, self.phase, self.mapped,
            guard, self.span,
        )  # fmt: skip

    def moved(self, id: int, renamed: Mapping[int, int]) -> "Node":
        """Return this node with another number, and what it needs under other numbers."""
        guard = None if self.guard is None else renamed[self.guard]
        return self.placed(id, tuple([renamed[number] for number in self.inputs]), guard)


class Graph:
    """Nodes, the named results (`outputs`), and what the graph is called.

    Owns a `networkx.MultiDiGraph` keyed by node number whose edges point from a value to its
    use, made when it is first asked for. Never changed once made: build with `GraphBuilder`,
    change with `rewrite`.
    """

    __slots__ = ("_nodes", "_nx", "name", "outputs")

    def __init__(self, name: str, nodes: Iterable[Node], outputs: Mapping[str, int]) -> None:
        """Nodes must come with all that they need before them (any topological order)."""
        self.name = name
        self.outputs: Mapping[str, int] = MappingProxyType(dict(outputs))
        self._nodes = {node.id: node for node in nodes}
        self._nx: networkx.MultiDiGraph[int] | None = None

    @property
    def nx(self) -> "networkx.MultiDiGraph[int]":
        """The edges: from a value to each place of each node that reads it."""
        if self._nx is None:
            import networkx  # a fifth of a second, which checking a file need not wait for

            self._nx = networkx.MultiDiGraph()
            for node in self:
                self._nx.add_node(node.id)
                for place, source in enumerate(node.inputs):
                    self._nx.add_edge(source, node.id, place=place)
                if node.guard is not None:
                    self._nx.add_edge(node.guard, node.id, place=GUARD)
        return self._nx

    def __getitem__(self, number: int) -> Node:
        """Return the node of that number."""
        return self._nodes[number]

    def __iter__(self) -> Iterator[Node]:
        """All nodes in topological order: the order in which they were added."""
        return iter(self._nodes.values())

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self._nodes)

    def __contains__(self, number: object) -> bool:
        """Say whether there is a node of that number."""
        return number in self._nodes

    def __eq__(self, other: object) -> bool:
        """Compare names, nodes and outputs, not spans."""
        if not isinstance(other, Graph):
            return NotImplemented
        mine, theirs = (self.name, [*self], self.outputs), (other.name, [*other], other.outputs)
        return mine == theirs

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # compared by content

    def users(self, number: int) -> tuple[int, ...]:
        """Nodes that read this one's value or are guarded by it, each once."""
        return tuple(self.nx.successors(number))

    def of_op(self, *ops: str) -> tuple[Node, ...]:
        """All nodes of these operations, in order."""
        return tuple(node for node in self if node.op in ops)

    def ancestors(self, roots: Iterable[int]) -> set[int]:
        """All nodes that the roots need, the roots themselves included."""
        nodes = self._nodes
        return _reached(roots, lambda number: nodes[number].needs)

    def restricted_to(self, roots: Iterable[int]) -> "Graph":
        """Return the graph of the roots and all that they need; the outputs must be among these."""
        live = self.ancestors(roots)
        renamed: dict[int, int] = {}
        kept: list[Node] = []
        for node in self:
            if node.id in live:
                kept.append(node.moved(len(kept), renamed))
                renamed[node.id] = kept[-1].id
        return Graph(self.name, kept, {name: renamed[n] for name, n in self.outputs.items()})

    def names(self) -> frozenset[str]:
        """All dimension names in the nodes' types and attributes."""
        found: set[str] = set()
        for node in self:
            found |= node.type.names()
            for value in node.attributes.values():
                found |= attribute_names(value)
        return frozenset(found)

    def rewrite(self, change: Callable[[Node, "GraphBuilder"], int | None]) -> "Graph":
        """Return a new graph in which each node is what `change` made of it.

        `change` is given each node in order, its inputs already those of the new graph, and the
        builder of the new graph; it returns the number of the node that takes its place (the
        outcome of `builder.keep(node)` to leave it as it is), or None to drop it together with
        all that needs it.
        """
        builder = GraphBuilder(self.name)
        renamed: dict[int, int] = {}
        for node in self:
            if any(number not in renamed for number in node.needs):
                continue
            made = change(node.moved(node.id, renamed), builder)
            if made is not None:
                renamed[node.id] = made
        return builder.finish({name: renamed[n] for name, n in self.outputs.items()})


class GraphBuilder:
    """Adds nodes one after another; numbers them from 0 in the order of addition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []

    def __getitem__(self, number: int) -> Node:
        """Return the node of that number."""
        return self.nodes[number]

    def add(
        self,
        op: str,
        type: TensorType,
        inputs: tuple[int, ...] = (),
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        scope: str = "",
        phase: Phase = Phase.FORWARD,
        mapped: bool = False,
        guard: int | None = None,
        span: Span | None = None,
    ) -> int:
        """Add a node whose type is already known; `fml.engine.ops.build` infers types."""
        frozen = MappingProxyType(dict(attributes)) if attributes else NO_ATTRIBUTES
        number = len(self.nodes)
        self.nodes.append(Node(number, op, type, inputs, frozen, scope, phase, mapped, guard, span))
        return number

    def instead_of(
        self,
        node: Node,
        op: str,
        type: TensorType,
        inputs: tuple[int, ...] = (),
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> int:
        """Add a node in place of another one: of its scope, phase, axis and span."""
        return self.add(
            op, type, inputs, attributes,
            scope=node.scope, phase=node.phase, mapped=node.mapped, span=node.span,
        )  # fmt: skip

    def keep(self, node: Node) -> int:
        """Add a node like this one, under the next number."""
        number = len(self.nodes)
        self.nodes.append(node.placed(number, node.inputs, node.guard))
        return number

    def ancestors(self, roots: Iterable[int]) -> set[int]:
        """All nodes that the roots are computed from, the roots included; guards do not count."""
        return _reached(roots, lambda number: self.nodes[number].inputs)

    def finish(self, outputs: Mapping[str, int]) -> Graph:
        """Return the graph of all nodes added."""
        return Graph(self.name, self.nodes, outputs)


def _reached(roots: Iterable[int], behind: Callable[[int], tuple[int, ...]]) -> set[int]:
    """The roots and all that is behind them."""
    found: set[int] = set()
    stack = list(roots)
    while stack:
        number = stack.pop()
        if number not in found:
            found.add(number)
            stack.extend(behind(number))
    return found


def attribute_names(value: Attribute) -> frozenset[str]:
    """Dimension names mentioned in an attribute."""
    if isinstance(value, Dim | TensorType):
        return value.names()
    if isinstance(value, tuple):
        parts = cast("tuple[Attribute, ...]", value)
        return frozenset[str]().union(*(attribute_names(part) for part in parts))
    return frozenset()


def substitute_attribute(value: Attribute, sizes: Mapping[str, Dim | int]) -> Attribute:
    """Replace dimension names in an attribute."""
    if isinstance(value, Dim | TensorType):
        return value.substitute(sizes)
    if isinstance(value, tuple):
        parts = cast("tuple[Attribute, ...]", value)
        return tuple(substitute_attribute(part, sizes) for part in parts)
    return value
