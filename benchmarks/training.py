"""Whole training steps of fml beside PyTorch and JAX: the same models, from data in memory.

    python benchmarks/training.py [--models lenet,resnet8] [--batches 16] [--cores 1,2]
                                  [--without compile,scan] [--rounds 5] [--turn 0.7]
                                  [--patience 300] [--json rows.json]

Float32, momentum and weight decay, a gather from shuffled data for each batch. Every contestant is
a process of its own on the same cores, held ready; they take turns, so that a busy machine slows
all of them alike. A figure is the median over the rounds of samples a second, a ratio is ours over
that of the best peer, at equal samples between synchronisations: a learner of b on one core beside
peers of b, and on two cores the best of one learner of 2b, whose kernels the cores share, and two
learners of b that meet after every step, beside peers of 2b.
The losses of the first steps from the same weights have to agree, or a peer is not compared.
`growth` is the memory taken from when the data are there until 100 steps are done; it has to be
less than PyTorch's. What a step takes outside its kernels is measured with kernels that return at
once (`contest/overhead.py`). With `--json`, every row is written as soon as it is there, and rows
that are there, with the same settings, are not measured again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from contest.kept import Kept
from contest.models import MODELS, start_of
from contest.turns import Contestant, Report, Spec

# A peer so many times as slow as the best one has no second turn if its first took so many times as
# long as it should have: a scan has no fewer than 100 steps.
HOPELESS = 4
LONG = 5
# Seconds of a step outside kernels.
OUTSIDE = 10e-6
# Losses are sums of float32 in different orders, and three steps pull them apart.
TOLERANCE = 1e-4
KINDS = {"fml": "ours", "torch": "pytorch", "jax": "xla"}
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """What a contest comes to: samples a second, 0 of those who were absent, and bytes."""

    label: str
    ours: float
    name: str
    best: float
    peer: str
    wanted: float
    growth: int
    growth_of_torch: int
    has_strays: bool

    @property
    def reached(self) -> bool:
        return not self.has_strays and self.is_compared and self.is_fast and self.is_small

    @property
    def is_compared(self) -> bool:
        return self.ours > 0 and self.best > 0

    @property
    def is_fast(self) -> bool:
        return self.ours >= self.wanted * self.best

    @property
    def is_small(self) -> bool:
        return not self.growth_of_torch or self.growth < self.growth_of_torch

    @property
    def text(self) -> str:
        ratio, verdict = "-", "not compared"
        if self.is_compared:
            ratio = f"{self.ours / self.best:.2f}"
            verdict = "reached" if self.is_fast else "MISSED"
            verdict += "" if self.is_small else ", MEMORY MISSED"
        verdict += ", LOSSES DIFFER" if self.has_strays else ""
        ours = f"{self.ours:10,.0f} {self.name:12}"
        numbers = f"{ours} {self.best:10,.0f} {self.peer:16} {ratio:>5}"
        return f"{self.label} {numbers} {self.wanted:6.2f}  {verdict}"


def contestants(model: str, batch: int, cores: tuple[int, ...]) -> list[Spec]:
    """Ours first; `batch` is that of a learner."""
    learners = len(cores)
    common = Spec("", "", model, batch * learners, cores)
    # On two cores, one learner whose kernels the cores share: two halves of 2b.
    ours = replace(common, kind="fml")
    made = [replace(ours, name="fml")]
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
            last = replace(torch, name=f"torch last {threads}", variant="channels last")
            compiled = replace(
                last, name=f"compile last {threads}", variant="compile channels last"
            )
            made += [last, compiled]
    if learners > 1:
        made += [
            replace(common, name="ddp", kind="torch", variant="processes", learners=learners),
            replace(common, name="jax devices", kind="jax", learners=learners),
            replace(common, name="scan devices", kind="jax", variant="scan", learners=learners),
        ]
        # One learner on each core: replicas that are averaged after every step, and two halves.
        each = replace(ours, learners=learners)
        made += [
            replace(each, name="fml averaged", variant="local_sgd(tau = 1 step)"),
            replace(each, name="fml halves", variant="sync_sgd()"),
        ]
    return made


def contest(specs: Sequence[Spec], folder: Path, options: argparse.Namespace) -> list[Contestant]:
    """Start all of them one after another, compare their losses, and let them take turns.

    Two learners take the step of one learner with both batches: their gradients have its mean, and
    momentum is linear, so that averaged replicas go where it goes. Learners, processes and devices
    normalise their own share of a batch, so that their losses are compared with each other where
    there is normalisation, and else with those of one learner like all others.
    """
    here = [Contestant(spec, folder) for spec in specs]
    alone = replace(specs[0], kind="fml", variant="", learners=1)
    wanted = task("losses", alone, folder)
    shares: list[float] = []
    try:
        for one in here:
            one.start(Path(__file__), options.patience)
            if one.spec.kind == "fml" and not one.absent:
                one.losses = task("losses", one.spec, folder)
            if not one.losses:
                continue
            if one.spec.learners > 1 and MODELS[one.spec.model].normalises:
                shares = shares or one.losses
                one.compare_losses(shares, TOLERANCE)
            else:
                one.compare_losses(wanted, TOLERANCE)
        for one in here:
            one.turn(options.turn, options.patience)
        hopeful = hopeful_ones(here, LONG * options.turn)
        for one in hopeful:
            one.turns.clear()  # that was for warmth
        for _ in range(options.rounds):
            for one in hopeful:
                one.turn(options.turn, options.patience)
    finally:
        for one in here:
            one.stop()
    return here


def hopeful_ones(here: Sequence[Contestant], long: float) -> list[Contestant]:
    """All but those whose first turn was long and shows that they will not be the best peer."""
    best = max((one.rates[0] for one in here if one.rates and one.spec.kind != "fml"), default=0)
    return [
        one
        for one in here
        if one.turns and (one.turns[0].seconds < long or one.rates[0] * HOPELESS > best)
    ]


def task(name: str, spec: Spec, folder: Path) -> Any:
    """What a process of fml's answers that is no contestant."""
    command = [sys.executable, __file__, f"--{name}", json.dumps(asdict(spec)), str(folder)]
    given = spec.environment
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{spec.model}: {name} of fml: {done.stderr}")
    return json.loads(done.stdout)


