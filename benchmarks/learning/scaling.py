"""Two learners, a core each, over one learner on one core.

All are processes that take turns (`contest/`). The last contestants are two processes of one
learner each, which run on both cores at the same time and share nothing but the machine: that is
what its memory and its clock allow.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from contest.models import MODELS, start_of
from contest.turns import Contestant, Spec

STRATEGIES = ("local_sgd(tau = 1 step)", "sma(tau = 1 step)", "sync_sgd()")
# Models and batches of a learner; the best strategy is to be so many times as fast, or any.
CASES = (
    ("resnet8", 8, 1.9),
    ("resnet8", 16, 1.9),
    ("resnet8", 32, 1.9),
    ("softmax", 16, 0.0),
    ("mlp", 16, 0.0),
    ("lenet", 4, 0.0),
    ("lenet", 16, 0.0),
    ("lenet", 64, 0.0),
)


def scaling(options: argparse.Namespace) -> bool:
    """Print the table; return whether all that is wanted is reached."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        print("two learners need two cores")
        return False
    reached = True
    print(f"{'':34} {'samples/s':>10} {'of one':>7} {'of two processes':>17} {'wanted':>7}")
    for model, batch, wanted in CASES:
        if model in options.models and batch in (options.batches or (batch,)):
            reached &= _row(model, batch, wanted, (allowed[-2], allowed[-1]), options)
    return reached


def _row(
    model: str, batch: int, wanted: float, cores: tuple[int, int], options: argparse.Namespace
) -> bool:
    one = Spec("one learner", "fml", model, batch, cores[1:])
    both = [
        Spec(name, "fml", model, 2 * batch, cores, variant=name, learners=2) for name in STRATEGIES
    ]
    free = [replace(one, name="of two", cores=(core,)) for core in cores]
    with tempfile.TemporaryDirectory() as name:
        start_of(MODELS[model]).write(Path(name))
        alone, *averaged = (Contestant(spec, Path(name)) for spec in (one, *both))
        pair = [Contestant(spec, Path(name)) for spec in free]
        here = [alone, *averaged, *pair]
        try:
            for contestant in here:
                contestant.start(options.script, options.patience)
            for number in range(options.rounds + 1):  # the first is for warmth
                _round(alone, averaged, pair, options)
                if not number:
                    for contestant in here:
                        contestant.turns.clear()
        finally:
            for contestant in here:
                contestant.stop()
    if lost := next((c for c in here if c.absent), None):
        print(f"{model} {batch}, {lost.spec.name}: {lost.absent}")
        return False
    return _report(f"{model} {batch}", alone, averaged, pair, wanted)


def _round(
    alone: Contestant,
    averaged: Sequence[Contestant],
    pair: Sequence[Contestant],
    options: argparse.Namespace,
) -> None:
    for contestant in (alone, *averaged):
        contestant.turn(options.turn, options.patience)
    for contestant in pair:
        contestant.begin_turn(options.turn)
    for contestant in pair:
        contestant.end_turn(options.patience)


def _report(
    name: str,
    alone: Contestant,
    averaged: Sequence[Contestant],
    pair: Sequence[Contestant],
    wanted: float,
) -> bool:
    together = statistics.median(map(sum, zip(*(c.rates for c in pair), strict=True)))
    rates = {
        "one learner": alone.rate,
        "two processes": together,
        **{c.spec.name: c.rate for c in averaged},
    }
    best = max(c.rate for c in averaged)
    for who, rate in rates.items():
        verdict = ""
        if rate == best and wanted:
            verdict = f"{wanted:7.2f}" + ("" if best >= wanted * alone.rate else "  MISSED")
        print(
            f"{name:10} {who:23} {rate:10,.0f} {rate / alone.rate:7.2f}"
            f" {rate / together:17.2f} {verdict}"
        )
    return best >= wanted * alone.rate
