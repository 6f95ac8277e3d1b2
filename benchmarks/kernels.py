"""Compiled convolutions and products of matrices against PyTorch and OpenBLAS, on one core.

    python benchmarks/kernels.py [--only lenet,odd] [--batch 16] [--host avx2] [--rounds 15]

Every layer of the networks in its three directions, float32. A row's candidates take turns, so
that a busy machine slows all of them alike; times are medians. The peer is the better of PyTorch
with channels last and first for convolutions, OpenBLAS through numpy for matrices, on one thread.
The share of the peak is that of multiply-adds of registers alone. `odd` is for counts of channels
that fill no vectors; it is not among the networks that are measured without --only.
"""

import argparse
import ctypes
import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from fml.engine.ir.types import F32
from fml.engine.kernels import convolution, weight_gradient
from fml.engine.kernels.expr import Apply, Buffer, Load, Local, Var, constant, index
from fml.engine.kernels.llvm.compiler import object_code
from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.linker import link
from fml.engine.kernels.loops import Assign, Declare, For, Kernel, Let, Store
from fml.engine.kernels.matmul import Product, matmul
from fml.engine.kernels.slides import Convolution

MEAN, LEAST = 0.95, 0.80  # of the peer's speed: geometric mean over all rows, and every row
DIRECTIONS = ("forward", "images", "kernel")


@dataclass(frozen=True)
class Conv:
    size: int
    channels: int
    units: int
    window: int = 3
    stride: int = 1

    def of(self, batch: int) -> Convolution:
        before = (self.window - 1) // 2
        pair = (before, self.window - 1 - before)
        return Convolution(
            F32, batch, (self.size,) * 2, self.channels, (self.window,) * 2, self.units,
            (self.stride,) * 2, (pair, pair),
        )  # fmt: skip


@dataclass(frozen=True)
class Dense:
    inputs: int
    units: int


RESNET = (
    Conv(32, 3, 16), Conv(32, 16, 16), Conv(32, 16, 32, 3, 2), Conv(32, 16, 32, 1, 2),
    Conv(16, 32, 32), Conv(16, 32, 64, 3, 2), Conv(16, 32, 64, 1, 2), Conv(8, 64, 64),
    Dense(64, 10),
)  # fmt: skip
# Layers that differ; ResNet-8 and ResNet-32 repeat the same ones.
NETWORKS: dict[str, Sequence[Conv | Dense]] = {
    "lenet": (Conv(28, 1, 32, 5), Conv(14, 32, 64, 5), Dense(3136, 512), Dense(512, 10)),
    "resnet": RESNET,
    "vgg11": (
        Conv(32, 3, 64), Conv(16, 64, 128), Conv(8, 128, 256), Conv(8, 256, 256),
        Conv(4, 256, 512), Conv(4, 512, 512), Conv(2, 512, 512), Dense(512, 10),
    ),
    "dense": (Dense(784, 256), Dense(256, 128), Dense(128, 10), Dense(784, 10)),
    "odd": tuple(Conv(32, count, count) for count in (1, 3, 15, 16, 17, 31, 32, 33)),
}  # fmt: skip
WITHOUT_ONLY = tuple(name for name in NETWORKS if name != "odd")

Run = Callable[[], object]


@dataclass
class Case:
    """Something to compute, and whoever computes it; `fml` is one of them."""

    label: str
    flops: float
    runs: dict[str, Run]
    compiled: float


@dataclass
class Row:
    label: str
    flops: float
    seconds: dict[str, float]
    compiled: float
    peak: float  # multiplications and additions a second of registers alone

    @property
    def peer(self) -> str:
        others = [name for name in self.seconds if name != "fml"]
        return min(others, key=lambda name: self.seconds[name])

    @property
    def ratio(self) -> float:
        return self.seconds[self.peer] / self.seconds["fml"]

    @property
    def text(self) -> str:
        ours, theirs = self.seconds["fml"], self.seconds[self.peer]
        speeds = f"{self.flops / ours / 1e9:6.1f} {self.flops / theirs / 1e9:6.1f}"
        share = f"{self.flops / ours / self.peak:4.0%}"
        verdict = " MISSED" if self.ratio < LEAST else ""
        return (
            f"{self.label} {ours * 1e6:9.1f} us {theirs * 1e6:9.1f} us {self.peer:5} {speeds} "
            f"{share} {self.ratio:6.2f} {self.compiled:.3f} s{verdict}"
        )