def report(model: str, batch: int, here: Sequence[Contestant]) -> Row:
    """Print what everybody did; return what it comes to."""
    cores = len(here[0].spec.cores)
    print(f"\n{model}, batch {batch}, {cores} {'core' if cores == 1 else 'cores'}"
          f" (load {os.getloadavg()[0]:.1f})")  # fmt: skip
    print(f"  {'':14} {'samples/s':>10} {'quartiles':>19} rounds {'growth MiB':>11} {'start s':>8}")
    for one in here:
        if one.absent:
            print(f"  {one.spec.name:14}  {one.absent}")
            continue
        low, median, high = quartiles(one.rates)
        print(
            f"  {one.spec.name:14} {median:10,.0f} {low:9,.0f} {high:9,.0f} {len(one.rates):6}"
            f" {one.growth / MIB:11.1f} {one.seconds_to_start:8.1f}"
        )
    own = [one for one in here if one.spec.kind == "fml" and not one.absent]
    ours = max(own, key=lambda one: one.rate, default=None)
    peers = [one for one in here if one.spec.kind != "fml" and not one.absent]
    best = max(peers, key=lambda one: one.rate, default=None)
    return Row(
        f"{model:9} {batch:5} {cores:5}",
        ours.rate if ours else 0.0,
        ours.spec.name if ours else "none of fml",
        best.rate if best else 0.0,
        best.spec.name if best else "no peer has come",
        MODELS[model].wanted[batch][cores - 1],
        ours.growth if ours else 0,
        min((one.growth for one in peers if one.spec.kind == "torch"), default=0),
        any(one.strays for one in here),
    )


