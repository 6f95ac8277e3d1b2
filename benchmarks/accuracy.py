"""How well the examples end: test accuracy, the median of five seeds.

    .venv/bin/python benchmarks/accuracy.py digits
    .venv/bin/python benchmarks/accuracy.py lenet      # Fashion-MNIST must be there; takes long

Seeds are those of initial weights, batches and dropout; the data are split alike for all.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import fml

EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True)
class Case:
    file: str
    least: float
    options: dict[str, object] = field(default_factory=dict)


CASES = {
    "digits": Case("mlp_regularised.fml", 0.97),
    "lenet": Case("lenet_fashion.fml", 0.90, {"epochs": 4}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    case = CASES[arguments.case]
    program = fml.load(EXAMPLES / case.file)
    reached: list[float] = []
    for seed in range(arguments.seeds):
        began = time.perf_counter()
        run = program.train(seed=seed, options=case.options)
        reached.append(run.figures["test.accuracy"])
        seconds = time.perf_counter() - began
        print(
            f"seed {seed}: {reached[-1]:.4f}   {run.steps:,} steps in {seconds:.0f} s", flush=True
        )
    median = statistics.median(reached)
    verdict = "reached" if median >= case.least else "MISSED"
    print(f"median {median:.4f}, at least {case.least:.2f}: {verdict}")
    return 0 if median >= case.least else 1


if __name__ == "__main__":
    sys.exit(main())
