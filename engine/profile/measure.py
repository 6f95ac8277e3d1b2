"""Measures a run: its steps as they are, each task by itself, and what it measures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fml.engine.backends.interface import Backend, Clock, Launch, LaunchError, Loop
from fml.engine.backends.numpy import LoopOfCalls
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Measure, Training
from fml.engine.ir.types import Element, tensor
from fml.engine.ops.record import Array
from fml.engine.plan.task import Region, Task
from fml.engine.profile import machine
from fml.engine.profile.attribution import amounts
from fml.engine.profile.profile import (
    Given,
    MeasureCost,
    Profile,
    TaskCost,
    Timeline,
)
from fml.engine.profile.timing import seconds_of
from fml.engine.runtime.feeding import Data, has_samples, samples_in
from fml.engine.runtime.measuring import Measurement
from fml.engine.runtime.pace import SECONDS_AT_ONCE
from fml.engine.runtime.trainer import Trainer

# Steps before the clock runs: kernels and data come into the caches, and the core to its pace.
_WARM_UP_SECONDS, _WARM_UP_STEPS = 0.3, 3
# Steps are measured in stretches of some at a time, with the clock and without in turns.
_LEAST_STRETCHES, _MOST_STRETCHES = 4, 40
_LOOK_SAMPLES = 3
_SHOWN_STEPS = 5
# A measurement is taken of so many samples at most, and for so long if it is short.
_MEASURED_SAMPLES, _MEASURED_SECONDS = 256, 0.2


def profile(
    training: Training,
    data: Data,
    backend: Backend,
    *,
    device: str,
    seconds: float,
    seed: int | None = None,
    notes: Sequence[str] = (),
) -> Profile:
    """Begin a run and measure where the time of its steps goes.

    Steps are measured for about so many `seconds`, and the tasks by themselves for as many again.

    Raises:
        FmlError: it cannot be begun, as `trainer.train` raises, or has learners (E0901).
    """
    _require_no_learners(training)
    with backend.at_work():
        peaks = machine.measured(backend)
        begun = time.perf_counter()
        trainer = Trainer(training, data, backend, training.seed if seed is None else seed)
        preparing = time.perf_counter() - begun
        found = of_trainer(trainer, backend, peaks, preparing, seconds)
        measures = _measures(trainer, data, backend, min(seconds, _MEASURED_SECONDS))
    if interpreted := _interpreted(found):
        notes = (*notes, interpreted)
    return replace(found, plan=training.name, device=device, measures=measures, notes=tuple(notes))


def _require_no_learners(training: Training) -> None:
    """A task of learners has a time for each, and they run side by side."""
    if training.learners is not None:
        marks = (Mark(training.learners.span),) if training.learners.span else ()
        help = "profile a plan without `learners`"
        message = "a plan with learners cannot be profiled yet"
        raise FmlError([Diagnostic("E0901", message, marks, (), help)])


def _interpreted(profile: Profile) -> str:
    """Say which tasks numpy computes, if some do."""
    own = [task for task in profile.tasks if not task.is_native]
    if not own:
        return ""
    if len(own) == len(profile.tasks):
        return "everything runs in numpy, operation by operation: nothing is compiled"
    ops = sorted({part.op for task in own for part in task.parts})
    return f"{len(own)} tasks run in numpy, for there are no kernels of: {', '.join(ops)}"


@dataclass(frozen=True, slots=True)
class _Stretches:
    """What was measured of steps, seconds of one each.

    Attributes:
        things: f64[things], of each thing that a step does.
        between: of what is left of a step without a look at the clock.
        filling: of Python.
        at_once: how many are taken in one native call.
        steps: how many were measured.
    """

    things: Array
    between: float
    filling: float
    at_once: int
    steps: int


def of_trainer(
    trainer: Trainer,
    backend: Backend,
    peaks: machine.Machine,
    preparing: float,
    seconds: float,
) -> Profile:
    """Measure the steps of a run from where it stands, which it does again afterwards.

    Raises:
        FmlError: E0714 and E0715, an operation raised.
    """
    steps, moment = trainer.steps, trainer.moment
    fill, restore = trainer.store.second_place()
    fill()
    try:
        stretches = _stretches(trainer, restore, _seconds_of_a_look(backend), seconds)
        restore()
        steps.provide(moment, 0.0)
        alone = _alone(trainer, backend, seconds)
        restore()
        timeline = _timeline(trainer)
    except LaunchError as fault:
        raise trainer.step.executable.said_of(fault) from fault
    finally:
        restore()
    given, tasks, figures = np.split(
        stretches.things, np.cumsum([len(steps.given_to), len(trainer.step.executable.plan.tasks)])
    )
    graph = trainer.step.graph
    return Profile(
        plan="",
        device=backend.name,
        samples=moment.batch if trainer.batches else 0,
        tasks=_costs(trainer, backend, peaks, tasks, alone),
        given=tuple(
            Given(_given_name(graph, number), float(seconds), 2 * graph[number].type.nbytes)
            for number, seconds in zip(steps.given_to, given, strict=True)
        ),
        figures=float(figures.sum()),
        between=stretches.between,
        python=stretches.filling,
        at_once=stretches.at_once,
        steps=stretches.steps,
        preparing=preparing,
        machine=peaks,
        measures=(),
        timeline=timeline,
    )


# --- steps as they are -----------------------------------------------------------------------


def _stretches(trainer: Trainer, restore: Launch, look: float, budget: float) -> _Stretches:
    steps, moment = trainer.steps, trainer.moment
    seconds = _warm_up(trainer, restore, min(_WARM_UP_SECONDS, budget))
    count = min(steps.most, max(1, int(min(SECONDS_AT_ONCE, budget) / seconds)))
    fitting = int(budget / (2 * count * seconds))
    things: list[Array] = []
    between: list[float] = []
    filling: list[float] = []
    for _ in range(max(_LEAST_STRETCHES, min(fitting, _MOST_STRETCHES))):
        begun = time.perf_counter()
        steps.fill(moment, 0.0, count)
        filling.append((time.perf_counter() - begun) / count)
        # Each begins with the same parameters: what diverges does not get far.
        restore()
        spent = np.diff(steps.take_timed(count), axis=1).mean(0)
        things.append(np.maximum(spent - look, 0.0))
        restore()
        begun = time.perf_counter()
        taken = steps.take(count)
        between.append((time.perf_counter() - begun) / taken - float(things[-1].sum()))
        moment = replace(moment, step=moment.step + count)
    # Medians, and differences of what was measured in a row: others use the machine too.
    return _Stretches(
        np.median(np.stack(things), axis=0),
        max(0.0, float(np.median(between))),
        float(np.median(filling)),
        count,
        count * len(things),
    )


def _warm_up(trainer: Trainer, restore: Launch, budget: float) -> float:
    """Take some steps; return the seconds of one."""
    count, taken, seconds = 1, 0, 0.0
    begun = time.perf_counter()
    while taken < _WARM_UP_STEPS or time.perf_counter() - begun < budget:
        restore()
        before = time.perf_counter()
        done = trainer.steps.run(trainer.moment, 0.0, count)
        seconds = (time.perf_counter() - before) / done
        taken, count = taken + done, min(2 * count, trainer.steps.most)
    return max(seconds, 1e-8)


def _seconds_of_a_look(backend: Backend) -> float:
    """What a look at the clock adds to the time between two, seen in a row of small copies."""
    type, count, iterations = tensor(Element.U8, 8), 64, 1 << 10
    source, target = (backend.view(backend.allocate(type.nbytes), 0, type) for _ in range(2))
    copies = [backend.copy(source, target)] * count
    clock = Clock(np.zeros((iterations, count + 1), np.int64))
    with_looks, without = (
        min(_seconds(loop, iterations) for _ in range(_LOOK_SAMPLES))
        for loop in (backend.loop(copies, clock=clock), backend.loop(copies))
    )
    return max(0.0, with_looks - without) / iterations / (count + 1)


def _seconds(loop: Loop, iterations: int) -> float:
    begun = time.perf_counter()
    loop.run(iterations)
    return time.perf_counter() - begun


def _timeline(trainer: Trainer) -> Timeline:
    """Take some steps in a row, as a run takes them."""
    steps, moment = trainer.steps, trainer.moment
    count = min(steps.most, _SHOWN_STEPS)
    shown: list[tuple[int, tuple[float, ...]]] = []
    python: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(shown) < _SHOWN_STEPS:
        before = time.perf_counter() - begun
        now = replace(moment, step=moment.step + len(shown))
        steps.fill(now, 0.0, count)
        start = time.perf_counter() - begun
        rows = steps.take_timed(count)
        python.append((before, start))
        shown += [(now.step + n, tuple((start + row).tolist())) for n, row in enumerate(rows)]
        count = min(count, _SHOWN_STEPS - len(shown))
    names = tuple(_given_name(trainer.step.graph, number) for number in steps.given_to)
    return Timeline(tuple(shown), tuple(python), names, len(steps.figures))


def _given_name(graph: Graph, number: int) -> str:
    node = graph[number]
    match node.op:
        case "feed":
            return f"{node.attributes['data']}.{node.attributes['field']}"
        case "counter":
            return f"counter of {node.attributes['name']}"
        case "fires":
            return f"every {node.attributes['amount']:g} {node.attributes['unit']}"
        case _:
            return "key of random draws"


# --- tasks by themselves ---------------------------------------------------------------------


def _alone(trainer: Trainer, backend: Backend, budget: float) -> list[float]:
    """Seconds of each task when it is repeated by itself.

    One step is walked through; each task finds what it reads in its place, and is repeated there.
    """
    executable = trainer.step.executable
    each = budget / max(len(executable.plan.tasks), 1)
    found: list[float] = []
    for task, call in zip(executable.plan.tasks, executable.calls, strict=True):
        backs: list[Launch] = []
        for region in _overwritten(task):
            fill, back = executable.second_place(region)
            fill()
            backs.append(back)
        with np.errstate(all="ignore"):
            seconds = seconds_of(backend.loop((*backs, call)), each)
            if backs:
                seconds -= seconds_of(backend.loop(backs), each / 4)
        found.append(max(seconds, 0.0))
    return found


def _overwritten(task: Task) -> list[Region]:
    """Regions that a task reads and writes: they are put back before it is done again."""
    return [w for w in task.writes if any(w.overlaps(r) for r in task.touched)]


def _costs(
    trainer: Trainer,
    backend: Backend,
    peaks: machine.Machine,
    seconds: Array,
    alone: Sequence[float],
) -> tuple[TaskCost, ...]:
    executable = trainer.step.executable
    every = zip(
        executable.plan.tasks, executable.calls, amounts(executable.plan, peaks), seconds, alone,
        strict=True,
    )  # fmt: skip
    return tuple(
        TaskCost(
            amount.name,
            amount.nodes,
            amount.parts,
            amount.element,
            float(own),
            by_itself,
            amount.flops,
            amount.nbytes,
            is_native=not isinstance(backend.loop((call,)), LoopOfCalls),
            is_conditional=task.guard is not None,
        )
        for task, call, amount, own, by_itself in every
    )


# --- what is measured ------------------------------------------------------------------------


def _measures(
    trainer: Trainer, data: Data, backend: Backend, budget: float
) -> tuple[MeasureCost, ...]:
    """What it takes to measure, from a few samples of each split."""
    return tuple(
        _measure(measure, trainer, data, backend, budget)
        for measure in trainer.training.measures
        if not measure.optional or has_samples(data, measure.data, measure.split)
    )


def _measure(
    measure: Measure, trainer: Trainer, data: Data, backend: Backend, budget: float
) -> MeasureCost:
    split = samples_in(data, measure.data, measure.split, "measure on", measure.span)
    samples = len(next(iter(split.values())))
    some = slice(0, min(samples, _MEASURED_SAMPLES))
    few = {measure.data: {measure.split: {name: rows[some] for name, rows in split.items()}}}
    measurement = Measurement(measure, few, trainer.scale.sizes, backend, trainer.store)

    def take() -> None:
        measurement.take(trainer.moment)

    return MeasureCost(
        f"{measure.data}.{measure.split}",
        tuple(series.name for series in measure.series),
        seconds_of(LoopOfCalls((take,)), budget),
        some.stop,
        samples,
    )
