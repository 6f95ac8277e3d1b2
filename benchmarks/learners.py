"""What learners cost: samples a second of two, what averaging takes, and planning of many.

    python benchmarks/learners.py scaling   [--models resnet8,lenet] [--batches 8] [--rounds 5]
                                            [--turn 0.7]
    python benchmarks/learners.py averaging [--entries 10000,1000000] [--rounds 5] [--turn 0.7]
    python benchmarks/learners.py planning  [--models lenet,resnet32] [--rounds 5]

Everybody takes turns; figures are medians over the rounds. It fails if a figure is missed.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from contest.models import MODELS
from contest.turns import Report, Spec

TABLES = ("scaling", "averaging", "planning")


def parsed() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--models", type=names, default=list(MODELS))
    parser.add_argument("--batches", type=numbers, help="of a learner")
    parser.add_argument(
        "--entries", type=numbers, default=[10_000, 100_000, 1_000_000, 5_000_000, 25_000_000]
    )
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--turn", type=float, default=0.7, help="seconds")
    parser.add_argument("--patience", type=float, default=300, help="seconds for any answer")
    options = parser.parse_args()
    options.script = Path(__file__)
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    options = parsed()
    sys.stdout.reconfigure(line_buffering=True)
    table = getattr(import_module(f"learning.{options.table}"), options.table)
    return 0 if table(options) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        spec = Spec.of(sys.argv[2])
        spec.settle()
        contestant = import_module("contest.ours")
        contestant.run(spec, MODELS[spec.model], Path(sys.argv[3]), Report.on_stdout())
    else:
        sys.exit(main())
