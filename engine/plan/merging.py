"""Clusters that hand values on to each other become one where nothing has to come between.

`clusters` takes nodes in their order, so what is computed early for a late reader stays apart from
it, and a value goes through memory that could stay in a register: the momentum of averaged models,
which reads no learner, beside the sum over learners; a correction beside the update of what it
corrects. Here one of two clusters does nothing but go over entries (a map), and the other's loops
have these entries too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fml.engine.ir.graph import Graph
from fml.engine.kernels.blocks import Block
from fml.engine.ops.table import OPS
from fml.engine.plan.cluster import Alike
from fml.engine.plan.order import late_reads, variable_of
from fml.engine.plan.readiness import by_readiness
from fml.engine.plan.turns import shared_by_learners
from fml.engine.plan.where import Where, base_of


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that one kernel is to compute, in an order in which each reads those before it.

    Attributes:
        block: how the first node is computed, of `operands`, if it is a contraction.
        where: with whom all of them are computed, under which `guard` and in which `turn`.
    """

    nodes: tuple[int, ...]
    block: Block | None
    operands: tuple[int, ...]
    guard: int | None
    where: Where
    turn: int | None


def merged(graph: Graph, alike: Alike, groups: Sequence[Group], most: int) -> tuple[Group, ...]:
    """Put groups together, up to `most` nodes each; return them in an order in which they can run.

    Without learners it is the order that they had, but for those that were put together: these come
    as soon as they can.
    """
    merging = _Merging(graph, alike, dict(enumerate(groups)), most)
    found = True
    while found:
        found = False
        for place in range(len(groups)):
            found |= merging.take(place)
    return tuple(merging.groups[place] for place in merging.order())


