"""Tables of kernels, and how workers go through them together (`kernels/llvm/walk.py`)."""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fml.engine.backends.workers import workers
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.walk import ABANDON, CONTROL_WORDS, END, WORDS, walker
from fml.engine.ops.record import Array

Span = tuple[int, int]
"""Bytes of memory: the first, and the one behind the last."""


def spans(array: Array) -> Span:
    """The bytes of an array whose entries lie side by side."""
    start = array.ctypes.data
    return start, start + array.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What a table's entry says; called from Python, it is done at once.

    Attributes:
        function: address of what does it.
        operands: its words.
        reads: the memory that it reads, and `writes` that it writes.
        kept: what must stay in memory as long as it may be called.
        guard: address of a bool without which nothing is done, or 0.
        is_shared: workers share it; else the first of them does it.
    """

    function: int
    operands: tuple[int, ...]
    reads: tuple[Span, ...]
    writes: tuple[Span, ...]
    kept: tuple[object, ...]
    guard: int = 0
    is_shared: bool = False

    def conflicts(self, other: "Entry") -> bool:
        """Whether one writes what the other touches."""
        return (
            _overlap(self.writes, other.writes)
            or _overlap(self.writes, other.reads)
            or _overlap(self.reads, other.writes)
        )

    def __call__(self) -> None:
        """Do it."""
        Table((self,)).run(1)


def _overlap(some: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(a < d and c < b for a, b in some for c, d in others)


class Table:
    """Entries that are done in their order, and repeated.

    The bits do not depend on the number of workers, so the faster number is used: it is found out
    on the way.
    """

    def __init__(self, entries: Sequence[Entry], cores: int = 1) -> None:
        self._entries = tuple(entries)
        meets = meetings(self._entries)
        rows = [words_of(e, m) for e, m in zip(self._entries, meets, strict=True)]
        self._words = np.array(rows, np.int64).reshape(len(rows), WORDS)
        self._trial = _Trial(self._entries, cores)
        self._control = np.zeros(CONTROL_WORDS, np.int64)
        # Asked for once: numpy takes a microsecond for an address.
        self._places = self._words.ctypes.data, self._control.ctypes.data

    def run(self, iterations: int) -> int:
        """Carry out iterations without Python; return how many.

        Raises:
            BaseException: what a signal's handler raises meanwhile; the last iteration may then
                have been abandoned half-way.
        """
        count, most = self._trial.count, workers().count
        if count > most:  # this process was forked, and may use fewer cores than its parent
            return self.walk(iterations, most)
        begun = time.perf_counter()
        done = self.walk(iterations, count)
        self._trial.took(count, (time.perf_counter() - begun) / max(done, 1))
        return done

    def walk(self, iterations: int, count: int) -> int:
        """Carry out iterations with so many workers; return how many."""
        (table, place), length, walk = self._places, len(self._entries), _walk()

        def abandon() -> None:
            self._control[0] = ABANDON

        try:
            return workers().run(
                lambda worker: walk(table, length, iterations, place, worker, count), count, abandon
            )
        finally:
            self._control[:] = 0

    def end(self) -> None:
        """Let the iteration under way, or the next, be the last of its call."""
        self._control[0] = END


def words_of(entry: Entry, third: int) -> list[int]:
    """The words of an entry, one of which a walk has for itself (`kernels/llvm/walk.py`)."""
    words = [entry.function, entry.guard, third, *entry.operands]
    return words + [0] * (WORDS - len(words))


def meetings(entries: Sequence[Entry]) -> list[bool]:
    """Behind which entries all workers must meet, for each to find what others have written.

    Entries that the first worker does alone need not wait for each other.
    """
    found = [False] * len(entries)
    since: list[Entry] = []
    for place, entry in enumerate(entries):
        together = (other for other in since if entry.is_shared or other.is_shared)
        if any(entry.conflicts(other) for other in together):
            found[place - 1] = True
            since = []
        since.append(entry)
    return found


# Each number of workers is tried so often before one is chosen.
_TRIALS = 4


@dataclass(slots=True)
class _Trial:
    """Finds out with how many workers a table is done fastest."""

    entries: Sequence[Entry]
    cores: int
    _seconds: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    _chosen: int | None = None

    def __post_init__(self) -> None:
        most = self.cores if any(entry.is_shared for entry in self.entries) else 1
        self._seconds = {1: [], most: []}
        if most == 1:
            self._chosen = 1

    @property
    def count(self) -> int:
        """How many workers are to be used now."""
        if self._chosen is not None:
            return self._chosen
        return min(self._seconds, key=lambda count: len(self._seconds[count]))

    def took(self, count: int, seconds: float) -> None:
        """An iteration by so many workers has taken so long."""
        if self._chosen is not None:
            return
        self._seconds[count].append(seconds)
        if all(len(taken) >= _TRIALS for taken in self._seconds.values()):
            self._chosen = min(self._seconds, key=lambda count: min(self._seconds[count]))


@cache
def _walk() -> Callable[[int, int, int, int, int, int], int]:
    words = [ctypes.c_void_p, *([ctypes.c_int64] * 2), ctypes.c_void_p, *([ctypes.c_int64] * 2)]
    return ctypes.CFUNCTYPE(ctypes.c_int64, *words)(walker(Host.native()))