def compiled(kernel: Kernel, host: Host, arrays: Sequence[np.ndarray]) -> Run:
    library = link(object_code(emit(kernel, host), host))
    scratch = [aligned(size) for size in kernel.scratch]
    kinds = [ctypes.c_void_p] * len(kernel.buffers) + [ctypes.c_int64] * 2
    function = ctypes.CFUNCTYPE(None, *kinds)(library.address(kernel.name))
    kept = (library, *arrays, *scratch)
    places = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, *scratch)]
    begin, end = ctypes.c_int64(0), ctypes.c_int64(kernel.parts)
    return lambda kept=kept: function(*places, begin, end)


def aligned(count: int) -> np.ndarray:
    """Zeros from where a cache line begins, as the arena has them."""
    room = np.zeros(count + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + count]


def entries(rng: np.random.Generator, *sizes: int) -> np.ndarray:
    """Random numbers from where a cache line begins."""
    made = aligned(math.prod(sizes)).reshape(sizes)
    made[...] = rng.standard_normal(sizes, np.float32)
    return made


def peak_of(host: Host) -> float:
    """Multiplications and additions a second of a core that only multiplies and adds registers."""
    vector, repeats = host.vector_bytes // 4, 20_000
    x, out = Buffer("x", F32), Buffer("out", F32)
    lane, a, b = Var("lane"), Var("a", F32), Var("b", F32)
    sums = [Local(f"sum{n}", F32) for n in range(12)]
    added = [Assign(s, Apply("multiply_add", (s, a, b), F32)) for s in sums]
    body = (
        Let(a, Load(x, lane)), Let(b, Load(x, lane + vector)),
        *(Declare(s, constant(0, F32)) for s in sums),
        For(Var("again"), index(0), index(repeats), tuple(added)),
        *(Store(out, lane + n * vector, s) for n, s in enumerate(sums)),
    )  # fmt: skip
    lanes = For(lane, index(0), index(vector), body, lanes=vector)
    kernel = Kernel("peak", (x, out), (lanes,), (Var("begin"), Var("end")))
    run = compiled(kernel, host, (aligned(2 * vector), aligned(len(sums) * vector)))
    return 2 * vector * len(sums) * repeats / measured({"fml": run}, 15, 0.2)["fml"]


def of_conv(layer: Conv, batch: int, direction: str, host: Host) -> Case:
    rng, conv = np.random.default_rng(0), layer.of(batch)
    x = entries(rng, batch, *conv.size, conv.channels)
    w = entries(rng, *conv.window, conv.channels, conv.units)
    g = entries(rng, batch, *conv.places, conv.units)
    make, inputs, out = {
        "forward": (convolution.forward, (x, w), g),
        "images": (convolution.input_gradient, (g, w), x),
        "kernel": (weight_gradient.weight_gradient, (x, g), w),
    }[direction]
    result = entries(rng, *out.shape)
    began = time.perf_counter()
    run = compiled(make(conv, "kernel", host), host, (*inputs, result))
    taken = time.perf_counter() - began
    runs: dict[str, Run] = {"fml": run}
    for name, layout in (("last", torch.channels_last), ("first", torch.contiguous_format)):
        tx, tg = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=layout)
                  for a in (x, g))  # fmt: skip
        tw = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=layout)
        runs[name] = of_torch(tx, tw, tg, conv, direction)
    expected = runs["last"]().numpy()
    run()
    order = (2, 3, 1, 0) if direction == "kernel" else (0, 2, 3, 1)
    check(result, expected.transpose(order))
    flops = 2.0 * g.size * math.prod(w.shape[:3])
    size = f"{conv.size[0]}x{conv.size[1]}x{conv.channels}"
    label = f"{size:>9} conv {conv.window[0]}x{conv.window[1]}/{layer.stride} {conv.units:>4}"
    return Case(label, flops, runs, taken)