def quartiles(rates: Sequence[float]) -> list[float]:
    return statistics.quantiles(rates, n=4) if len(rates) > 1 else [rates[0]] * 3


def report_overhead(taken: dict[str, float]) -> bool:
    """Print what a step takes outside its kernels; return whether that is little enough."""
    step, outside, gather = (1e6 * taken[name] for name in ("step", "outside", "gather"))
    few = taken["outside"] <= OUTSIDE
    print(
        f"  a step: {step:,.1f} us, {outside:.1f} of it outside its {taken['kernels']} kernels"
        f" (at most {OUTSIDE * 1e6:.0f}{'' if few else ', MISSED'}), {gather:.1f} to gather the"
        f" batch; {taken['stretch']} steps at once"
    )
    return few


def main() -> int:
    options = parsed()
    sys.stdout.reconfigure(line_buffering=True)  # rows come minutes apart
    allowed = sorted(os.sched_getaffinity(0))
    kept = Kept(options.json)
    summary: list[Row] = []
    small = True
    for model, batch, count in rows(options):
        if count > len(allowed):
            print(f"{model}, {count} cores: there are {len(allowed)} here")
            continue
        every = contestants(model, batch, tuple(allowed[-count:]))
        specs = [spec for spec in every if not spec.name.startswith(tuple(options.without))]
        if not specs:
            sys.exit("nobody is left to take part")
        settings = {"specs": [asdict(s) for s in specs], "rounds": options.rounds,
                    "turn": options.turn}  # fmt: skip
        found = kept.find(settings)
        if found is None:
            found = measured(model, batch, specs, options)
            kept.add(settings, found)
        elif found["overhead"]:
            report_overhead(found["overhead"])
        row = Row(**found["row"])
        small &= not found["overhead"] or found["overhead"]["outside"] <= OUTSIDE
        summary.append(row)
        print(f"  {row.text}")
    print(
        "\nmodel     batch cores       ours                best peer                  ratio wanted"
    )
    for row in summary:
        print(row.text)
    return 0 if small and all(row.reached for row in summary) else 1


def measured(
    model: str, batch: int, specs: Sequence[Spec], options: argparse.Namespace
) -> dict[str, Any]:
    """Hold a contest and print it: the row, the turns, and what was taken outside kernels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_of(MODELS[model]).write(folder)
        here = contest(specs, folder, options)
        row = report(model, batch, here)
        taken: dict[str, float] = {}
        if len(specs[0].cores) == 1 and specs[0].kind == "fml":
            taken = task("overhead", specs[0], folder)
            report_overhead(taken)
    return {"row": asdict(row), "contestants": [figures(one) for one in here], "overhead": taken}


def rows(options: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Models, batches of a learner, and how many cores."""
    for model in options.models:
        for batch in MODELS[model].wanted:
            if batch in (options.batches or (batch,)):
                yield from ((model, batch, count) for count in options.cores)


def figures(one: Contestant) -> dict[str, Any]:
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
    parser.add_argument("--without", type=words, default=[], help="peers whose names begin so")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--turn", type=float, default=0.7, help="seconds")
    parser.add_argument("--patience", type=float, default=300, help="seconds for any answer")
    parser.add_argument("--json", type=Path, help="a file that keeps rows and turns")
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}")
    if not list(rows(options)):
        parser.error("none of these models has such a batch")
    return options


def take_part(what: str, given: str, folder: Path) -> None:
    """Be a contestant, or answer something about ours."""
    spec = Spec.of(given)
    spec.settle()
    model = MODELS[spec.model]
    if what == "--losses":
        print(json.dumps(import_module("contest.ours").losses(spec, model, folder)))
    elif what == "--overhead":
        print(json.dumps(asdict(import_module("contest.overhead").overhead(spec, model, folder))))
    else:
        contestant = import_module(f"contest.{KINDS[spec.kind]}")
        contestant.run(spec, model, folder, Report.on_stdout())


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in {"--contestant", "--losses", "--overhead"}:
        take_part(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
