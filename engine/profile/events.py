"""Events of the Trace Event Format, which Perfetto and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: an object with
`traceEvents`; complete events (`ph` X) have a beginning `ts` and a duration `dur` in microseconds,
and lie inside each other where their times do; metadata events (`ph` M) name processes and tracks;
flow events (`ph` s and f) are arrows from within one event to within another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Event: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Track:
    """A row of a picture: its process, its number there, and what it is called."""

    process: int
    number: int
    name: str


def names(process: int, title: str, tracks: list[Track]) -> Iterator[Event]:
    """Name a process and its tracks, which are shown in the order of their numbers."""
    yield _metadata("process_name", {"name": title}, process)
    yield _metadata("process_sort_index", {"sort_index": process}, process)
    for track in tracks:
        yield _metadata("thread_name", {"name": track.name}, process, track.number)
        yield _metadata("thread_sort_index", {"sort_index": track.number}, process, track.number)


def _metadata(name: str, args: Event, process: int, track: int = 0) -> Event:
    return {"name": name, "ph": "M", "ts": 0, "pid": process, "tid": track, "args": args}


def complete(
    name: str, category: str, track: Track, begin: float, end: float, args: Event
) -> Event:
    """What is done on a track, from when to when in seconds."""
    # Whole nanoseconds, so that an event ends where the next one begins.
    first, last = round(begin * 1e9), round(end * 1e9)
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": first / 1e3,
        "dur": (last - first) / 1e3,
        "pid": track.process,
        "tid": track.number,
        "args": args,
    }


def arrow(
    number: int, awaited: tuple[float, float], on: Track, begin: float, to: Track
) -> Iterator[Event]:
    """An arrow of a number of its own from what is done on one track to what begins on another.

    `awaited` is when the one begins and ends. An arrow belongs to the event that it begins in: that
    is the last nanosecond of this one, as the next may begin where it ends.
    """
    common: Event = {"name": "wait", "cat": "wait", "id": number}
    first, last = (round(time * 1e9) for time in awaited)
    at: Event = {"pid": on.process, "tid": on.number, "ts": max(first, last - 1) / 1e3}
    yield {**common, "ph": "s", **at}
    at = {"pid": to.process, "tid": to.number, "ts": round(begin * 1e9) / 1e3}
    yield {**common, "ph": "f", "bp": "e", **at}
