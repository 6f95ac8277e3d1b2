"""What a step of fml takes outside its kernels.

The same run once more with kernels that return at once: the walk through the table, its calls,
copies and checks, and Python between two stretches of steps are what is left. Stretches are made as
long as those of the real run, so that Python's share is as it is there. A batch is gathered or not:
that is the data's share, and counted by itself.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import fml
from contest.models import SEED, Model, Start, text_of
from contest.turns import Spec
from fml.engine.backends.interface import Gathered, Given, Launch, Loop, Taken
from fml.engine.backends.llvm import Entry, LlvmBackend
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.llvm.walk import moves
from fml.engine.runtime.trainer import Trainer
from fml.engine.runtime.watch import Progress, Silent

SECONDS = 1.0


@dataclass(frozen=True)
class Overhead:
    """Seconds a step.

    Attributes:
        step: the whole of it.
        outside: without kernels and without the gathering of the batch.
        gather: of the batch.
        kernels: how many there are.
        stretch: steps between two looks of Python.
    """

    step: float
    outside: float
    gather: float
    kernels: int
    stretch: int


def overhead(spec: Spec, model: Model, folder: Path) -> Overhead:
    """Measure a run of one learner on one core."""
    start = Start.read(folder)
    real = _trained(LlvmBackend(), model, spec.batch, start)
    stretch = int(median(steps for steps, _ in real.stretches))
    without, emptied = _Emptied(gathers=False), _Emptied(gathers=True)
    outside = _trained(without, model, spec.batch, start, stretch).seconds_a_step
    both = _trained(emptied, model, spec.batch, start, stretch).seconds_a_step
    return Overhead(real.seconds_a_step, outside, both - outside, without.kernels, stretch)


class _Emptied(LlvmBackend):
    """The CPU's backend, whose kernels do nothing."""

    def __init__(self, gathers: bool) -> None:
        super().__init__()
        host = Host.native()
        text = f'target triple = "{host.triple}"\ndefine void @empty() {{\n  ret void\n}}\n'
        self._empty = load(text, host).address("empty")
        self._moves = frozenset(moves(host).values())
        self._gathers = gathers
        self.kernels = 0  # of the latest loop of steps

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
    ) -> Loop:
        made = [self._emptied(launch) for launch in body]
        if taken:
            self.kernels = sum(old is not new for old, new in zip(body, made, strict=True))
        if not self._gathers:
            none = [replace(g, view=g.view[:0]) if isinstance(g, Gathered) else g for g in given]
            return super().loop(made, none, taken)
        return super().loop(made, given, taken)

    def _emptied(self, launch: Launch) -> Launch:
        assert isinstance(launch, Entry), "a table has every kernel"
        if launch.function in self._moves:
            return launch
        return replace(launch, operands=(self._empty, *launch.operands[1:]))


class _Enough(Exception):
    """The time is over."""


class _Stretches(Silent):
    """Notes steps and seconds of the stretches, after some that warm up."""

    def __init__(self) -> None:
        self.stretches: list[tuple[int, float]] = []
        self._began = self._last = time.perf_counter()
        self._steps = 0

    @property
    def seconds_a_step(self) -> float:
        """The median of all stretches."""
        return median(seconds / steps for steps, seconds in self.stretches)

    def stepped(self, progress: Progress) -> None:
        now = time.perf_counter()
        if now > self._began + SECONDS / 2:
            self.stretches.append((progress.step - self._steps, now - self._last))
        if now > self._began + 1.5 * SECONDS:
            raise _Enough
        self._steps, self._last = progress.step, time.perf_counter()


def _trained(
    backend: LlvmBackend, model: Model, batch: int, start: Start, stretch: int | None = None
) -> _Stretches:
    training = fml.loads(text_of(model, batch)).lower()
    trainer = Trainer(training, {"d": {"train": {"x": start.x, "y": start.y}}}, backend, SEED)
    trainer.listener = noted = _Stretches()
    trainer.steps.most = stretch or trainer.steps.most
    try:
        with backend.at_work():
            trainer.run()
    except _Enough:
        return noted
    raise AssertionError("the plan has no such end")
