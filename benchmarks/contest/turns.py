"""Taking turns: a contestant is a process that waits until its parent says how many steps.

The child's first line says that it is ready, every further one what a turn took; lines are JSON.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

# Memory is looked at after so many steps, and no turn comes before they are done.
WARM_STEPS = 100


@dataclass(frozen=True)
class Spec:
    """A contestant.

    Attributes:
        name: as the table calls it.
        kind: `fml`, `torch` or `jax`.
        model: one of `MODELS`.
        batch: samples between two synchronisations, of all learners or processes together.
        cores: those it may run on.
        threads: of its own pool, in each process.
        variant: what makes it differ from others of its kind.
        learners: replicas, devices or processes that share the batch.
    """

    name: str
    kind: str
    model: str
    batch: int
    cores: tuple[int, ...]
    threads: int = 1
    variant: str = ""
    learners: int = 1

    @classmethod
    def of(cls, given: str) -> "Spec":
        """The contestant that a process was started with."""
        values = json.loads(given)
        return cls(**values | {"cores": tuple(values["cores"])})

    def settle(self) -> None:
        """Stay on its cores, before anything asks how many there are."""
        os.sched_setaffinity(0, self.cores)

    @property
    def environment(self) -> dict[str, str]:
        """That of the process: nothing of the caller's decides about threads or kernels."""
        decisive = ("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "XLA_", "JAX_", "TORCH", "NPROC")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(decisive)}
        threads = str(self.threads)
        eigen = "true" if self.threads > 1 else "false"
        flags = f"--xla_cpu_multi_thread_eigen={eigen}"
        if self.kind == "jax" and self.learners > 1:
            flags += f" --xla_force_host_platform_device_count={self.learners}"
            # Devices wait for each other in threads of one pool; where it has no more than there
            # are cores, their kernels find none and all of them wait for ever.
            kept["NPROC"] = str(4 * self.learners)
        return kept | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "XLA_FLAGS": flags,
            "JAX_PLATFORMS": "cpu",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }


@dataclass
class Report:
    """How a contestant speaks to its parent."""

    file: TextIO

    @classmethod
    def on_stdout(cls) -> "Report":
        """Keep standard output to itself: what libraries print goes to standard error."""
        file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        return cls(file)

    def ready(self, losses: list[float], growth: int, seconds_a_step: float) -> None:
        """All is compiled and warm."""
        self._say(losses=losses, growth=growth, seconds_a_step=seconds_a_step)

    def turn(self, steps: int, seconds: float) -> None:
        """A turn is over."""
        self._say(steps=steps, seconds=seconds)

    def _say(self, **values: object) -> None:
        print(json.dumps(values), file=self.file)


def serve(report: Report, losses: list[float], before: int, take: Callable[[int], int]) -> None:
    """Warm up, and take turns until the parent closes the pipe.

    `take` does at least so many steps and returns how many; `before` is the memory before the model
    was made.
    """
    taken = len(losses)
    while taken < WARM_STEPS:
        began = time.perf_counter()
        steps = take(WARM_STEPS // 2)
        each = (time.perf_counter() - began) / steps
        taken += steps
    report.ready(losses, resident() - before, each)
    for line in sys.stdin:
        began = time.perf_counter()
        steps = take(int(line))
        report.turn(steps, time.perf_counter() - began)


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Absent(Exception):
    """A contestant that does not take part, and why."""


@dataclass
class Turn:
    """What one turn took."""

    steps: int
    seconds: float


@dataclass
class Contestant:
    """A process that is held ready.

    Attributes:
        absent: why it takes no further part, or nothing.
        strays: whether that is because it does not train what the others train.
        growth: bytes that it took from when the data were loaded until `WARM_STEPS` steps.
    """

    spec: Spec
    folder: Path
    turns: list[Turn] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    growth: int = 0
    seconds_a_step: float = 0.0
    seconds_to_start: float = 0.0
    absent: str = ""
    strays: bool = False
    _process: subprocess.Popen[bytes] | None = None

    def start(self, script: Path, patience: float) -> None:
        """Start it and wait until it is ready."""
        began = time.monotonic()
        given = json.dumps(asdict(self.spec))
        command = [sys.executable, str(script), "--contestant", given, str(self.folder)]
        self._log = (self.folder / f"{os.urandom(6).hex()}.log").open("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.spec.environment,
            start_new_session=True,
        )
        try:
            ready = self._hear(patience)
        except Absent as why:
            self._leave(f"not ready: {why}")
            return
        self.losses, self.growth = ready["losses"], ready["growth"]
        self.seconds_a_step = ready["seconds_a_step"]
        self.seconds_to_start = time.monotonic() - began

    def compare_losses(self, wanted: Sequence[float], tolerance: float) -> None:
        """See to it that it trains what the others train, or takes no part."""
        apart = max(abs(a / b - 1) for a, b in zip(self.losses, wanted, strict=True))
        if not apart < tolerance:
            self.strays = True
            self._leave(f"its losses are {self.losses}, not {wanted}")

    def turn(self, seconds: float, patience: float) -> None:
        """Let it have a turn of about so many seconds, unless it is absent."""
        self.begin_turn(seconds)
        self.end_turn(patience)

    def begin_turn(self, seconds: float) -> None:
        """Let it begin; others may run at the same time."""
        if self.absent:
            return
        steps = max(1, round(seconds / self.seconds_a_step))
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{steps}\n".encode())
            self._process.stdin.flush()
        except OSError as why:
            self._leave(f"in its turn: {why}")

    def end_turn(self, patience: float) -> None:
        """Wait for the end of the turn that has begun."""
        if self.absent:
            return
        try:
            taken = Turn(**self._hear(patience))
        except Absent as why:
            self._leave(f"in its turn: {why}")
            return
        self.seconds_a_step = taken.seconds / taken.steps
        self.turns.append(taken)

    @property
    def rate(self) -> float:
        """Samples a second, the median of all turns; 0 if there are none."""
        return statistics.median(self.rates or [0.0])

    @property
    def rates(self) -> list[float]:
        """Samples a second, of each turn."""
        return [self.spec.batch * turn.steps / turn.seconds for turn in self.turns]

    def stop(self) -> None:
        """End it, and whatever it has started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _leave(self, why: str) -> None:
        self.absent = why
        self.turns.clear()

    def _hear(self, patience: float) -> dict[str, Any]:
        """Return the next line.

        Raises:
            Absent: it has ended, or does not answer in time.
        """
        out = self._process.stdout
        assert out is not None
        seen, _, _ = select.select([out], [], [], patience)
        if not seen:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise Absent(f"no answer within {patience:.0f} s")
        line = out.readline()
        if not line:
            self._log.seek(0)
            raise Absent(_last_words(self._log.read()))
        return json.loads(line)


def _last_words(text: str) -> str:
    """The line of what a process left that says best why it ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    signs = ("error", "termination", "check failed")
    errors = [line for line in lines if any(sign in line.lower() for sign in signs)]
    return (errors or lines or ["it ended without a word"])[-1]
