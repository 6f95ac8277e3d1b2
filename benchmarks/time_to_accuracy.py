"""How long LeNet trains on Fashion-MNIST until 90% and 91% of the valid samples are right.

    python benchmarks/time_to_accuracy.py epochs     # tunes; goes on where it was ended
    python benchmarks/time_to_accuracy.py seconds    # the best two of each side
    python benchmarks/time_to_accuracy.py table      # what has been found so far

fml trains 1, 2, 4 or 8 learners of 16 samples, kept together by synchronous model averaging, and
PyTorch (channels last) batches of 16 to 128. Both have momentum 0.9, the same network, first
weights, splits and orders of samples, neither dropout nor augmentation, and three rates for each
setting, found by the same rule (`target/settings.py`). Every half epoch, outside the time that
counts, the accuracies on the 5,000 valid and the 10,000 test samples are taken. Each run is a file
in `results/time_to_accuracy/`, and one that is there is not made again.

`epochs` uses one thread, on a machine that may be busy. `seconds` wants a quiet one. First all
settings take turns of some steps, which tells, with the epochs, who the best two of each side are;
these then train to 91% with 3 seeds on all cores, taking turns of half an epoch.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
from collections.abc import Sequence
from importlib import import_module

from target.race import Entry, NotFinite, Racer, stop_all
from target.report import table
from target.settings import (
    MOST_EPOCHS,
    RESULTS,
    SETTINGS,
    TARGETS,
    Run,
    Setting,
    best,
    keep,
    next_rate,
    path_of,
    runs_of,
)

KINDS = {"fml": "ours", "torch": "pytorch"}
COMPILED = "compile"
SEEDS = (0, 1, 2)
FINALISTS = 2
# Turns that tell how fast a setting is; what is compiled or fetched once is so before the first.
WARM_STEPS, TURNS, SAMPLES_OF_A_TURN = 20, 5, 2048


def count_epochs(settings: Sequence[Setting]) -> None:
    """Tune: the first rates of all settings, then the second ones, then the third."""
    for _ in range(3):
        for setting in settings:
            runs = runs_of("epochs", setting)
            rate = next_rate(setting, runs)
            if rate is not None:
                # A run that is not there by then does not matter any more.
                most = min([MOST_EPOCHS, *(run.epochs for run in runs)])
                racer = Racer(Entry(setting, rate, SEEDS[0], allowed_cores(), threads=1))
                finish("epochs", [racer], most)


def finish(phase: str, racers: Sequence[Racer], most: float) -> None:
    """Let them train, a look at a time, until each has reached the last target; keep the runs."""
    try:
        for racer in racers:
            racer.wait()
        left = list(racers)
        while left:
            left = [racer for racer in left if not is_over(phase, racer, most)]
    finally:
        stop_all(racers)


def is_over(phase: str, racer: Racer, most: float) -> bool:
    """Train up to the next look; keep the run if that was its last one."""
    entry = racer.entry
    ended = ""
    try:
        look = racer.look()
        if look.valid >= TARGETS[-1]:
            ended = "reached"
        elif look.epoch >= MOST_EPOCHS - 1e-6:
            ended = "out of epochs"
        elif look.epoch >= most:
            ended = "beaten"
        print(
            f"{entry.setting.name} rate {entry.rate:g} seed {entry.seed}: epoch {look.epoch:.2f},"
            f" {look.seconds:.1f} s, valid {look.valid:.4f}, test {look.test:.4f} {ended}",
            flush=True,
        )
    except NotFinite as why:
        ended = f"not finite: {why}"
    if ended:
        run = Run(entry.setting, entry.rate, entry.seed, tuple(racer.looks), ended)
        keep(phase, run)
        racer.stop()
    return bool(ended)


def take_seconds(settings: Sequence[Setting]) -> None:
    """Choose the finalists, and let them train to the last target."""
    tuned = [run for setting in settings if (run := best(runs_of("epochs", setting)))]
    path = RESULTS / "speed.json"
    if not path.exists():
        path.write_text(json.dumps(speeds(tuned), indent=1) + "\n")
    speed: dict[str, dict[str, list[float]]] = json.loads(path.read_text())
    chosen, cores = finalists(tuned, speed), allowed_cores()
    for seed in SEEDS:
        racers = [
            Racer(Entry(run.setting, run.rate, seed, cores, len(cores), variant))
            for run, variant in chosen
            if not path_of("seconds", run.setting, run.rate, seed).exists()
        ]
        finish("seconds", racers, MOST_EPOCHS)


def allowed_cores() -> tuple[int, ...]:
    """Those that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def speeds(tuned: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """Samples a second in each turn, by setting and variant."""
    cores = allowed_cores()
    entries = [
        Entry(run.setting, run.rate, run.seed, cores, len(cores), variant)
        for run in tuned
        for variant in (["", COMPILED] if run.setting.side == "torch" else [""])
    ]
    racers = [Racer(entry) for entry in entries]
    made: dict[str, dict[str, list[float]]] = {entry.setting.name: {} for entry in entries}
    try:
        for racer in racers:
            racer.wait()
            racer.seconds_of(WARM_STEPS)
        for _, racer in itertools.product(range(TURNS), racers):
            setting = racer.entry.setting
            samples = setting.batch * setting.learners
            rate = samples / racer.seconds_of(SAMPLES_OF_A_TURN // samples)
            made[setting.name].setdefault(racer.entry.variant, []).append(rate)
    finally:
        stop_all(racers)
    return made


def finalists(
    tuned: Sequence[Run], speed: dict[str, dict[str, list[float]]]
) -> list[tuple[Run, str]]:
    """The runs of each side that should be first at the last target, and their variants."""
    chosen: list[tuple[Run, str]] = []
    for side in KINDS:
        timed: list[tuple[float, Run, str]] = []
        for run in tuned:
            if run.setting.side == side:
                variants = speed[run.setting.name]
                fastest = max(variants, key=lambda v: statistics.median(variants[v]))
                seconds = run.epochs / statistics.median(variants[fastest])
                timed.append((seconds, run, fastest))
        timed.sort(key=lambda one: one[0])
        chosen += [(run, variant) for _, run, variant in timed[:FINALISTS]]
    return chosen


def main() -> None:
    if sys.argv[1:2] == ["--racer"]:
        entry = Entry.of_text(sys.argv[2])
        os.sched_setaffinity(0, entry.cores)  # before anything asks how many there are
        # Standard output is for the parent: what libraries print goes to standard error.
        out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        import_module(f"target.{KINDS[entry.setting.side]}").run(entry, out)
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("phase", choices=["epochs", "seconds", "table"])
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SETTING")
    options = parser.parse_args()
    settings = [setting for setting in SETTINGS if setting.name in options.only]
    match options.phase:
        case "epochs":
            count_epochs(settings)
        case "seconds":
            take_seconds(settings)
        case _:
            print(table(settings))


if __name__ == "__main__":
    main()