class _Merging:
    """Groups by their places, and which must come before which."""

    def __init__(self, graph: Graph, alike: Alike, groups: dict[int, Group], most: int) -> None:
        self.groups = groups
        self._graph, self._alike, self._most = graph, alike, most
        self._place = {node: place for place, group in groups.items() for node in group.nodes}
        self._number = {node.id: number for number, node in enumerate(graph)}
        self._readers: dict[int, set[int]] = {node.id: set() for node in graph}
        for node in graph:
            for value in node.needs:
                for source in self._beneath(value):
                    self._readers[source].add(node.id)
        self._outputs = frozenset(graph.outputs.values())
        self._aside = frozenset(value for _, value in late_reads(graph).aside)
        self._shared = shared_by_learners(graph)
        self._behind: dict[int, set[int]] = {place: set() for place in groups}
        for one, other in self._orders():
            self._behind[one].add(other)

    def take(self, place: int) -> bool:
        """Put a map into the group with which it shares most, if that can be."""
        group = self.groups.get(place)
        if group is None or not self._is_map(group):
            return False
        handed = self._handed(place)
        for host in sorted(handed, key=lambda host: (-handed[host], host)):
            if self._fits(group, self.groups[host]) and self._are_beside(place, host):
                self._join(place, host)
                return True
        return False

    def order(self) -> Iterator[int]:
        """Places in an order in which none comes before what it waits for."""
        mapped = {place for place, group in self.groups.items() if group.where.mapped}
        return by_readiness(self._behind, mapped)

    # --- what must come before what --------------------------------------------------------------

    def _orders(self) -> Iterator[tuple[int, int]]:
        """Pairs of places: of a value and of who reads it, of a variable's readers and writer."""
        for node in self._place:
            here = self._place[node]
            for value in self._graph[node].needs:
                for source in self._beneath(value):
                    if self._place.get(source, here) != here:
                        yield self._place[source], here
            if self._graph[node].op == "assign":
                for there in self._places_of(self._readers_beneath(node)):
                    if there != here:  # who reads the old value later reads what was put aside
                        yield min(there, here), max(there, here)

    def _beneath(self, value: int) -> Iterator[int]:
        """A value, and if no cluster computes it, what it is a view of or turns round."""
        yield value
        if value not in self._place:
            for source in self._graph[value].inputs:
                yield from self._beneath(source)

    def _readers_beneath(self, assign: int) -> set[int]:
        """All that read what a node overwrites."""
        target = self._graph[assign].inputs[0]
        return set[int]().union(*(self._readers[value] for value in self._beneath(target)))

    def _places_of(self, nodes: Iterable[int]) -> set[int]:
        return {self._place[node] for node in nodes if node in self._place}

    def _are_beside(self, one: int, other: int) -> bool:
        """Whether nothing has to come between two groups."""
        return not (self._leads(one, other) or self._leads(other, one))

    def _leads(self, one: int, other: int) -> bool:
        """Whether a third group comes behind one and before another."""
        to_see = list(self._behind[one] - {other})
        seen = set(to_see)
        while to_see:
            behind = self._behind[to_see.pop()]
            if other in behind:
                return True
            to_see += behind - seen
            seen |= behind
        return False

    # --- whether two fit -------------------------------------------------------------------------

    def _is_map(self, group: Group) -> bool:
        """Whether a group goes over entries, each of them computed of those at its own place."""
        if group.block is not None:
            return False
        is_by_entry = all(map(self._is_by_entry, group.nodes))
        return is_by_entry and len(self._counts(group)) == 1

    def _is_by_entry(self, number: int) -> bool:
        op = OPS[self._graph[number].op]
        return op.scalar is not None or op.name == "assign"

    def _counts(self, group: Group) -> set[int]:
        """How many entries the values of a group have."""
        return {self._alike.count(node) for node in group.nodes}

    def _handed(self, place: int) -> dict[int, int]:
        """Bytes that a group hands to each other one, and is handed by it.

        What nobody else reads counts twice: it need not be written either.
        """
        found: dict[int, int] = {}
        own = self.groups[place].nodes
        given = (value for node in own for value in self._graph[node].inputs)
        for value in dict.fromkeys((*own, *given)):
            maker = self._place.get(value)
            if maker is None:
                continue
            readers = self._places_of(self._readers[value])
            is_kept = value in self._outputs or OPS[self._graph[value].op].effect
            is_alone = not is_kept and len({maker, *readers}) == 2
            for other in (readers if maker == place else {maker}) - {place}:
                nbytes = self._graph[value].type.nbytes * (1 + is_alone)
                found[other] = found.get(other, 0) + nbytes
        return found

    def _fits(self, group: Group, host: Group) -> bool:
        """Whether a map can be computed in the loops of another group."""
        if (group.guard, group.where, group.turn) != (host.guard, host.where, host.turn):
            return False
        if len(group.nodes) + len(host.nodes) > self._most:
            return False
        if any(self._alike.nest(node) is None for node in host.nodes):
            return False
        if not self._counts(group) <= self._counts(host):
            return False
        if self._is_shared(group) != self._is_shared(host):
            return False  # heavy work has no place in a critical section
        both = {*group.nodes, *host.nodes}
        return self._reads_in_place(group, both, host.operands) and self._may_write(both, host)

    def _is_shared(self, group: Group) -> bool:
        """Whether a group touches what learners assign to in turns or in critical sections."""
        touched = (v for node in group.nodes for v in (node, *self._graph[node].inputs))
        nodes = (self._graph[base_of(self._graph, value)] for value in touched)
        return any(variable_of(node) in self._shared for node in nodes)

    def _reads_in_place(self, group: Group, both: set[int], operands: Sequence[int]) -> bool:
        """Whether a map and its host read each other, and the map itself, entry by entry."""
        own = set(group.nodes)
        if not own.isdisjoint(operands):
            return False
        for node in both:
            for place, value in enumerate(self._graph[node].inputs):
                if value not in self._place and not both.isdisjoint(self._beneath(value)):
                    return False  # what a view is of must be stored
                crosses = value in own or (node in own and value in both)
                if crosses and not self._alike.is_read_in_place(node, place):
                    return False
        return True

    def _may_write(self, both: set[int], host: Group) -> bool:
        """Whether what is overwritten is read there entry by entry, before, and by nobody late."""
        for node in (n for n in both if self._graph[n].op == "assign"):
            beneath = set(self._beneath(self._graph[node].inputs[0]))
            if beneath & self._aside or beneath & both or beneath.intersection(host.operands):
                return False
            for reader in (self._readers_beneath(node) & both) - {node}:
                places = [n for n, v in enumerate(self._graph[reader].inputs) if v in beneath]
                in_place = all(self._alike.is_read_in_place(reader, place) for place in places)
                if not (in_place and self._is_by_entry(reader)):
                    return False
        return True

    # --- putting together ------------------------------------------------------------------------

    def _join(self, place: int, host: int) -> None:
        group, into = self.groups.pop(place), self.groups.pop(host)
        first = into.nodes[: into.block is not None]
        rest = {*group.nodes, *into.nodes[len(first) :]}
        nodes = (*first, *sorted(rest, key=self._number.__getitem__))
        kept = min(place, host)
        self.groups[kept] = Group(
            nodes, into.block, into.operands, into.guard, into.where, into.turn
        )
        self._place.update(dict.fromkeys(group.nodes + into.nodes, kept))
        both = {place, host}
        behind = self._behind.pop(place) | self._behind.pop(host)
        for later in self._behind.values():
            if later & both:
                later.difference_update(both)
                later.add(kept)
        self._behind[kept] = behind - both
