"""How long it takes from a training step's graph to addresses of all its kernels.

`python benchmarks/compiling.py`: LeNet and ResNet-32 on images of their usual sizes, batch 16. Each
time is that of a new process, on one thread; imports, reading and lowering the program are not in
it. Cold with an empty cache, warm with what the cold one left there; it fails if a limit is missed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fml
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH
from fml.engine.kernels.llvm.compiled import compiled
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import recipes_of

ROUNDS = 5
EXAMPLES = Path(__file__).parents[1] / "examples"
RESNET = """
data d = given { x: f32[32, 32, 3]; y: label[10]; split train 80%, test 20% }
layer unit(c: dim, s = 1)(x) = x |> conv(c, 3, stride = s, bias = false) |> batch_norm
layer block(c: dim, s = 1)(x: f32[N, H, W, C]) {
  short = if s == 1 then x else x |> conv(c, 1, stride = s, bias = false) |> batch_norm
  relu((x |> unit(c, s) |> relu |> unit(c)) + short)
}
model resnet(x: f32[N, 32, 32, 3]) -> f32[N, 10] =
  x |> unit(16) |> relu |> repeat(5, block(16)) |> block(32, 2) |> repeat(4, block(32))
    |> block(64, 2) |> repeat(4, block(64)) |> global_avg_pool |> dense(10)
train {
  net = resnet()
  feed x, y from d.train |> shuffle |> batch(16)
  minimize loss = cross_entropy(net(x), y) + 1e-4 * l2(net.**.W)
  using momentum(0.1)
  stop after 1 epoch
}
"""
# Seconds, cold and warm.
LIMITS = {"lenet": (2.0, 0.3), "resnet32": (8.0, 1.0)}


def step_of(name: str) -> Graph:
    program = fml.loads(RESNET) if name == "resnet32" else fml.load(EXAMPLES / "lenet_fashion.fml")
    training = program.lower()
    sizes = {str(STEPS_PER_EPOCH): 100, str(LEARNERS): 1} | {f.dim: 16 for f in training.feeds}
    return optimise(training.step, sizes)


def measure(name: str) -> None:
    """Print nodes, clusters, different kernels, and seconds to plan and to get addresses."""
    graph = step_of(name)
    start = time.perf_counter()
    recipes = recipes_of(graph, clusters(graph))
    planned = time.perf_counter()
    codes = compiled(recipes)
    done = time.perf_counter()
    different = len({code.address for code in codes})
    print(len(graph), len(codes), different, planned - start, done - planned)


def main() -> int:
    missed = False
    print("               nodes  kernels  different     plan     code      all    at most")
    for name, limits in LIMITS.items():
        rounds = [cold_and_warm(name) for _ in range(ROUNDS)]
        states = zip(*rounds, strict=True)
        for state, limit, rows in zip(("cold", "warm"), limits, states, strict=True):
            nodes, kernels, different = rows[0][:3]
            plan, code = (statistics.median(row[k] for row in rows) for k in (3, 4))
            total = statistics.median(sum(row[3:]) for row in rows)
            missed |= total > limit
            print(
                f"{name:9s} {state} {nodes:5.0f} {kernels:8.0f} {different:10.0f}"
                f" {plan:7.3f} s {code:6.3f} s {total:6.3f} s {limit:7.1f} s"
                + ("  MISSED" if total > limit else "")
            )
    return int(missed)


def cold_and_warm(name: str) -> tuple[list[float], list[float]]:
    """What two processes print, the second of which finds what the first has left."""
    with tempfile.TemporaryDirectory() as folder:
        return run(name, folder), run(name, folder)


def run(name: str, cache: str) -> list[float]:
    command = [sys.executable, __file__, name]
    given = {**os.environ, "FML_CACHE": cache}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        sys.exit(main())
