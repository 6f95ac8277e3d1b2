"""What averaging two learners takes, beside numpy, PyTorch and a copy on as many threads.

The model is one vector whose gradient is the same in every entry, so that a step is the learners'
update and the averaging. What averaging takes is the time of a step that averages less that of one
which does not, the same program with an interval that never comes; it includes the meeting of the
learners, which a step without averaging does not need.

An averaging that goes over memory once moves, in entries of the vector, `2 k + 1` for a mean (each
w_l read and written, z written), and `2 k + 3` for SMA (each w_l read and written; z and its
previous value read, one of them written). `of copy` is the bandwidth of so many bytes over that of
a copy of as many, by two threads. The peers do the averaging alone, on arrays of their own.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

import fml
from fml.engine.backends.interface import Backend
from fml.engine.backends.processor import processor
from fml.engine.runtime.trainer import Trainer

LEARNERS = 2
NEVER = "1000000000 steps"
STRATEGIES = {"mean": "local_sgd", "sma": "sma"}
MOVES = {"mean": 2 * LEARNERS + 1, "sma": 2 * LEARNERS + 3}
ALPHA, MU = 1 / LEARNERS, 0.9
LEAST_STEPS = 3

_TEXT = """
data d = given {{ x: f32; y: f32 }}
model m(x: f32[N]) {{
  param w: f32[{entries}] ~ zeros
  mean(x) * sum(w)
}}
train {{
  n = m()
  feed x, y from d.train |> batch(1)
  minimize loss = n(x)
  using sgd(1e-9)
  learners {learners} per device by {strategy}(tau = {tau})
  stop after 1000000000 steps
}}
"""

# Takes so many steps.
Run = Callable[[int], object]


def averaging(options: argparse.Namespace) -> bool:
    """Print the table; nothing is wanted of it, and True is returned."""
    if len(os.sched_getaffinity(0)) < LEARNERS:
        print("two learners need two cores")
        return False
    torch.set_num_threads(LEARNERS)
    backend = processor()
    print(
        f"{'':4} {'entries':>10} {'MiB':>7} {'step us':>9} {'without':>9} {'averaging':>9}"
        f" {'GB/s':>6} {'of copy':>7} {'numpy us':>9} {'torch us':>9} {'best peer / ours':>17}"
    )
    with ThreadPoolExecutor(LEARNERS) as threads, backend.at_work():
        for entries in options.entries:
            for name in STRATEGIES:
                _row(name, entries, backend, threads, options)
    return True


def _row(
    name: str, entries: int, backend: Backend, threads: ThreadPoolExecutor,
    options: argparse.Namespace,
) -> None:  # fmt: skip
    nbytes = 4 * entries * MOVES[name]
    runs = {
        "with": _steps_of(name, "1 step", entries, backend),
        "without": _steps_of(name, NEVER, entries, backend),
        "copy": _by_threads(_copies(nbytes), threads),
        "numpy": _by_threads(_numpy(name, entries), threads),
        "torch": _torch(name, entries),
    }
    seconds = dict(zip(runs, _taking_turns([*runs.values()], options), strict=True))
    own = seconds["with"] - seconds["without"]
    us = {who: 1e6 * taken for who, taken in seconds.items()}
    rates = f"{'-':>6} {'-':>7}"  # a difference within the noise is no bandwidth
    ratio = "-"
    if own > 0:
        rates = f"{nbytes / own / 1e9:6.1f} {seconds['copy'] / own:7.2f}"
        ratio = f"{min(seconds['numpy'], seconds['torch']) / own:.2f}"
    print(
        f"{name:4} {entries:10,} {nbytes / 2**20:7.1f} {us['with']:9.1f} {us['without']:9.1f}"
        f" {1e6 * own:9.1f} {rates} {us['numpy']:9.1f} {us['torch']:9.1f} {ratio:>17}"
    )


def _steps_of(name: str, tau: str, entries: int, backend: Backend) -> Run:
    """Steps of two learners."""
    text = _TEXT.format(entries=entries, learners=LEARNERS, strategy=STRATEGIES[name], tau=tau)
    ones = np.ones(64, np.float32)
    trainer = Trainer(fml.loads(text).lower(), {"d": {"train": {"x": ones, "y": ones}}}, backend, 0)

    def run(steps: int) -> None:
        while steps:
            taken = trainer.steps.run(trainer.moment, 0.0, min(steps, trainer.steps.most))
            trainer.moment = replace(trainer.moment, step=trainer.moment.step + taken)
            steps -= taken

    return run


def _by_threads(parts: Sequence[Callable[[], None]], threads: ThreadPoolExecutor) -> Run:
    """Each thread does its half, and all meet after every step."""

    def run(steps: int) -> None:
        for _ in range(steps):
            for done in [threads.submit(part) for part in parts]:
                done.result()

    return run


def _copies(nbytes: int) -> list[Callable[[], None]]:
    """Copies that read and write so many bytes together."""
    source = np.ones(nbytes // 8, np.float32)
    pairs = zip(
        *(np.array_split(a, LEARNERS) for a in (source, np.zeros_like(source))), strict=True
    )
    return [lambda a=a, b=b: np.copyto(b, a) for a, b in pairs]


def _numpy(name: str, entries: int) -> list[Callable[[], None]]:
    """The averaging of one half of the entries each."""
    halves = [
        np.ones(len(part), np.float32) for part in np.array_split(np.empty(entries), LEARNERS)
    ]
    return [_mean_of(half) if name == "mean" else _sma_of(half) for half in halves]


def _mean_of(like: np.ndarray) -> Callable[[], None]:
    z, w = like.copy(), [like.copy() for _ in range(LEARNERS)]

    def step() -> None:
        np.add(w[0], w[1], out=z)
        np.multiply(z, np.float32(1 / LEARNERS), out=z)
        for own in w:
            np.copyto(own, z)

    return step


def _sma_of(like: np.ndarray) -> Callable[[], None]:
    z, before, w = like.copy(), like.copy(), [like.copy() for _ in range(LEARNERS)]
    c = [like.copy() for _ in range(LEARNERS)]

    def step() -> None:
        for own, mine in zip(w, c, strict=True):
            np.subtract(own, z, out=mine)
            np.multiply(mine, np.float32(ALPHA), out=mine)
            np.subtract(own, mine, out=own)
        # What was the previous value becomes the drift, and then the next one.
        np.subtract(z, before, out=before)
        np.multiply(before, np.float32(MU), out=before)
        np.add(c[0], c[1], out=c[0])
        np.add(before, c[0], out=c[0])
        np.copyto(before, z)
        np.add(z, c[0], out=z)

    return step


def _torch(name: str, entries: int) -> Run:
    z, before = torch.ones(entries), torch.ones(entries)
    w = [torch.ones(entries) for _ in range(LEARNERS)]
    c = [torch.ones(entries) for _ in range(LEARNERS)]

    def mean() -> None:
        torch.add(w[0], w[1], out=z)
        z.mul_(1 / LEARNERS)
        for own in w:
            own.copy_(z)

    def sma() -> None:
        for own, mine in zip(w, c, strict=True):
            torch.sub(own, z, out=mine)
            own.sub_(mine, alpha=ALPHA)
        c[0].add_(c[1]).mul_(ALPHA)
        c[0].add_(z, alpha=MU).sub_(before, alpha=MU)
        before.copy_(z)
        z.add_(c[0])

    step = mean if name == "mean" else sma

    def run(steps: int) -> None:
        for _ in range(steps):
            step()

    return run


def _taking_turns(runs: Sequence[Run], options: argparse.Namespace) -> list[float]:
    """Median seconds of a step of each."""
    counts: list[int] = []
    for run in runs:
        run(1)  # whatever is made once
        begun = time.perf_counter()
        run(LEAST_STEPS)
        each = (time.perf_counter() - begun) / LEAST_STEPS
        counts.append(max(LEAST_STEPS, round(options.turn / each)))
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(options.rounds):
        for run, count, seconds in zip(runs, counts, taken, strict=True):
            begun = time.perf_counter()
            run(count)
            seconds.append((time.perf_counter() - begun) / count)
    return [statistics.median(seconds) for seconds in taken]
