"""Whole training steps of fml beside PyTorch and JAX: the same models, from data in memory.

    python benchmarks/training.py [--models lenet,resnet8] [--batches 16] [--cores 1,2]
                                  [--rounds 5] [--turn 0.7] [--patience 300] [--out figures.json]

Float32, momentum and weight decay, a gather from shuffled data for each batch. Every contestant is
a process of its own on the same cores, held ready; they take turns, so that a busy machine slows
all of them alike. A figure is the median over the rounds of samples a second, a ratio is ours over
that of the best peer, at equal samples between synchronisations: a learner of b on one core beside
peers of b, and on two cores two learners of b beside peers of 2b. The losses of the first steps
from the same weights have to agree, or there is no comparison. `growth` is the memory taken from
when the data are there until 100 steps are done; it has to be less than PyTorch's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

from contest.models import MODELS, start_of
from contest.turns import Contestant, Report, Spec

# Losses are sums of float32 in different orders, and three steps pull them apart.
TOLERANCE = 2e-4
KINDS = {"fml": "ours", "torch": "pytorch", "jax": "xla"}
MIB = 1 << 20


def contestants(model: str, batch: int, cores: tuple[int, ...]) -> list[Spec]:
    """Ours first; `batch` is that of a learner."""
    learners = len(cores)
    common = Spec("", "", model, batch * learners, cores)
    name = "fml" if learners == 1 else f"fml {learners} learners"
    made = [replace(common, name=name, kind="fml", learners=learners)]
    for threads in range(1, learners + 1):
        torch = replace(common, kind="torch", threads=threads)
        jax = replace(common, kind="jax", threads=threads)
        made += [
            replace(torch, name=f"torch {threads}"),
            replace(torch, name=f"compile {threads}", variant="compile"),
            replace(jax, name=f"jax {threads}"),
            replace(jax, name=f"scan {threads}", variant="scan"),
        ]
        if MODELS[model].has_images:
            made.append(replace(torch, name=f"torch last {threads}", variant="channels last"))
    if learners > 1:
        made += [
            replace(common, name="ddp", kind="torch", variant="processes", learners=learners),
            replace(common, name="jax devices", kind="jax", learners=learners),
            replace(common, name="scan devices", kind="jax", variant="scan", learners=learners),
        ]
    return made


def contest(specs: Sequence[Spec], folder: Path, options: argparse.Namespace) -> list[Contestant]:
    """Start all of them one after another, compare their losses, and let them take turns."""
    here = [Contestant(spec, folder) for spec in specs]
    try:
        for one in here:
            one.start(Path(__file__), options.patience)
        require_equal_losses(here, folder)
        for round in range(options.rounds + 1):
            for one in here:
                if not one.absent:
                    one.turn(options.turn, options.patience, counts=round > 0)
    finally:
        for one in here:
            one.stop()
    return here


def require_equal_losses(here: Sequence[Contestant], folder: Path) -> None:
    """See to it that everybody trains the same.

    Processes and devices normalise their own share of a batch, so that theirs are compared with
    each other where there is normalisation, and else with ours like all others.

    Raises:
        SystemExit: they do not.
    """
    spec = here[0].spec
    whole = our_losses(replace(spec, learners=1), folder)
    shares: list[float] = []
    for one in here:
        if not one.losses:
            continue
        wanted = whole
        if one.spec.learners > 1 and MODELS[spec.model].normalises:
            shares = wanted = shares or one.losses
        apart = max(abs(a / b - 1) for a, b in zip(one.losses, wanted, strict=True))
        if not apart < TOLERANCE:
            sys.exit(f"{spec.model}: the losses of {one.spec.name} are {one.losses}, not {wanted}")


def our_losses(spec: Spec, folder: Path) -> list[float]:
    """Those of fml, by one learner of the whole batch."""
    command = [sys.executable, __file__, "--losses", json.dumps(asdict(spec)), str(folder)]
    done = subprocess.run(command, env=spec.environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(model: str, batch: int, here: Sequence[Contestant]) -> bool:
    """Print the rows of a contest; return whether ours is as fast and as small as it should be."""
    cores = len(here[0].spec.cores)
    wanted = MODELS[model].wanted[batch][cores - 1]
    print(f"\n{model}, batch {batch}, {cores} {'core' if cores == 1 else 'cores'}"
          f" (load {os.getloadavg()[0]:.1f})")  # fmt: skip
    print(f"  {'':14} {'samples/s':>10} {'quartiles':>19} {'growth MiB':>11} {'start s':>8}")
    for one in here:
        if one.absent:
            print(f"  {one.spec.name:14} {one.absent}")
            continue
        low, median, high = quartiles(one.rates)
        print(
            f"  {one.spec.name:14} {median:10,.0f} {low:9,.0f} {high:9,.0f}"
            f" {one.growth / MIB:11.1f} {one.seconds_to_start:8.1f}"
        )
    ours, peers = here[0], [one for one in here[1:] if not one.absent]
    if not peers:
        print("  no peer has come: no ratio")
        return False
    best = max(peers, key=lambda one: statistics.median(one.rates))
    if ours.absent:
        print(f"  best peer {best.spec.name}; ours cannot be compared")
        return False
    ratio = statistics.median(ours.rates) / statistics.median(best.rates)
    eager = min((o.growth for o in peers if o.spec.kind == "torch"), default=None)
    fast, small = ratio >= wanted, eager is None or ours.growth < eager
    print(f"  best peer {best.spec.name}: ratio {ratio:.2f}, wanted {wanted:.2f},"
          f" {'reached' if fast else 'MISSED'}{'' if small else '; MEMORY MISSED'}")  # fmt: skip
    return fast and small


def quartiles(rates: Sequence[float]) -> list[float]:
    return statistics.quantiles(rates, n=4) if len(rates) > 1 else [rates[0]] * 3


def main() -> int:
    options = parsed()
    allowed = sorted(os.sched_getaffinity(0))
    raw: list[dict] = []
    reached = True
    for model in options.models:
        batches = [b for b in MODELS[model].wanted if b in (options.batches or (b,))]
        for batch in batches:
            for count in options.cores:
                if count > len(allowed):
                    print(f"{model}, {count} cores: there are {len(allowed)} here")
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    start_of(MODELS[model]).write(Path(folder))
                    specs = contestants(model, batch, tuple(allowed[-count:]))
                    here = contest(specs, Path(folder), options)
                reached &= report(model, batch, here)
                raw += [figures(one) for one in here]
                if options.out:
                    options.out.write_text(json.dumps(raw, indent=1))
    return 0 if reached else 1


def figures(one: Contestant) -> dict:
    turns = [asdict(turn) for turn in one.turns]
    return asdict(one.spec) | {
        "turns": turns, "samples_a_second": one.rates, "losses": one.losses,
        "growth": one.growth, "seconds_to_start": one.seconds_to_start, "absent": one.absent,
        "load": os.getloadavg(),
    }  # fmt: skip


def parsed() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", type=words, default=list(MODELS), help="of " + ", ".join(MODELS)
    )
    parser.add_argument("--batches", type=numbers, help="of a learner")
    parser.add_argument("--cores", type=numbers, default=[1, 2], help="how many, 1 or 2 or both")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--turn", type=float, default=0.7, help="seconds")
    parser.add_argument("--patience", type=float, default=300, help="seconds for any answer")
    parser.add_argument("--out", type=Path, help="a JSON file with every turn")
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}")
    return options


def take_part(task: str, given: str, folder: Path) -> None:
    """Be a contestant, or only the losses of ours."""
    values = json.loads(given)
    spec = Spec(**values | {"cores": tuple(values["cores"])})
    os.sched_setaffinity(0, spec.cores)
    model = MODELS[spec.model]
    contestant = import_module(f"contest.{KINDS[spec.kind]}")
    if task == "--losses":
        print(json.dumps(contestant.losses(model, spec.batch, folder)))
    else:
        contestant.run(spec, model, folder, Report.on_stdout())


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in {"--contestant", "--losses"}:
        take_part(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
