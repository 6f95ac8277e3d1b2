"""Which nodes of a graph one kernel computes.

Nodes are taken in their order. Each joins the cluster of the latest of those that it reads, if the
loops of that cluster are its own; so a cluster can run as soon as the latest of the clusters that
it reads has run, and none waits for itself. If not, it joins a later one of the same loops that
reads some of the same. What reads nothing that is computed, and is read once, waits for its reader
(`0.9 m` in an update rule). In the end, maps that nothing keeps apart from what they hand values to
are put together with it (`merging.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from fml.engine.ir.graph import Graph, Node
from fml.engine.kernels.blocks import Block, Product, result_sizes
from fml.engine.kernels.epilogue import epilogue_of
from fml.engine.kernels.fusion import NotFusable
from fml.engine.kernels.nest import Nest
from fml.engine.kernels.spaces import Home, reads_at_home
from fml.engine.ops import rules
from fml.engine.ops.table import OPS
from fml.engine.plan.cluster import Alike, Cluster, fusion_of
from fml.engine.plan.merging import Group, merged
from fml.engine.plan.order import late_reads
from fml.engine.plan.turns import turns_of
from fml.engine.plan.where import Where, where

# More nodes than this make one kernel's registers run out.
_MOST = 48


def clusters(graph: Graph) -> tuple[Cluster, ...]:
    """Return the clusters of a graph of definite sizes, in an order in which they can run."""
    return _Clustering(graph).result()


@dataclass(slots=True)
class _Open:
    """A cluster that may still grow; its loops, once a fold has told them, and its nodes."""

    nodes: list[int] = field(default_factory=list[int])
    count: int = 0
    outer: int | None = None
    first_fold: Nest | None = None
    block: Block | None = None
    operands: tuple[int, ...] = ()
    guard: int | None = None
    where: Where = field(default_factory=Where)
    turn: int | None = None
    is_closed: bool = False

    def has_room_for(self, nest: Nest, rows: int) -> bool:
        """Whether the loops of a nest of so many entries are those of the cluster."""
        if self.is_closed or len(self.nodes) >= _MOST:
            return False
        if self.block is not None:
            return rows == self.count and not nest.over
        if nest.over:
            whole = rows * prod(axis.size for axis in nest.over)
            return whole == self.count and self.outer in {None, rows}
        return rows in {self.count, self.outer}

    def group(self) -> Group:
        """What it has become."""
        return Group(
            tuple(self.nodes), self.block, self.operands, self.guard, self.where, self.turn
        )

    def add(self, node: int, nest: Nest | None) -> None:
        self.nodes.append(node)
        if nest is None:
            self.is_closed = True
        elif nest.over:
            self.first_fold = self.first_fold or nest
            self.outer = prod(nest.sizes)
            self.count = self.outer * prod(axis.size for axis in nest.over)
        elif not self.count:
            self.count = prod(nest.sizes)


class _Clustering:
    """Puts the nodes of one graph into clusters."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._open: list[_Open] = []
        self._place: dict[int, int] = {}  # node -> cluster
        self._read_in: dict[int, list[int]] = {}  # value -> clusters whose nodes read it
        self._waiting: dict[int, Nest] = {}
        self._alike = Alike(graph)
        self._readers: dict[int, dict[int, None]] = {node.id: {} for node in graph}
        for node in graph:
            for value in node.needs:
                self._readers[value][node.id] = None
        self._outputs = frozenset(graph.outputs.values())
        self._learners_turns = turns_of(graph)
        self._aside = frozenset(value for _, value in late_reads(graph).aside)
        self._turns: dict[int, int] = {}  # node -> when it was taken
        self._known_epilogues: dict[str, bool] = {}
        self._known_homes: dict[tuple[int, int, tuple[Home | None, ...]], bool] = {}

    def result(self) -> tuple[Cluster, ...]:
        """Take the nodes one by one."""
        counted = self._counted()
        for node in sorted(self.graph, key=lambda node: node.id not in counted):
            if not OPS[node.op].runtime:
                self._take(node)
        for node in list(self._waiting):
            self._begin(node)
        groups = [c.group() for c in self._open]
        return tuple(
            self._closed(g.nodes, g) for g in merged(self.graph, self._alike, groups, _MOST)
        )

    def _counted(self) -> set[int]:
        """Numbers that depend on the run's counters alone, as rates do: they can come first."""
        found: set[int] = set()
        for node in self.graph:
            op = OPS[node.op]
            is_known = node.op == "constant" or (op.runtime and node.op != "variable")
            depends = all(v in found for v in node.needs) and not (op.runtime or op.effect)
            if not node.type.sizes and (is_known or depends):
                found.add(node.id)
        return found

    # --- one node -------------------------------------------------------------------------------

    def _take(self, node: Node) -> None:
        if OPS[node.op].view:
            self._take_view(node)
            return
        nest = self._alike.nest(node.id)
        self._turns[node.id] = len(self._turns)
        if node.op == "constant":
            return  # a number is written where it is read, and a table is there before all
        if self._is_turn(node):
            return  # its readers read what it turns, the other way round
        if self._can_wait(node, nest):
            assert nest is not None
            self._waiting[node.id] = nest
            return
        if node.guard in self._waiting:
            self._begin(node.guard)
        if OPS[node.op].block is not None:
            self._begin_block(node)
            return
        self._settle_readers_of_variable(node)
        if nest is None or not any(self._joins(node, nest, c) for c in self._joinable(node)):
            self._begin(node.id)

    def _take_view(self, node: Node) -> None:
        """What a view is of must be stored, and is there when its cluster has run."""
        (source,) = node.inputs
        if source in self._waiting:
            self._begin(source)
        if source in self._place:
            self._place[node.id] = self._place[source]

    def _can_wait(self, node: Node, nest: Nest | None) -> bool:
        """Whether a node reads nothing that is computed and has one reader to wait for."""
        if nest is None or nest.over or OPS[node.op].effect or node.id in self._outputs:
            return False
        readers = self._readers[node.id]
        if len(readers) != 1 or any(v in self._place for v in node.inputs):
            return False
        return node.id not in self._read_under_guard(*readers)

    def _latest(self, node: Node) -> int | None:
        """The latest cluster that a node reads, through those that wait."""
        places = (self._place[v] for v in self._needed(node.id) if v in self._place)
        return max(places, default=None)

    def _joinable(self, node: Node) -> Iterable[int]:
        """The latest cluster that a node reads, then later ones that read some of the same."""
        latest = self._latest(node)
        if latest is not None:
            yield latest
        read = (v for v in self._needed(node.id) if self._alike.count(v) > 1)
        beside = {place for value in read for place in self._read_in.get(value, ())}
        for place in sorted(beside):
            if place > (-1 if latest is None else latest) and self._open[place].block is None:
                yield place

    def _needed(self, number: int) -> Iterable[int]:
        """What a node reads, and what those read that wait for it."""
        for value in self.graph[number].inputs:
            yield value
            if value in self._waiting:
                yield from self._needed(value)

    def _joins(self, node: Node, nest: Nest, place: int) -> bool:
        """Put a node into a cluster, with those that wait for it, if it can be."""
        cluster = self._open[place]
        if not cluster.has_room_for(nest, self._alike.count(node.id)):
            return False
        if cluster.guard != node.guard or cluster.where != where(self.graph, node):
            return False
        if cluster.turn != self._learners_turns.get(node.id) or not self._may_write(node, place):
            return False
        pulled = self._pulled(node.id)
        if not all(self._alike.count(v) in {cluster.count, cluster.outer} for v in pulled):
            return False
        if cluster.block is not None and not self._is_epilogue(cluster, [*pulled, node.id]):
            return False
        if not all(self._is_at_home(v, place, nest) for v in (*pulled, node.id)):
            return False
        for value in (*pulled, node.id):
            self._put(value, place)
        return True

    def _is_epilogue(self, cluster: _Open, more: Sequence[int]) -> bool:
        """Whether nodes read the sum of a block, and each other, at their own places."""
        assert cluster.block is not None
        if all(self._reads_in_place(number) for number in more):
            return True  # those that they read are computed there already
        grown = self._closed([*cluster.nodes, *more], cluster)
        key = self._alike.key(grown)
        if key not in self._known_epilogues:
            try:
                epilogue_of(fusion_of(self._alike, grown), 0, result_sizes(cluster.block))
            except NotFusable:
                self._known_epilogues[key] = False
            else:
                self._known_epilogues[key] = True
        return self._known_epilogues[key]

    def _reads_in_place(self, number: int) -> bool:
        """Whether a node reads what is computed, or waits for it, at the place of its own entry."""
        nest = self._alike.nest(number)
        assert nest is not None
        inputs = self.graph[number].inputs
        given = [n for n, v in enumerate(inputs) if v in self._place or v in self._waiting]
        return not nest.over and all(self._alike.is_read_in_place(number, n) for n in given)

    def _is_at_home(self, number: int, place: int, reader: Nest) -> bool:
        """Whether a node reads values of a cluster at the places where they are at hand."""
        cluster = self._open[place]
        if cluster.block is not None:
            return True
        if any(self._place.get(value) == place for value in self._read_under_guard(number)):
            return False  # it is not computed at places that it does not have
        fold = cluster.first_fold or (reader if reader.over else None)
        if fold is None:
            return True
        nest = self._alike.nest(number)
        assert nest is not None
        homes = tuple([self._home(v, place, fold) for v in self.graph[number].inputs])
        key = id(fold), id(nest), homes  # `_alike` holds the nests
        if key not in self._known_homes:
            self._known_homes[key] = reads_at_home(fold, nest, homes)
        return self._known_homes[key]

    def _read_under_guard(self, number: int) -> set[int]:
        """What a node reads at places that may lie outside: around images, behind an end."""
        inputs = self.graph[number].inputs
        return {inputs[place] for place in self._alike.read_under_guard(number)}

    def _home(self, value: int, place: int, fold: Nest) -> Home | None:
        if self._place.get(value) != place and value not in self._waiting:
            return None
        count = self._alike.count(value)
        return Home.OUTER if count == prod(fold.sizes) else Home.INNER

    def _begin(self, number: int) -> None:
        """A node in a cluster of its own, with those that wait for it and fit."""
        nest = self._alike.nest(number)
        for value in self._pulled(number):
            if value in self._waiting and not self._fits(value, number, nest):
                self._begin(value)
        pulled = self._pulled(number)
        node = self.graph[number]
        turn = self._learners_turns.get(number)
        self._open.append(_Open(guard=node.guard, where=where(self.graph, node), turn=turn))
        for value in (*pulled, number):
            self._put(value, len(self._open) - 1)

    def _fits(self, value: int, reader: int, nest: Nest | None) -> bool:
        """Whether a node that waits can be computed in the loops of its reader."""
        if nest is None:
            return False
        rows = self._alike.count(reader)
        return self._alike.count(value) in {rows, rows * prod(axis.size for axis in nest.over)}

    def _begin_block(self, node: Node) -> None:
        """A block in a cluster of its own, behind those of what its operands wait for."""
        op = OPS[node.op]
        assert op.block is not None
        types = [self.graph[value].type for value in node.inputs]
        block = op.block(types, node.attributes, node.type)
        operands = list(node.inputs)
        if isinstance(block, Product):
            turned = [self._turned(value) for value in operands]
            operands = [v if t is None else t for v, t in zip(operands, turned, strict=True)]
            flags = [t is not None for t in turned]
            block = replace(block, a_turned=flags[0], b_turned=flags[1])
        for value in operands:
            if value in self._waiting:
                self._begin(value)
        count = self._alike.count(node.id)
        self._open.append(
            _Open(
                [node.id], count,
                block=block, operands=tuple(operands), guard=node.guard,
                where=where(self.graph, node), turn=self._learners_turns.get(node.id),
            )
        )  # fmt: skip
        self._place[node.id] = len(self._open) - 1

    def _turned(self, value: int) -> int | None:
        """What a node turns round, if its readers do without it."""
        node = self.graph[value]
        return node.inputs[0] if self._is_turn(node) else None

    def _is_turn(self, node: Node) -> bool:
        """Whether a node exchanges the last two axes for products alone."""
        if node.op != "transpose" or node.id in self._outputs or node.guard is not None:
            return False
        order = tuple(rules.as_ints(node.attributes["order"]))
        last = len(order) - 1
        is_turn = last >= 1 and order == (*range(last - 1), last, last - 1)
        return is_turn and all(self.graph[r].op == "matmul" for r in self._readers[node.id])

    def _pulled(self, number: int) -> list[int]:
        """Those that wait for a node, in order."""
        waiting = {v for v in self._needed(number) if v in self._waiting}
        return sorted(waiting, key=self._turns.__getitem__)

    def _put(self, value: int, place: int) -> None:
        self._waiting.pop(value, None)
        self._open[place].add(value, self._alike.nest(value))
        self._place[value] = place
        for read in self.graph[value].inputs:
            self._read_in.setdefault(read, []).append(place)

    # --- variables ------------------------------------------------------------------------------

    def _settle_readers_of_variable(self, node: Node) -> None:
        """Who reads a variable and still waits must not do so until it is overwritten."""
        if node.op != "assign":
            return
        needed = set(self._needed(node.id))
        for reader in self._readers_of(node.inputs[0]):
            if reader in self._waiting and reader not in needed:
                self._begin(reader)

    def _may_write(self, node: Node, place: int) -> bool:
        """Whether all who read what a node overwrites have done so in a cluster's place."""
        if node.op != "assign":
            return True
        variable = node.inputs[0]
        if variable in self._aside:
            return False
        if self._place.get(variable) == place:
            return False  # a kernel writes a place once: nothing orders its stores
        readers = [r for r in self._readers_of(variable) if r != node.id]
        if variable in self._open[place].operands:
            return False
        inside = (r for r in readers if self._place.get(r, place) == place)
        # What is overwritten entry by entry must be read entry by entry.
        if any(OPS[self.graph[r].op].scalar is None for r in inside):
            return False
        return all(self._place.get(r, place) <= place for r in readers)

    def _readers_of(self, value: int) -> Iterable[int]:
        """Who reads a value, some of them turned round, or as a view."""
        for reader in self._readers[value]:
            node = self.graph[reader]
            if OPS[node.op].view or self._is_turn(node):
                yield from self._readers_of(reader)
            else:
                yield reader

    # --- the end --------------------------------------------------------------------------------

    def _closed(self, nodes: Sequence[int], of: _Open | Group) -> Cluster:
        inside = set(nodes)
        readers = nodes[1:] if of.block is not None else nodes
        read = dict.fromkeys(v for n in readers for v in self.graph[n].inputs if v not in inside)
        numbers = [v for v in read if self.graph[v].op == "constant" and self._alike.nest(v)]
        results = tuple(
            n for n in nodes
            if n in self._outputs or OPS[self.graph[n].op].effect
            or any(reader not in inside for reader in self._readers[n])
        )  # fmt: skip
        given = tuple(v for v in read if v not in numbers)
        ordered = (nodes[0], *numbers, *nodes[1:]) if of.block else (*numbers, *nodes)
        made = results or (nodes[-1],)
        return Cluster(ordered, (*of.operands, *given), made, of.block, of.guard)
