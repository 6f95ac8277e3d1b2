"""How long a user waits before anything happens: importing, `--help`, checking.

    .venv/bin/python benchmarks/startup.py

Every row is a fresh process, timed from its start to its end; the rows take turns, so that a busy
machine slows all of them alike. Medians, with the quartiles beside them. `python` and `numpy` are
what the others cannot be faster than.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
EXAMPLES = Path(__file__).parent.parent / "examples"
SOFTMAX, RESNET = str(EXAMPLES / "softmax_regression.fml"), str(EXAMPLES / "resnet.fml")
FML = str(Path(sys.executable).with_name("fml"))

# Name, command, and the most seconds it may take.
ROWS: tuple[tuple[str, list[str], float | None], ...] = (
    ("python", [sys.executable, "-c", "pass"], None),
    ("numpy", [sys.executable, "-c", "import numpy"], None),
    ("import fml", [sys.executable, "-c", "import fml"], 0.25),
    ("fml --help", [FML, "--help"], 0.25),
    (
        "fml check softmax_regression",
        [FML, "check", str(EXAMPLES / "softmax_regression.fml")],
        None,
    ),
    ("fml check resnet", [FML, "check", RESNET], 0.5),
)


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    for _, command, _ in ROWS:
        seconds(command)  # the first run reads the files from the disk and compiles them
    taken: dict[str, list[float]] = {name: [] for name, _, _ in ROWS}
    for _ in range(ROUNDS):
        for name, command, _ in ROWS:
            taken[name].append(seconds(command))
    late = 0
    print(f"{'':30} median    quartiles      at most")
    for name, _, limit in ROWS:
        low, median, high = statistics.quantiles(taken[name], n=4)
        verdict = "" if limit is None else f"{limit:.2f} s{'' if median <= limit else '  MISSED'}"
        late += limit is not None and median > limit
        print(f"{name:30} {median:.3f} s   {low:.3f} {high:.3f}   {verdict}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
