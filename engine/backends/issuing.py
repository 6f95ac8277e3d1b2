"""From issues to streams and events: the one place where a plan's order becomes CUDA's.

Usable by any backend whose streams have CUDA's rules; `simulated.py` is one that needs no GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from fml.engine.backends.interface import Event, Issue, Launch, Stream
from fml.engine.plan.sections import sections as of_streams

Events = Mapping[int, Event]


class Captured(Protocol):
    """Work that was captured once, and is launched as often as one likes."""

    def launch(self, stream: Stream) -> None:
        """Do all of it once, behind the work of a stream and before what is added to it later."""
        ...


class CapturingStream(Stream, Protocol):
    """A stream that can write its work down instead of doing it."""

    def begin_capture(self) -> None:
        """Write down what is added from now on, and what is added to streams that join."""
        ...

    def end_capture(self) -> Captured:
        """Return what was written down; all streams must have been joined to this one."""
        ...


def issue(
    issues: Sequence[Issue],
    streams: Sequence[Stream],
    past: Sequence[Events] = (),
) -> Events:
    """Put one iteration on streams; return the events that other streams wait for, by place.

    All things must be launches: a backend first makes copies between its memory and the host's
    tables of what is given and taken. `past[b - 1]` are the events of the iteration `b` before.
    What lies further back needs no waiting: it is before the first iteration, or in an earlier
    replay of a captured graph.
    """
    awaited = {place for one in issues for place, _ in foreign_waits(one, issues)}
    events: dict[int, Event] = {}
    epochs = (events, *past)
    for place, one in enumerate(issues):
        stream = streams[one.stream]
        for other, before in foreign_waits(one, issues):
            if before < len(epochs):
                stream.wait(epochs[before][other])
        assert callable(one.thing), "what is given and taken is copied by launches"
        stream.enqueue(one.thing)
        if place in awaited:
            events[place] = stream.record()
    return events


def foreign_waits(one: Issue, issues: Sequence[Issue]) -> list[tuple[int, int]]:
    """What a thing waits for on other streams: a stream keeps its own order."""
    return [wait for wait in one.waits if issues[wait[0]].stream != one.stream]


def capture(
    issues: Sequence[Issue],
    streams: Sequence[CapturingStream],
    last: Launch,
) -> Captured:
    """Return one iteration as a graph; `last` is done when all else of it is.

    One replay is one iteration. Replays in one stream follow each other, so a wait for an earlier
    iteration is satisfied by their order and leaves nothing in the graph. The first stream begins
    the capture; the others join it by waiting for its event (fork), and it waits for each of them
    in the end (join), as CUDA demands.
    """
    origin, *others = streams
    origin.begin_capture()
    begun = origin.record()
    for stream in others:
        stream.wait(begun)
    issue(one_after_another(issues), streams)
    for stream in others:
        origin.wait(stream.record())
    origin.enqueue(last)
    return origin.end_capture()


def sections(issues: Sequence[Issue]) -> list[list[int]]:
    """The critical sections of an iteration, as `plan.sections.sections` has them."""
    return of_streams((one.stream, one.is_critical, one.is_apart) for one in issues)


def together(issues: Sequence[Issue]) -> list[Issue]:
    """Reorder issues so that each critical section is in one piece and waits in its first thing.

    So it begins when all that it waits for is done, and whoever is in one never waits there.

    Raises:
        ValueError: if a section waits for what comes only behind it.
    """
    import networkx as nx  # a fifth of a second, which the CPU need not wait for

    pieces = {own[0]: own for own in sections(issues)}
    if not pieces:
        return list(issues)
    first = {place: own[0] for own in pieces.values() for place in own}
    waits: list[list[tuple[int, int]]] = [[] for _ in issues]
    for place, one in enumerate(issues):
        waits[first.get(place, place)] += foreign_waits(one, issues)
    order: nx.DiGraph[int] = nx.DiGraph()  # of sections, by their first, and of all else
    latest: dict[int, int] = {}
    for place, one in enumerate(issues):
        piece = first.get(place, place)
        order.add_node(piece)
        order.add_edges_from((first.get(n, n), piece) for n, before in waits[place] if not before)
        if latest.get(one.stream, piece) != piece:
            order.add_edge(latest[one.stream], piece)
        latest[one.stream] = piece
    try:
        sorted_pieces = list(nx.lexicographical_topological_sort(order))
    except nx.NetworkXUnfeasible:
        raise ValueError("a critical section waits for what comes behind it") from None
    placed = [place for piece in sorted_pieces for place in pieces.get(piece, [piece])]
    new = {old: place for place, old in enumerate(placed)}
    return [
        replace(issues[old], waits=tuple((new[n], before) for n, before in waits[old]))
        for old in placed
    ]


def one_after_another(issues: Sequence[Issue]) -> list[Issue]:
    """Let every critical section wait for the one before it, and reorder issues accordingly.

    CUDA has no locks among streams: it never promises that two kernels run side by side, so none
    may spin until another is done. An order that is chosen beforehand excludes as well.

    Raises:
        ValueError: as `together` does.
    """
    issues = together(issues)
    for before, (first, *_) in pairwise(sections(issues)):
        one = issues[first]
        issues[first] = replace(one, waits=(*one.waits, (before[-1], 0)))
    return issues
