"""Which stream each step is put on, and in what order: list scheduling by rank.

Steps are taken by the length of the longest chain that begins with them, as in HEFT (Topcuoglu,
Hariri and Wu 2002), and each is put where it can begin first. To wait for another stream takes
time, so what gains nothing by leaving its predecessor's stream stays there. It is all done on the
steps as they stand in the plan, once for all learners, with one learner's costs.
"""

from collections import defaultdict
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fml.engine.ir.graph import Graph
from fml.engine.ops.table import OPS
from fml.engine.plan.buffers import Before, Key, aside, in_order, of_value, read_key, where_of
from fml.engine.plan.order import PutAside, Sequence, Step, needs, variable_of
from fml.engine.plan.task import Streams, Work
from fml.engine.plan.where import Where, base_of, where

# Seconds, and what a second comes to: only their proportions matter.
_TO_BEGIN = 1e-6
_TO_WAIT = 5e-6
_FLOPS = 5e10
_BYTES = 2.5e10


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps on streams.

    Attributes:
        order: the steps in an order in which one stream could carry them out.
        streams: the stream of each step, among those of its device or of each learner.
        before: which steps are over when a step begins, by what they touch and by the order of
            streams, but for memory that is used again.
    """

    order: Sequence
    streams: tuple[int, ...]
    before: Before

    def used(self, graph: Graph, streams: Streams) -> Streams:
        """As few streams as hold the steps."""
        most = {True: 1, False: 1}
        for step, stream in zip(self.order.steps, self.streams, strict=True):
            is_mapped = where_of(graph, step).mapped
            most[is_mapped] = max(most[is_mapped], stream + 1)
        return Streams(most[False], streams.devices, streams.learners, most[True])

    def first_reader(self, graph: Graph, value: int) -> int:
        """The stream of the first step that reads what is given, where it is given."""
        here = where(graph, graph[value])
        for step, stream in zip(self.order.steps, self.streams, strict=True):
            read = needs(step) if isinstance(step, Work) else ()
            if value in (base_of(graph, v) for v in read) and where_of(graph, step) == here:
                return stream
        return 0

    def maker(self, graph: Graph, value: int) -> int:
        """The stream of the step that makes what is taken."""
        made = base_of(graph, value)
        for step, stream in zip(self.order.steps, self.streams, strict=True):
            if isinstance(step, Work) and made in step.results:
                is_here = where_of(graph, step) == where(graph, graph[value])
                return stream if is_here else 0
        return 0


def scheduled(graph: Graph, order: Sequence, streams: Streams) -> Schedule:
    """Put steps on at most so many streams of each device and of each learner.

    Where there is one of each they stay in their order.
    """
    if streams.per_device == streams.per_learner == 1:
        return Schedule(order, (0,) * len(order.steps), in_order(order))
    behind = _dependences(graph, order)
    pieces = [
        _Piece(where_of(graph, step), _cost(graph, step), tuple(sorted(before)))
        for step, before in zip(order.steps, behind, strict=True)
    ]
    put = _put(pieces, streams)
    places = sorted(range(len(pieces)), key=lambda at: (put[at].begin, put[at].turn))
    moved = {old: new for new, old in enumerate(places)}
    aside = frozenset((moved[at], value) for at, value in order.aside)
    return Schedule(
        Sequence(tuple(order.steps[at] for at in places), aside, order.outputs_aside),
        tuple(put[at].stream for at in places),
        _closed(pieces, put, places, moved),
    )


class _Piece(NamedTuple):
    where: Where
    cost: float
    behind: tuple[int, ...]


class _Put(NamedTuple):
    stream: int
    begin: float
    turn: int


def _put(pieces: Ordered[_Piece], streams: Streams) -> dict[int, _Put]:
    """Take pieces by their rank, and put each where it can begin first."""
    put: dict[int, _Put] = {}
    free: dict[tuple[Where, int], float] = defaultdict(float)
    for turn, at in enumerate(_by_rank(pieces)):
        here = pieces[at].where
        ends = [
            (put[n].begin + pieces[n].cost, pieces[n].where, put[n].stream)
            for n in pieces[at].behind
        ]
        home = max((end for end in ends if end[1] == here), default=(0.0, here, 0))[2]
        count = streams.per_learner if here.mapped else streams.per_device
        begins = [
            max([free[here, stream], *(_ready(*end, here, stream) for end in ends)])
            for stream in range(count)
        ]
        stream = min(range(count), key=lambda s: (begins[s], s != home, s))
        put[at] = _Put(stream, begins[stream], turn)
        free[here, stream] = begins[stream] + pieces[at].cost
    return put


def _ready(end: float, place: Where, other: int, here: Where, stream: int) -> float:
    """When a stream knows of something that ended on another one, or on itself."""
    return end if (place, other) == (here, stream) else end + _TO_WAIT


def _by_rank(pieces: Ordered[_Piece]) -> list[int]:
    """Those with the longest chains behind them first: none before one that it must come behind."""
    ranks = [piece.cost for piece in pieces]
    for at in reversed(range(len(pieces))):
        for earlier in pieces[at].behind:
            ranks[earlier] = max(ranks[earlier], pieces[earlier].cost + ranks[at])
    return sorted(range(len(pieces)), key=lambda at: (-ranks[at], at))


def _closed(
    pieces: Ordered[_Piece], put: dict[int, _Put], places: list[int], moved: dict[int, int]
) -> Before:
    before: list[int] = []
    latest: dict[tuple[Where, int], int] = {}
    for new, at in enumerate(places):
        stream = pieces[at].where, put[at].stream
        over = [moved[n] for n in pieces[at].behind]
        over += [latest[stream]] if stream in latest else []
        mask = 0
        for earlier in over:
            mask |= before[earlier] | 1 << earlier
        before.append(mask)
        latest[stream] = new
    return tuple(before)


# --- what steps touch, before any of it has a place ---------------------------------------------

_Thing: TypeAlias = Key | str  # a buffer, or a variable by its name


def _dependences(graph: Graph, order: Sequence) -> list[set[int]]:
    """For each step those that it must come behind: one of two writes what the other touches."""
    writer: dict[_Thing, int] = {}
    readers: dict[_Thing, set[int]] = defaultdict(set)
    found: list[set[int]] = []
    for at, step in enumerate(order.steps):
        reads, writes = _touched(graph, order, at, step)
        behind = {writer[thing] for thing in (*reads, *writes) if thing in writer}
        for thing in reads:
            readers[thing].add(at)
        for thing in writes:
            behind |= readers.pop(thing, set())
            writer[thing] = at
        found.append(behind - {at})
    return found


def _touched(
    graph: Graph, order: Sequence, at: int, step: Step
) -> tuple[list[_Thing], list[_Thing]]:
    if isinstance(step, PutAside):
        return [_thing(graph, of_value(base_of(graph, step.value)))], [aside(step.value)]
    reads = [_thing(graph, read_key(graph, order, at, value)) for value in needs(step)]
    return reads, [_thing(graph, of_value(base_of(graph, value))) for value in step.results]


def _thing(graph: Graph, key: Key) -> _Thing:
    kind, value, _ = key
    name = variable_of(graph[value]) if kind == "value" else None
    return key if name is None else name


def _cost(graph: Graph, step: Step) -> float:
    """An estimate; more than nothing, so that what comes behind begins later."""
    if isinstance(step, PutAside):
        return _TO_BEGIN + 2 * graph[step.value].type.nbytes / _BYTES
    flops = sum(_flops(graph, number) for number in step.nodes)
    nbytes = sum(graph[v].type.nbytes for v in (*step.inputs, *step.results))
    return _TO_BEGIN * _calls(step) + max(flops / _FLOPS, nbytes / _BYTES)


def _calls(work: Work) -> int:
    return max(len(work.parts), 1)


def _flops(graph: Graph, number: int) -> int:
    node = graph[number]
    inputs = [graph[value].type for value in node.inputs]
    return OPS[node.op].flops(inputs, node.attributes, node.type)
