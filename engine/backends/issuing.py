"""From issues to streams and events: the one place where a plan's order becomes CUDA's.

Usable by any backend whose streams have CUDA's rules; `simulated.py` is one that needs no GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from fml.engine.backends.interface import Event, Issue, Launch, Stream

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
    """The critical sections of an iteration, each as its places, in the order of their first.

    What is critical on one stream, with nothing else of that stream between, is one section.
    """
    found: list[list[int]] = []
    current: dict[int, list[int]] = {}  # the section that each stream is in
    for place, one in enumerate(issues):
        if not one.is_critical:
            current.pop(one.stream, None)
        elif one.stream in current:
            current[one.stream].append(place)
        else:
            current[one.stream] = [place]
            found.append(current[one.stream])
    return found


def one_after_another(issues: Sequence[Issue]) -> list[Issue]:
    """Let every critical section wait for the one before it, and reorder issues accordingly.

    CUDA has no locks among streams: it never promises that two kernels run side by side, so none
    may spin until another is done. An order that is chosen beforehand excludes as well.

    Raises:
        ValueError: if a section waits for one that comes later: a lock could deadlock there too.
    """
    extra: dict[int, tuple[int, int]] = {}
    found = sections(issues)
    for before, section in pairwise(found):
        extra[section[0]] = (before[-1], 0)
    if not extra:
        return list(issues)
    waits = [(*one.waits, *filter(None, [extra.get(n)])) for n, one in enumerate(issues)]
    order = _order(issues, waits)
    places = {old: new for new, old in enumerate(order)}
    return [
        replace(issues[old], waits=tuple((places[other], before) for other, before in waits[old]))
        for old in order
    ]


def _order(issues: Sequence[Issue], waits: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Places in an order in which nothing waits for what comes later, near the one given."""
    import networkx as nx  # a fifth of a second, which the CPU need not wait for

    order: nx.DiGraph[int] = nx.DiGraph()
    order.add_nodes_from(range(len(issues)))
    latest: dict[int, int] = {}
    for place, one in enumerate(issues):
        order.add_edges_from((other, place) for other, before in waits[place] if not before)
        if one.stream in latest:
            order.add_edge(latest[one.stream], place)
        latest[one.stream] = place
    try:
        return list(nx.lexicographical_topological_sort(order))
    except nx.NetworkXUnfeasible:
        raise ValueError("critical sections wait for each other") from None
