"""PyTorch: eager, channels last, compiled, and two processes that average their gradients."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from contest.models import CHECKED_STEPS, DECAY, MOMENTUM, RATE, Model, Start, batches
from contest.turns import Report, Spec, resident, serve

CHANNELS_LAST, COMPILED, PROCESSES = "channels last", "compile", "processes"
# What fml calls a parameter of a layer, and what PyTorch does.
_NAMES = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


class Unit(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.batch_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.batch_norm(self.conv(x))


class Block(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.strides = stride > 1
        if self.strides:
            self.conv = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.batch_norm = nn.BatchNorm2d(channels)
        self.unit_0 = Unit(inputs, channels, stride)
        self.unit_1 = Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        short = self.batch_norm(self.conv(x)) if self.strides else x
        return functional.relu(self.unit_1(functional.relu(self.unit_0(x))) + short)


class ResNet(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.unit = Unit(3, 16)
        layers = [(16, 16, 1)] * depth
        layers += [(16, 32, 2), *[(32, 32, 1)] * (depth - 1)]
        layers += [(32, 64, 2), *[(64, 64, 1)] * (depth - 1)]
        self.blocks = nn.Sequential(*[Block(*sizes) for sizes in layers])
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.unit(x)))
        return self.dense(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(1, 32, 5, padding=2)
        self.conv_1 = nn.Conv2d(32, 64, 5, padding=2)
        self.dense_0 = nn.Linear(3136, 512)
        self.dense_1 = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv_0(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv_1(x)), 2)
        return self.dense_1(functional.relu(self.dense_0(x.flatten(1))))


class Dense(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        names = ["dense"] if len(sizes) == 2 else [f"dense_{i}" for i in range(len(sizes) - 1)]
        for name, inputs, units in zip(names, sizes, sizes[1:], strict=False):
            self.add_module(name, nn.Linear(inputs, units))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.children()
        x = first(x)
        for layer in others:
            x = layer(functional.relu(x))
        return x


MAKERS = {
    "softmax": lambda: Dense(784, 10),
    "mlp": lambda: Dense(784, 256, 128, 10),
    "lenet": LeNet,
    "resnet8": lambda: ResNet(1),
    "resnet32": lambda: ResNet(5),
}


def network(name: str, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """The network with the weights that all begin with, in PyTorch's layouts."""
    made = MAKERS[name]()
    here = {path.replace("blocks.", "block_"): p for path, p in made.named_parameters()}
    for path, value in weights.items():
        layer, _, kind = path.rpartition(".")
        turned = value.T
        if value.ndim == 4:
            turned = value.transpose(3, 2, 0, 1)
        elif name == "lenet" and path == "dense_0.W":  # its inputs are images, channels first here
            turned = value.reshape(7, 7, 64, -1).transpose(3, 2, 0, 1).reshape(-1, 3136)
        with torch.no_grad():
            here.pop(f"{layer}.{_NAMES[kind]}").copy_(torch.from_numpy(turned.copy()))
    assert not here, f"no weights for {list(here)}"
    return made


def run(spec: Spec, model: Model, folder: Path, report: Report) -> None:
    """Train until the parent closes the pipe."""
    torch.set_num_threads(spec.threads)
    if spec.variant != PROCESSES:
        _Run(spec, model, folder).serve(report)
        return
    # The first process tells the second one what it is told.
    is_first = "--second" not in sys.argv
    meeting = folder / f"meeting-{spec.model}-{spec.batch}"
    if is_first:
        meeting.unlink(missing_ok=True)
        command = [*sys.orig_argv, "--second"]
        other = subprocess.Popen(command, stdin=subprocess.PIPE)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=int(not is_first), world_size=spec.learners
    )
    contestant = _Run(spec, model, folder)
    if is_first:
        contestant.follower = other.stdin
        contestant.serve(report)
    else:
        contestant.follow()


class _Run:
    """A training run of one process."""

    def __init__(self, spec: Spec, model: Model, folder: Path) -> None:
        start = Start.read(folder)
        self.x, self.y = torch.from_numpy(start.x), torch.from_numpy(start.y).long()
        self.has_images = model.has_images
        self.is_last = CHANNELS_LAST in spec.variant
        if self.has_images and not self.is_last:
            self.x = self.x.permute(0, 3, 1, 2).contiguous()
        weights = start.weights
        del start
        self.before = resident()
        net = network(spec.model, weights)
        if self.is_last:
            net = net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=True
        )
        self.share = slice(None)
        self.is_shared = spec.variant == PROCESSES
        if self.is_shared:
            net = DistributedDataParallel(
                net, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
            )
            here = distributed.get_rank()
            each = spec.batch // spec.learners
            self.share = slice(here * each, (here + 1) * each)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return functional.cross_entropy(net(x), y)

        self.loss = torch.compile(loss, dynamic=False) if COMPILED in spec.variant else loss
        self.batches = batches(spec.batch)
        self.follower = None

    def serve(self, report: Report) -> None:
        """Take the steps whose losses are compared, warm up and take turns."""
        checked = [self._checked() for _ in range(CHECKED_STEPS)]
        serve(report, checked, self.before, self.take)

    def follow(self) -> None:
        """Take the steps that the first process takes."""
        for _ in range(CHECKED_STEPS):
            self._checked()
        for line in sys.stdin:
            self.take(int(line))

    def _checked(self) -> float:
        loss = self.step().detach()
        if self.is_shared:
            distributed.all_reduce(loss)
            loss /= distributed.get_world_size()
        return loss.item()

    def take(self, steps: int) -> int:
        if self.follower is not None:
            self.follower.write(f"{steps}\n".encode())
            self.follower.flush()
        for _ in range(steps):
            self.step()
        return steps

    def step(self) -> Tensor:
        rows = torch.from_numpy(next(self.batches)[self.share])
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        if self.is_last:
            x = x.permute(0, 3, 1, 2)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss
