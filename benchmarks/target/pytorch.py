"""PyTorch, channels last: it begins with fml's first weights and has its splits and its batches."""

import json
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np
import torch
from contest.models import MOMENTUM, batches
from contest.pytorch import COMPILED, network
from torch import Tensor
from torch.nn import functional

import fml
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.runtime.feeding import Samples
from fml.engine.runtime.trainer import new_store
from fml.training import read_data
from target.ours import FILE
from target.race import Entry

# Samples that are measured at once.
PIECE = 500


def run(entry: Entry, out: TextIO) -> None:
    """Train until the parent closes the pipe."""
    torch.set_num_threads(entry.threads)
    racer = _Racer(entry)
    print(json.dumps({}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(racer.turn(int(line))), file=out, flush=True)


class _Racer:
    def __init__(self, entry: Entry) -> None:
        program = fml.load(FILE)
        training = program.lower("plain")
        splits = read_data(program, training, {})["fashion"].splits
        self.train, self.valid, self.test = (
            _tensors(splits[name]) for name in ("train", "valid", "test")
        )
        samples = len(self.train[1])
        self.per_epoch = samples // entry.setting.batch
        self.batches = batches(entry.setting.batch, samples, entry.seed)
        first = new_store(training, NumpyBackend(), entry.seed, {}).model()
        weights = {path.removeprefix("z."): value for path, value in first.items()}
        self.net = network("lenet", weights).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=entry.rate, momentum=MOMENTUM, fused=True
        )

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return functional.cross_entropy(self.net(x), y)

        self.loss = torch.compile(loss, dynamic=False) if entry.variant == COMPILED else loss
        self.step = 0

    def turn(self, steps: int) -> dict[str, object]:
        """Take so many steps, or those up to the next look, and look."""
        begun = time.perf_counter()
        # Looks come as fml's `every 0.5 epochs` has them: after the step that completes one.
        halves = 2 * self.step // self.per_epoch + 1
        look = -(-halves * self.per_epoch // 2)
        taken = min(steps, look - self.step)
        for _ in range(taken):
            self.one_step()
        self.step += taken
        seconds = time.perf_counter() - begun
        if self.step < look:
            return {"steps": taken, "seconds": seconds}
        if not all(p.isfinite().all() for p in self.net.parameters()):
            return {"failure": f"parameters are not finite after step {self.step}"}
        valid, test = (self.accuracy(*split) for split in (self.valid, self.test))
        epoch = self.step / self.per_epoch
        return {
            "step": self.step, "epoch": epoch, "seconds": seconds, "valid": valid, "test": test
        }  # fmt: skip

    def one_step(self) -> None:
        rows = torch.from_numpy(next(self.batches))
        x, y = self.train[0].index_select(0, rows), self.train[1].index_select(0, rows)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x.permute(0, 3, 1, 2), y).backward()
        self.optimizer.step()

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor) -> float:
        hits = 0
        for start in range(0, len(y), PIECE):
            piece = slice(start, start + PIECE)
            made = self.net(x[piece].permute(0, 3, 1, 2)).argmax(1)
            hits += int((made == y[piece]).sum())
        return hits / len(y)


def _tensors(fields: Mapping[str, Samples]) -> tuple[Tensor, Tensor]:
    """The images, f32[samples, 28, 28, 1] in 0..1, and the labels of a split as fml has it."""
    held = {name.split('"')[1]: samples[slice(None)] for name, samples in fields.items()}
    x = held["image"].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return torch.from_numpy(x), torch.from_numpy(held["label"].reshape(-1).astype(np.int64))
