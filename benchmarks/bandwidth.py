"""Kernels that wait for memory, beside a plain copy and beside PyTorch, on one core.

`python benchmarks/bandwidth.py`. Each row is a model's part written in `.fml`, whose nodes come to
one kernel; `of copy` is its bandwidth, every entry of inputs and results counted once, over that of
a copy that moves as many bytes. It fails where that is below 0.8, or where PyTorch is faster.
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

import fml
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH
from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.passes.remove_dead import RemoveDead
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of

ROUNDS = 31
AT_LEAST = 0.8
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A model's body, the shape of its input [N, ...], and what PyTorch calls the same.

    The input is drawn from the normal distribution; where it `is_positive`, its sizes are.
    """

    name: str
    body: str
    sizes: tuple[int, ...]
    peer: Callable[[torch.Tensor], object]
    is_positive: bool = False


def _affine(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    channels = x.shape[1]
    return torch.ones(channels), torch.zeros(channels)


IMAGES = (64, 28, 28, 32)
ROWS = (4096, 256)
CASES = (
    Case("relu", "relu(x)", IMAGES, torch.relu),
    Case("exp", "exp(x)", IMAGES, torch.exp),
    Case("log", "log(x)", IMAGES, torch.log, is_positive=True),
    Case("tanh", "tanh(x)", IMAGES, torch.tanh),
    Case("sigmoid", "sigmoid(x)", IMAGES, torch.sigmoid),
    Case("softplus", "softplus(x)", IMAGES, functional.softplus),
    Case("gelu", "gelu(x)", IMAGES, functional.gelu),
    Case("silu", "silu(x)", IMAGES, functional.silu),
    Case("max_pool", "x |> max_pool(2)", IMAGES, lambda x: functional.max_pool2d(x, 2)),
    Case("avg_pool", "x |> avg_pool(2)", IMAGES, lambda x: functional.avg_pool2d(x, 2)),
    Case("softmax", "softmax(x)", ROWS, lambda x: torch.softmax(x, 1)),
    Case("log_softmax of 10", "log_softmax(x)", (8192, 10), lambda x: torch.log_softmax(x, 1)),
    Case(
        "layer_norm", "x |> layer_norm", ROWS,
        lambda x: functional.layer_norm(x, x.shape[1:], *_affine(x)),
    ),
    Case(
        "batch_norm, relu", "x |> batch_norm |> relu", IMAGES,
        lambda x: torch.relu(functional.batch_norm(x, None, None, *_affine(x), training=True)),
    ),
)  # fmt: skip


def graph_of(case: Case) -> Graph:
    """The graph whose result is that of the body: a figure logged of it, without its mean."""
    shape = ", ".join(map(str, case.sizes[1:]))
    text = (
        f"data d = given {{ x: f32[{shape}]; y: f32; split train 80%, test 20% }}\n"
        f"model m(x: f32[N, {shape}]) = {case.body}\n"
        "train {\n  n = m()\n"
        f"  feed x, y from d.train |> batch({case.sizes[0]})\n"
        "  log mean(n(x)) every 1 step\n  stop after 1 step\n}\n"
    )
    training = fml.loads(text).lower()
    sizes = {str(STEPS_PER_EPOCH): 1, str(LEARNERS): 1}
    sizes |= {feed.dim: case.sizes[0] for feed in training.feeds}
    whole = optimise(training.logs[0].graph or training.step, sizes)
    mean = next(node for node in reversed(list(whole)) if node.op == "sum")
    return RemoveDead().run(Graph("body", whole, {"y": mean.inputs[0]}))


def compiled(case: Case, x: Array) -> tuple[Run, int]:
    """A call of the kernel, and the bytes of its inputs and results."""
    graph, host = graph_of(case), Host.native()
    (cluster,) = clusters(graph)
    kernel = kernel_of(graph, cluster, "kernel", host)
    arrays = [
        x if graph[n].op == "feed" else np.ones(graph[n].type.sizes, graph[n].type.dtype)
        for n in cluster.inputs
    ]
    arrays += [np.empty(graph[n].type.sizes, graph[n].type.dtype) for n in cluster.results]
    address = load(emit(kernel, host), host).address("kernel")
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays))(address)
    places = [array.ctypes.data for array in arrays]

    def run(_: object = arrays) -> None:
        function(*places)

    return run, sum(array.nbytes for array in arrays)


def copy_of(nbytes: int) -> Run:
    """A copy that reads and writes so many bytes together."""
    source, target = np.ones(nbytes // 8, np.float32), np.empty(nbytes // 8, np.float32)
    return lambda: np.copyto(target, source)


def peer_of(case: Case, x: Array) -> list[Run]:
    """PyTorch's call: on channels last and on contiguous images, or on rows."""
    tensor = torch.from_numpy(x)
    if len(case.sizes) == 2:
        return [lambda: case.peer(tensor)]
    last = tensor.permute(0, 3, 1, 2)
    first = last.contiguous()
    return [lambda: case.peer(last), lambda: case.peer(first)]


def measured(runs: Sequence[Run]) -> list[float]:
    """Median seconds of each, taking turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            run()
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def main() -> int:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    missed = False
    print(f"{'':20} {'us':>8} {'GB/s':>7} {'of copy':>8} {'PyTorch us':>11} {'ratio':>6}")
    for case in CASES:
        x = np.random.default_rng(0).standard_normal(case.sizes).astype(np.float32)
        x = np.abs(x) if case.is_positive else x
        run, nbytes = compiled(case, x)
        ours, copy, *peers = measured([run, copy_of(nbytes), *peer_of(case, x)])
        share, ratio = copy / ours, min(peers) / ours
        bad = share < AT_LEAST or ratio < 1
        missed |= bad
        print(
            f"{case.name:20} {ours * 1e6:8.1f} {nbytes / ours / 1e9:7.1f} {share:8.2f}"
            f" {min(peers) * 1e6:11.1f} {ratio:6.2f}{'  MISSED' if bad else ''}"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
