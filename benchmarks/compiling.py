"""How long it takes to make all kernels of a training step: clusters, statements, LLVM IR, code.

`python benchmarks/compiling.py`: LeNet and ResNet-32 on images of their usual sizes, batch 16. Each
time is that of a new process, on one thread; imports, reading and lowering the program are not in
it. The limits are those of cold compiling; it fails if one is missed.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import fml
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH
from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
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
LIMITS = {"lenet": 2.0, "resnet32": 8.0}


def step_of(name: str) -> Graph:
    program = fml.loads(RESNET) if name == "resnet32" else fml.load(EXAMPLES / "lenet_fashion.fml")
    training = program.lower()
    sizes = {str(STEPS_PER_EPOCH): 100, str(LEARNERS): 1} | {f.dim: 16 for f in training.feeds}
    return optimise(training.step, sizes)


def measure(name: str) -> None:
    """Print nodes, clusters, different kernels, and seconds to plan, to write and to compile."""
    graph, host = step_of(name), Host.native()
    start = time.perf_counter()
    found = clusters(graph)
    recipes = {recipe.key: recipe for recipe in recipes_of(graph, found)}
    kernels = [recipe.make(f"kernel{n}", host) for n, recipe in enumerate(recipes.values())]
    planned = time.perf_counter()
    texts = [emit(kernel, host) for kernel in kernels]
    written = time.perf_counter()
    for text in texts:
        load(text, host)
    done = time.perf_counter()
    print(len(graph), len(found), len(texts), planned - start, written - planned, done - written)


def main() -> int:
    missed = False
    print("          nodes  kernels  different   plan    write  compile    all    at most")
    for name, limit in LIMITS.items():
        rows = [run(name) for _ in range(ROUNDS)]
        counts = rows[0][:3]
        plan, write, code = (statistics.median(row[k] for row in rows) for k in (3, 4, 5))
        total = statistics.median(sum(row[3:]) for row in rows)
        missed |= total > limit
        print(
            f"{name:9s} {counts[0]:5.0f} {counts[1]:8.0f} {counts[2]:10.0f} {plan:7.2f} s"
            f" {write:6.2f} s {code:6.2f} s {total:6.2f} s {limit:4.1f} s"
            + ("  MISSED" if total > limit else "")
        )
    return int(missed)


def run(name: str) -> list[float]:
    command = [sys.executable, __file__, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        sys.exit(main())
