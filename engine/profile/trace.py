"""A profile's real steps in the Trace Event Format, which Perfetto and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: an object with
`traceEvents`; complete events (`ph` X) have a beginning `ts` and a duration `dur` in microseconds,
and lie inside each other where their times do; metadata events (`ph` M) name the tracks.
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import TypeAlias

from fml.engine.ir.graph import Phase
from fml.engine.profile.profile import OUTSIDE, Profile, TaskCost

_PROCESS = 1
_TASKS, _LAYERS, _PYTHON = 1, 2, 3
_TRACKS = {_TASKS: "tasks", _LAYERS: "layers", _PYTHON: "Python"}
Event: TypeAlias = dict[str, object]
# A name, a category, and what is known besides.
_Thing: TypeAlias = tuple[str, str, Event]


def trace(profile: Profile) -> dict[str, object]:
    """Return the object that is written as JSON."""
    return {
        "traceEvents": [*_names(profile), *_python(profile), *_steps(profile)],
        "displayTimeUnit": "ns",
        "otherData": {
            "plan": profile.plan,
            "device": profile.device,
            "notes": list(profile.notes),
        },
    }


def _names(profile: Profile) -> Iterator[Event]:
    title = f"fml profile {profile.plan}".strip()
    yield _metadata("process_name", {"name": title})
    for track, name in _TRACKS.items():
        yield _metadata("thread_name", {"name": name}, track)
        yield _metadata("thread_sort_index", {"sort_index": track}, track)


def _metadata(name: str, args: Event, track: int = 0) -> Event:
    return {"name": name, "ph": "M", "ts": 0, "pid": _PROCESS, "tid": track, "args": args}


def _python(profile: Profile) -> Iterator[Event]:
    for begin, end in profile.timeline.python:
        yield _complete("choose samples", "python", _PYTHON, begin, end, {})


def _steps(profile: Profile) -> Iterator[Event]:
    timeline = profile.timeline
    given: list[_Thing] = [(f"give {name}", "feeding", {}) for name in timeline.given]
    tasks: list[_Thing] = [
        (task.name, _main(task)[1].value, _args(profile, task)) for task in profile.tasks
    ]
    figures: list[_Thing] = [("keep a figure", "figures", {})] * timeline.figures
    things = [*given, *tasks, *figures]
    for number, times in timeline.steps:
        yield _complete(f"step {number}", "step", _TASKS, times[0], times[-1], {"step": number})
        for (name, category, args), (begin, end) in zip(things, pairwise(times), strict=True):
            yield _complete(name, category, _TASKS, begin, end, args)
        yield from _layers(profile, times[len(given) :])


def _layers(profile: Profile, times: tuple[float, ...]) -> Iterator[Event]:
    """Tasks in a row of one layer and phase, as one event."""
    places = range(len(profile.tasks))
    for (layer, phase), row in groupby(places, lambda n: _main(profile.tasks[n])):
        inside = list(row)
        begin, end = times[inside[0]], times[inside[-1] + 1]
        yield _complete(f"{layer} {phase.value}", phase.value, _LAYERS, begin, end, {})


def _main(task: TaskCost) -> tuple[str, Phase]:
    """The layer and the phase that most of a task belongs to."""
    if not task.parts:
        return OUTSIDE, Phase.FORWARD
    part = max(task.parts, key=lambda part: part.share)
    return part.layer, part.phase


def _args(profile: Profile, task: TaskCost) -> Event:
    cost = profile.cost(task)
    return {
        "nodes": list(task.nodes),
        "flops": task.flops,
        "bytes": task.nbytes,
        "usual us": round(task.seconds * 1e6, 3),
        "alone us": round(task.alone * 1e6, 3),
        "GFLOP/s": round(task.flops / task.seconds / 1e9, 3) if task.seconds else None,
        "GB/s": round(task.nbytes / task.seconds / 1e9, 3) if task.seconds else None,
        "bound": "compute" if cost.is_compute_bound else "memory",
        "of peak": round(cost.of_peak, 4),
        "runs in": "kernel" if task.is_native else "numpy",
    }


def _complete(name: str, category: str, track: int, begin: float, end: float, args: Event) -> Event:
    # Whole nanoseconds, so that an event ends where the next one begins.
    first, last = round(begin * 1e9), round(end * 1e9)
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": first / 1e3,
        "dur": (last - first) / 1e3,
        "pid": _PROCESS,
        "tid": track,
        "args": args,
    }
