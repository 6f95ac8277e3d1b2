"""The last steps of a run as a timeline: what was planned beside what was done (`events.py`).

Planned is what the plan comes to if each stream has a core of its own, and each task takes what its
operations and its bytes take at the machine's peaks; a task that was left out, as its guard said
no, is planned all the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from fml.engine.plan.task import Plan, Streams
from fml.engine.plan.timetable import timetable, waits_of
from fml.engine.profile.attribution import given_name
from fml.engine.profile.events import Event, Track, arrow, complete, names
from fml.engine.profile.machine import Machine
from fml.engine.profile.outlook import Expected, expected_tasks
from fml.engine.profile.profile import OUTSIDE
from fml.engine.runtime.tracer import TracedStep, Tracer

_ACTUAL, _PLANNED, _CORES = 1, 2, 3
# A step, a task (None is what is only given or taken), and whose it is.
_Key = tuple[int, int | None, int]


def run_trace(tracer: Tracer, plan: str, machine: Machine) -> dict[str, object]:
    """Return the object that is written as JSON, of a run that has taken some step.

    `plan` is the plan's name, and `machine` has the peaks.
    """
    assert tracer.section is not None
    drawn = _Drawn(tracer, tracer.section.executable.plan, machine)
    return {
        "traceEvents": [*drawn.names(plan), *drawn.actual(), *drawn.planned()],
        "displayTimeUnit": "ns",
        "otherData": {
            "plan": plan,
            "planned": "each stream on a core of its own, each task at the machine's peaks",
        },
    }


@dataclass(frozen=True)
class _Drawn:
    tracer: Tracer
    plan: Plan
    machine: Machine

    @cached_property
    def tasks(self) -> tuple[Expected, ...]:
        return expected_tasks(self.plan, self.machine)

    @property
    def is_one_stream(self) -> bool:
        return self.plan.streams.count == 1

    @cached_property
    def first(self) -> float:
        """When the first step that is shown began."""
        return min(float(step.seconds[:, 0].min()) for step in self.tracer.steps)

    @cached_property
    def streams(self) -> list[str]:
        """What each stream is called, by its number."""
        return _stream_names(self.plan.streams)

    @cached_property
    def keys(self) -> list[tuple[int | None, int]]:
        """Of each thing of a step its task and learner."""
        assert self.tracer.section is not None
        keys: list[tuple[int | None, int]] = [*self.tracer.section.executable.issued_keys]
        if self.is_one_stream:
            given = len(self.tracer.given_to)
            taken = len(self.tracer.steps[0].workers) - given - len(keys)
            keys = [*[(None, 0)] * given, *keys, *[(None, 0)] * taken]
        return keys

    def track(self, process: int, task: int | None, learner: int) -> Track:
        """The row of an instance of a task."""
        number = self.plan.streams.number
        stream = 0 if task is None else number(self.plan.tasks[task], learner)
        return Track(process, stream + 1, self.streams[stream])

    def names(self, plan: str) -> Iterator[Event]:
        """Name all rows."""
        rows = [(n, name) for n, name in enumerate(self.streams, 1)]
        of = f" of {plan}" if plan else ""
        for process, title in ((_ACTUAL, "done"), (_PLANNED, "planned")):
            yield from names(process, f"{title}: steps{of}", [Track(process, *r) for r in rows])
        workers = {int(worker) for step in self.tracer.steps for worker in step.workers}
        if not self.is_one_stream:
            yield from names(_CORES, "cores", [_core(worker) for worker in sorted(workers)])

    # --- what was done --------------------------------------------------------------------------

    def actual(self) -> Iterator[Event]:
        """What was done, by streams and by cores, and who waited for whom."""
        when: dict[_Key, tuple[float, float]] = {}
        for step in self.tracer.steps:
            yield from self.step(step)
            for (task, learner), (begin, end) in zip(self.keys, step.seconds, strict=True):
                key = (step.step, task, learner)
                begun = when.get(key, (float(begin), 0.0))[0]  # a task may be several things
                when[key] = (begun, float(end))
        times = {key: (b - self.first, e - self.first) for key, (b, e) in when.items()}
        yield from self.arrows(_ACTUAL, times)

    def step(self, step: TracedStep) -> Iterator[Event]:
        """All things of a step."""
        given = len(self.tracer.given_to) if self.is_one_stream else 0
        for place, (task, learner) in enumerate(self.keys):
            begin, end = (float(seconds) - self.first for seconds in step.seconds[place])
            worker = int(step.workers[place])
            args: Event = {"step": step.step}
            if task is not None:
                name, category = _name(self.tasks[task]), self.tasks[task].phase
                args |= self.args(task)
            elif place < given:
                name, category = f"give {self.given(place)}", "feeding"
            else:
                name, category = "keep a figure", "figures"
            track = self.track(_ACTUAL, task, learner)
            yield complete(name, category, track, begin, end, args | self.by(worker))
            if not self.is_one_stream:
                named = f"{track.name}: {name}"
                yield complete(named, category, _core(worker), begin, end, args)

    def by(self, worker: int) -> Event:
        return {} if self.is_one_stream else {"core": worker}

    def given(self, place: int) -> str:
        return given_name(self.plan.graph[self.tracer.given_to[place]])

    def args(self, task: int) -> Event:
        """What is known of a task."""
        expected = self.tasks[task]
        return {
            "layer": expected.layer,
            "flops": expected.flops,
            "bytes": expected.nbytes,
            "planned us": round(expected.seconds * 1e6, 3),
            "may be left out": expected.task.guard is not None,
        }

    # --- what was planned -----------------------------------------------------------------------

    def planned(self) -> Iterator[Event]:
        """What the plan comes to."""
        # Whole nanoseconds, as events have them, and no less than one: an arrow to a task of no
        # length would belong to what begins behind it.
        costs = [max(ceil(task.seconds * 1e9), 1) / 1e9 for task in self.tasks]
        numbers = [step.step for step in self.tracer.steps]
        when: dict[_Key, tuple[float, float]] = {}
        for slot in timetable(self.plan, costs, len(numbers)):
            number, expected = numbers[slot.iteration], self.tasks[slot.task]
            track = self.track(_PLANNED, slot.task, slot.learner)
            when[number, slot.task, slot.learner] = (slot.begin, slot.end)
            args = self.args(slot.task) | {"step": number}
            yield complete(_name(expected), expected.phase, track, slot.begin, slot.end, args)
        yield from self.arrows(_PLANNED, when)

    def arrows(self, process: int, when: Mapping[_Key, tuple[float, float]]) -> Iterator[Event]:
        """From what is waited for on another stream to what waits."""
        number = process << 32  # arrows of one number are one arrow
        for step, task, learner in when:
            if task is None:
                continue
            to = self.track(process, task, learner)
            for other, whose, before in waits_of(self.plan, task, learner):
                awaited = (step - before, other, whose)
                on = self.track(process, other, whose)
                if awaited in when and on != to:
                    number += 1
                    begin = when[step, task, learner][0]
                    yield from arrow(number, when[awaited], on, begin, to)


def _name(expected: Expected) -> str:
    is_of_layer = expected.task.work is not None and expected.layer != OUTSIDE
    return f"{expected.layer}: {expected.name}" if is_of_layer else expected.name


def _core(worker: int) -> Track:
    return Track(_CORES, worker + 1, f"core {worker}")


def _stream_names(streams: Streams) -> list[str]:
    """What each stream is called, by its number."""
    if streams.count == 1:
        return ["steps"]

    def several(name: str, count: int) -> list[str]:
        return [name] if count == 1 else [f"{name}, stream {n}" for n in range(count)]

    devices = range(streams.devices)
    central = ["central"] if streams.devices == 1 else [f"central, device {n}" for n in devices]
    own = [f"learner {n}" for n in range(streams.learners)]
    return [
        *(name for device in central for name in several(device, streams.per_device)),
        *(name for learner in own for name in several(learner, streams.per_learner)),
    ]
