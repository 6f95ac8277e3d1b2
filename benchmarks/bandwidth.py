"""Kernels that wait for memory, beside a plain copy and beside PyTorch, on one core.

`python benchmarks/bandwidth.py`. Each row is a model's part written in `.fml`, or the update of a
million parameters, each of whose gradients is an entry of the input; `of copy` is its bandwidth,
every entry of inputs and results counted once, over that of a copy that moves as many bytes. It
fails where that is below 0.8, or where PyTorch is faster.
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
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH, Training
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
Run = Callable[..., object]


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
    Case("transpose", "transpose(x, [1, 0])", ROWS, lambda x: x.t().contiguous()),
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


# Optimisers with what PyTorch calls the same, and how many arrays are read or written.
UPDATES = (
    ("sgd", "sgd(0.1)", lambda w: torch.optim.SGD(w, 0.1), 3),
    ("momentum", "momentum(0.1)", lambda w: torch.optim.SGD(w, 0.1, momentum=0.9), 5),
    ("adam", "adam(0.01)", lambda w: torch.optim.Adam(w, 0.01), 7),
)
PARAMETERS = 1 << 20


def training_of(case: Case) -> str:
    """A program that logs a figure of the body's result."""
    shape = ", ".join(map(str, case.sizes[1:]))
    return (
        f"data d = given {{ x: f32[{shape}]; y: f32; split train 80%, test 20% }}\n"
        f"model m(x: f32[N, {shape}]) = {case.body}\n"
        "train {\n  n = m()\n"
        f"  feed x, y from d.train |> batch({case.sizes[0]})\n"
        "  log mean(n(x)) every 1 step\n  stop after 1 step\n}\n"
    )


def updating(optimizer: str) -> str:
    """A program whose parameters have the entries of its only sample for gradients."""
    return (
        f"data d = given {{ x: f32[{PARAMETERS}]; y: f32; split train 80%, test 20% }}\n"
        "model m(x: f32[N, D]) {\n  param w: f32[D] ~ zeros\n  w * x\n}\n"
        "train {\n  n = m()\n  feed x, y from d.train |> batch(1)\n"
        f"  minimize loss = sum(n(x))\n    using {optimizer}\n  stop after 1 step\n}}\n"
    )


def optimised(training: Training, graph: Graph, batch: int) -> Graph:
    """A graph of definite sizes."""
    sizes = {str(STEPS_PER_EPOCH): 1, str(LEARNERS): 1}
    return optimise(graph, sizes | {feed.dim: batch for feed in training.feeds})


def graph_of(case: Case) -> Graph:
    """The graph whose result is that of the body: the figure logged of it, without its mean."""
    training = fml.loads(training_of(case)).lower()
    whole = optimised(training, training.logs[0].graph or training.step, case.sizes[0])
    mean = next(node for node in reversed(list(whole)) if node.op == "sum")
    return RemoveDead().run(Graph("body", whole, {"y": mean.inputs[0]}))


def compiled(graph: Graph, x: Array) -> tuple[Run, int]:
    """Calls of a graph's kernels, and the bytes of its inputs and results."""
    host, values = Host.native(), dict[int, Array]()
    found = clusters(graph)
    for value in (v for cluster in found for v in (*cluster.inputs, *cluster.results)):
        type = graph[value].type
        is_x = graph[value].op == "feed" and type.sizes == x.shape
        values.setdefault(value, x if is_x else np.ones(type.sizes, type.dtype))
    calls: list[tuple[Run, list[int]]] = []
    for cluster in found:
        kernel = kernel_of(graph, cluster, "kernel", host)
        arrays = [values[v] for v in (*cluster.inputs, *cluster.results)]
        for read, written in kernel.shared:
            arrays[written] = values[cluster.results[written - len(cluster.inputs)]] = arrays[read]
        address = load(emit(kernel, host), host).address("kernel")
        sizes = [0, kernel.parts] if kernel.parts else []  # all of them
        words = [ctypes.c_void_p] * len(arrays) + [ctypes.c_int64] * len(sizes)
        function = ctypes.CFUNCTYPE(None, *words)(address)
        calls.append((function, [*(array.ctypes.data for array in arrays), *sizes]))

    def run(_: object = values) -> None:
        for function, places in calls:
            function(*places)

    return run, sum(array.nbytes for array in values.values())


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


def update_of(optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer], x: Array) -> Run:
    """A step of PyTorch's optimiser."""
    w = torch.zeros(PARAMETERS)
    w.grad = torch.from_numpy(x.reshape(-1))
    return optimizer([w]).step


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


def reported(name: str, run: Run, nbytes: int, peers: Sequence[Run]) -> bool:
    """Measure and print one row; whether it missed what it should reach."""
    ours, copy, *others = measured([run, copy_of(nbytes), *peers])
    share, ratio = copy / ours, min(others) / ours
    missed = share < AT_LEAST or ratio < 1
    print(
        f"{name:20} {ours * 1e6:8.1f} {nbytes / ours / 1e9:7.1f} {share:8.2f}"
        f" {min(others) * 1e6:11.1f} {ratio:6.2f}{'  MISSED' if missed else ''}"
    )
    return missed


def main() -> int:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rng, missed = np.random.default_rng(0), False
    print(f"{'':20} {'us':>8} {'GB/s':>7} {'of copy':>8} {'PyTorch us':>11} {'ratio':>6}")
    for case in CASES:
        x = rng.standard_normal(case.sizes).astype(np.float32)
        x = np.abs(x) if case.is_positive else x
        run, nbytes = compiled(graph_of(case), x)
        missed |= reported(case.name, run, nbytes, peer_of(case, x))
    x = rng.standard_normal((1, PARAMETERS)).astype(np.float32)
    for name, optimizer, peer, arrays in UPDATES:
        training = fml.loads(updating(optimizer)).lower()
        run, _ = compiled(optimised(training, training.step, 1), x)
        missed |= reported(name, run, arrays * x.nbytes, [update_of(peer, x)])
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
