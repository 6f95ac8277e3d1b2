"""How long it takes to plan a step of many learners, and of many devices.

Data are a batch for each learner, of zeros; nothing is run. `text to plan` is from the text on,
with the compilation of kernels, which the first round has put into the process's memory; `plan` is
that of the step alone: order, places, waits and the check for races.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from contest.models import MODELS, text_of

import fml
from fml.engine.backends.processor import processor
from fml.engine.ir.training import DEVICES, LEARNERS, STEPS_PER_EPOCH, Training
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.planner import lay_out, make_plan
from fml.engine.plan.task import Streams

NETWORKS = ("lenet", "resnet32")
BATCH = 16
LEARNERS_HERE = (1, 2, 4, 8, 16, 32, 64)
DEVICES_HERE = (1, 2, 4, 8)
# 64 learners over 1; and devices over as many times a device.
FLAT, LINEAR = 1.3, 1.0


def planning(options: argparse.Namespace) -> bool:
    """Print the tables; return whether all that is wanted is reached."""
    reached = True
    for model in NETWORKS:
        if model not in options.models:
            continue
        learners = {n: _learners(model, n) for n in LEARNERS_HERE}
        devices = {n: _devices(model, n) for n in DEVICES_HERE}
        reached &= _table(model, "learners", learners, lambda _: FLAT, options.rounds)
        reached &= _table(model, "devices", devices, lambda n: LINEAR * n, options.rounds)
    return reached


def _learners(model: str, learners: int) -> Callable[[], tuple[float, float]]:
    return lambda: _seconds(model, learners, 1)


def _devices(model: str, devices: int) -> Callable[[], tuple[float, float]]:
    return lambda: _seconds(model, 2, devices)


def _table(
    model: str,
    what: str,
    runs: dict[int, Callable[[], tuple[float, float]]],
    wanted: Callable[[int], float],
    rounds: int,
) -> bool:
    taken: dict[int, list[tuple[float, float]]] = {n: [] for n in runs}
    for number in range(rounds + 1):
        for n, run in runs.items():
            seconds = run()
            if number:  # the first is for warmth
                taken[n].append(seconds)
    medians = {
        n: [statistics.median(column) for column in zip(*rows, strict=True)]
        for n, rows in taken.items()
    }
    reached, first = True, medians[1]
    print(f"\n{model:9} {what:>9} {'text to plan':>13} {'of 1':>6} {'plan':>8} {'of 1':>6} at most")
    for n, (whole, plan) in medians.items():
        ratios, limit = (whole / first[0], plan / first[1]), wanted(n)
        missed = n > 1 and max(ratios) > limit
        reached &= not missed
        print(
            f"{'':9} {n:9} {whole:11.3f} s {ratios[0]:6.2f} {plan:6.3f} s {ratios[1]:6.2f}"
            f" {limit:7.2f}{'  MISSED' if missed else ''}"
        )
    return reached


def _seconds(model: str, per_device: int, devices: int) -> tuple[float, float]:
    begun = time.perf_counter()
    training = _lowered(model, per_device)
    learners = per_device * devices
    sizes = {str(STEPS_PER_EPOCH): 1, str(LEARNERS): learners, str(DEVICES): devices}
    sizes |= {feed.dim: BATCH for feed in training.feeds}
    graph = optimise(training.step, sizes)
    works = processor().compile(graph).works
    layout = lay_out(training.variables.values(), learners)
    before = time.perf_counter()
    make_plan(graph, layout, works, Streams(devices=devices, learners=learners))
    end = time.perf_counter()
    return end - begun, end - before


def _lowered(model: str, learners: int) -> Training:
    text = text_of(MODELS[model], BATCH, 2, "sma(tau = 1 step)")
    return fml.loads(text.replace("learners 2 per", f"learners {learners} per")).lower()
