"""A profile's real steps as a timeline of events (`events.py`)."""

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import TypeAlias

from fml.engine.ir.graph import Phase
from fml.engine.profile.events import Event, Track, complete, names
from fml.engine.profile.profile import OUTSIDE, Profile, TaskCost

_TASKS, _LAYERS, _PYTHON = (
    Track(1, number, name) for number, name in enumerate(("tasks", "layers", "Python"), 1)
)
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
    yield from names(1, f"fml profile {profile.plan}".strip(), [_TASKS, _LAYERS, _PYTHON])


def _python(profile: Profile) -> Iterator[Event]:
    for begin, end in profile.timeline.python:
        yield complete("choose samples", "python", _PYTHON, begin, end, {})


def _steps(profile: Profile) -> Iterator[Event]:
    timeline = profile.timeline
    given: list[_Thing] = [(f"give {name}", "feeding", {}) for name in timeline.given]
    calls: list[_Thing] = [
        (_named(profile, place, learner), _main(task)[1].value, _args(profile, task))
        for place, learner in timeline.calls
        for task in [profile.tasks[place]]
    ]
    figures: list[_Thing] = [("keep a figure", "figures", {})] * timeline.figures
    things = [*given, *calls, *figures]
    for number, times in timeline.steps:
        yield complete(f"step {number}", "step", _TASKS, times[0], times[-1], {"step": number})
        for (name, category, args), (begin, end) in zip(things, pairwise(times), strict=True):
            yield complete(name, category, _TASKS, begin, end, args)
        yield from _layers(profile, times[len(given) :])


def _layers(profile: Profile, times: tuple[float, ...]) -> Iterator[Event]:
    """Tasks in a row of one layer and phase, as one event."""
    calls = profile.timeline.calls
    places = range(len(calls))
    for (layer, phase), row in groupby(places, lambda n: _main(profile.tasks[calls[n][0]])):
        inside = list(row)
        begin, end = times[inside[0]], times[inside[-1] + 1]
        yield complete(f"{layer} {phase.value}", phase.value, _LAYERS, begin, end, {})


def _named(profile: Profile, place: int, learner: int) -> str:
    task = profile.tasks[place]
    return task.name if task.instances == 1 else f"learner {learner}: {task.name}"


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