def of_torch(
    x: torch.Tensor, w: torch.Tensor, g: torch.Tensor, conv: Convolution, direction: str
) -> Run:
    # PyTorch has one padding for both sides, which is all that the layers here need.
    padding = [conv.padding[0][0], conv.padding[1][0]]
    stride = list(conv.stride)
    if direction == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, stride=stride, padding=padding)
    wanted = [direction == "images", direction == "kernel", False]
    place = 0 if direction == "images" else 1
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(
        g, x, w, [0], stride, padding, [1, 1], False, [0, 0], 1, wanted
    )[place]  # fmt: skip


def of_dense(layer: Dense, batch: int, direction: str, host: Host) -> Case:
    rng = np.random.default_rng(0)
    k, n = layer.inputs, layer.units
    x, w, g = entries(rng, batch, k), entries(rng, k, n), entries(rng, batch, n)
    product, inputs, views, out = {
        "forward": (Product(F32, batch, k, n), (x, w), (x, w), g),
        "images": (Product(F32, batch, n, k, b_turned=True), (g, w), (g, w.T), x),
        "kernel": (Product(F32, k, batch, n, a_turned=True), (x, g), (x.T, g), w),
    }[direction]
    result, theirs = entries(rng, *out.shape), entries(rng, *out.shape)
    began = time.perf_counter()
    run = compiled(matmul(product, "kernel", host), host, (*inputs, result))
    taken = time.perf_counter() - began
    runs: dict[str, Run] = {"fml": run, "blas": lambda: np.matmul(*views, out=theirs)}
    for each in runs.values():
        each()
    check(result, theirs)
    return Case(f"{k:>9} dense    {n:>4}", 2.0 * batch * k * n, runs, taken)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max())
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4 * scale):
        raise SystemExit("the results differ")


def measured(runs: dict[str, Run], rounds: int, budget: float) -> dict[str, float]:
    """Median seconds of each; short ones are repeated, so that reading the clock costs nothing."""
    repeats: dict[str, int] = {}
    total = 0.0
    for name, run in runs.items():
        run()
        began = time.perf_counter()
        run()
        taken = time.perf_counter() - began
        repeats[name] = max(1, int(2e-4 / max(taken, 1e-7)))
        total += max(taken, 2e-4)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(max(5, min(rounds, int(budget / total)))):
        for name, run in runs.items():
            began = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - began) / repeats[name])
    return {name: statistics.median(taken) for name, taken in times.items()}


def rows(networks: Sequence[str], batches: Sequence[int], host: Host, rounds: int) -> list[Row]:
    found: list[Row] = []
    peak = peak_of(host)
    print(f"peak of the core {peak / 1e9:.0f} GFLOP/s")
    for network, batch in itertools.product(networks, batches):
        total = 0.0
        for layer, direction in itertools.product(NETWORKS[network], DIRECTIONS):
            if isinstance(layer, Conv):
                case = of_conv(layer, batch, direction, host)
            else:
                case = of_dense(layer, batch, direction, host)
            seconds = measured(case.runs, rounds, 0.5)
            total += case.compiled
            label = f"{network:7}{batch:3} {case.label:24} {direction:8}"
            found.append(Row(label, case.flops, seconds, case.compiled, peak))
            print(found[-1].text, flush=True)
        print(f"{network} of batch {batch}: {total:.2f} s to make its kernels")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(WITHOUT_ONLY))
    parser.add_argument("--batch", default="4,16,64")
    parser.add_argument("--host", default="native")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    for name in os.environ:
        if name.startswith("OPENBLAS_"):
            raise SystemExit(f"unset {name}: it changes the peer")
    host = Host.native() if given.host == "native" else Host.forced(given.host)
    torch.set_num_threads(1)
    print(f"{'':44} {'fml':>12} {'peer':>12}       GFLOP/s: fml, peer; of peak, ratio; compiled in")
    with threadpool_limits(1):
        batches = [int(b) for b in given.batch.split(",")]
        found = rows(given.only.split(","), batches, host, given.rounds)
    mean = math.exp(statistics.fmean(math.log(row.ratio) for row in found))
    least = min(found, key=lambda row: row.ratio)
    print(f"geometric mean {mean:.3f} (at least {MEAN})")
    print(f"least {least.ratio:.2f} (at least {LEAST}): {least.label}")
    return 0 if mean >= MEAN and least.ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
