"""Measures a run: its steps as they are, each task by itself, and what it measures."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fml.engine.backends.interface import Backend, Clock, Launch, LaunchError, Loop
from fml.engine.backends.numpy import LoopOfCalls
from fml.engine.ir.training import Measure, Training
from fml.engine.ir.types import Element, tensor
from fml.engine.ops.record import Array
from fml.engine.plan.task import Region, Task
from fml.engine.profile import machine
from fml.engine.profile.attribution import Amount, amounts, given_name
from fml.engine.profile.profile import (
    Given,
    MeasureCost,
    Profile,
    TaskCost,
    Timeline,
)
from fml.engine.profile.timing import seconds_of
from fml.engine.runtime.feeding import Data, has_samples, samples_in
from fml.engine.runtime.learners import decided
from fml.engine.runtime.measuring import Measurement
from fml.engine.runtime.pace import SECONDS_AT_ONCE
from fml.engine.runtime.trainer import Trainer
from fml.engine.runtime.watch import Silent

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
        FmlError: it cannot be begun, as `trainer.train` raises.
    """
    with backend.at_work():
        peaks = machine.measured(backend)
        begun = time.perf_counter()
        own = training.seed if seed is None else seed

        def run_of(plan: Training) -> Trainer:
            return Trainer(plan, data, backend, own)

        trainer = run_of(decided(training, run_of, Silent(), known=1))
        preparing = time.perf_counter() - begun
        found = of_trainer(trainer, backend, peaks, preparing, seconds)
        measures = _measures(trainer, data, backend, min(seconds, _MEASURED_SECONDS))
    said = (_interpreted(found), _together(training, trainer.scale.learners))
    notes = (*notes, *filter(None, said))
    return replace(found, plan=training.name, device=device, measures=measures, notes=tuple(notes))


def _together(training: Training, learners: int) -> str:
    """Say what the times of several learners are."""
    if training.learners is None or learners == 1:
        return ""
    return (
        f"of tasks that each of {learners} learners has, this is the sum; a run does them side by "
        "side, as its cores allow"
    )


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
    before = trainer.store.second_place()
    before.fill()
    restore = before.restore
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
    counts = [len(steps.given_to), len(trainer.step.executable.calls)]
    given, calls, figures = np.split(stretches.things, np.cumsum(counts))
    return Profile(
        plan="",
        device=backend.name,
        samples=moment.batch if trainer.batches else 0,
        tasks=_costs(trainer, backend, peaks, calls, alone),
        given=_given(trainer, given),
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


def _given(trainer: Trainer, seconds: Array) -> tuple[Given, ...]:
    """What a step is given, from f64[things], seconds of each that is done for it."""
    graph, spent = trainer.step.graph, defaultdict[int, float](float)
    for number, of_one in zip(trainer.steps.given_to, seconds, strict=True):
        spent[number] += float(of_one)
    return tuple(
        Given(given_name(graph[number]), total, 2 * graph[number].type.nbytes)
        for number, total in spent.items()
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
    graph = trainer.step.graph
    names = tuple(given_name(graph[number]) for number in steps.given_to)
    figures = len(shown[0][1]) - 1 - len(names) - len(trainer.step.executable.calls)
    places = {number: place for place, number in enumerate(_computing(trainer))}
    calls = tuple((places[n], learner) for n, learner in trainer.step.executable.called_keys)
    return Timeline(tuple(shown), tuple(python), names, calls, figures)


def _computing(trainer: Trainer) -> list[int]:
    """The numbers of the tasks that compute something."""
    return [*dict.fromkeys(number for number, _ in trainer.step.executable.called_keys)]


# --- tasks by themselves ---------------------------------------------------------------------


def _alone(trainer: Trainer, backend: Backend, budget: float) -> dict[int, float]:
    """Seconds of each task that computes, when it is repeated by itself: the first learner's.

    One step is walked through; each task finds what it reads in its place, and is repeated there.
    """
    executable = trainer.step.executable
    each = budget / max(len(executable.calls), 1)
    found: dict[int, float] = defaultdict(float)
    for (number, learner), call in zip(executable.called_keys, executable.calls, strict=True):
        with np.errstate(all="ignore"):
            if learner:
                backend.loop((call,)).run(1)
                continue
            backs: list[Launch] = []
            for region in _overwritten(executable.plan.tasks[number]):
                fill, back = executable.second_place(region)
                fill()
                backs.append(back)
            seconds = seconds_of(backend.loop((*backs, call)), each)
            if backs:
                seconds -= seconds_of(backend.loop(backs), each / 4)
        found[number] += max(seconds, 0.0)
    return found


def _overwritten(task: Task) -> list[Region]:
    """Regions that a task reads and writes: they are put back before it is done again."""
    return [w for w in task.writes if any(w.overlaps(r) for r in task.touched)]


def _costs(
    trainer: Trainer,
    backend: Backend,
    peaks: machine.Machine,
    seconds: Array,
    alone: Mapping[int, float],
) -> tuple[TaskCost, ...]:
    """What each task that computes costs, that of all learners; `seconds` are by call."""
    executable = trainer.step.executable
    plan, every = executable.plan, amounts(executable.plan, peaks)
    own: dict[int, float] = defaultdict(float)
    native: dict[int, bool] = {}
    for (number, _), call, spent in zip(
        executable.called_keys, executable.calls, seconds, strict=True
    ):
        own[number] += float(spent)
        native[number] = not isinstance(backend.loop((call,)), LoopOfCalls)
    return tuple(
        _cost(every[n], len(plan.instances(plan.tasks[n].mapped)), own[n], alone[n], native[n],
              plan.tasks[n].guard is not None)
        for n in own
    )  # fmt: skip


def _cost(
    amount: Amount, instances: int, seconds: float, alone: float, native: bool, conditional: bool
) -> TaskCost:
    parts = tuple(
        replace(part, flops=instances * part.flops, nbytes=instances * part.nbytes)
        for part in amount.parts
    )
    return TaskCost(
        amount.name,
        amount.nodes,
        parts,
        amount.element,
        seconds,
        instances * alone,
        instances * amount.flops,
        instances * amount.nbytes,
        instances,
        is_native=native,
        is_conditional=conditional,
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
