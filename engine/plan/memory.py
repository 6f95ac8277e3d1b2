"""Where every value lives: one arena, planned before anything runs.

Greedy by size (Pisarchyk and Lee 2020, algorithm 3): the largest buffer first, each into the
tightest gap between those that live at the same time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

ALIGNMENT = 64

Key = TypeVar("Key", bound=Any)  # can be compared and hashed


@dataclass(frozen=True, slots=True)
class Buffer(Generic[Key]):
    """A value that needs `nbytes` from step `first` to step `last`, both included."""

    key: Key
    nbytes: int
    first: int
    last: int

    def lives_with(self: "Buffer[Any]", other: "Buffer[Any]") -> bool:
        """Whether there is a step at which both live, the steps being run one by one."""
        return self.first <= other.last and other.first <= self.last


Clash: TypeAlias = Callable[[Buffer[Any], Buffer[Any]], bool]


@dataclass(frozen=True, slots=True)
class Arena(Generic[Key]):
    """Offsets by key; `nbytes` is the arena's size, `peak` the most that lives at one step.

    The peak is that of the steps run one by one.
    """

    offsets: dict[Key, int]
    nbytes: int
    peak: int


def plan_arena(buffers: Sequence[Buffer[Key]], clash: Clash = Buffer.lives_with) -> Arena[Key]:
    """Place buffers so that no two overlap that clash.

    On one stream those clash that live at the same step. On several they do unless every use of
    one happens before the other is made: steps that are far apart in the order of issue may still
    run side by side.
    """
    placed: list[tuple[int, Buffer[Key]]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first, b.key)):
        beside = sorted(
            (offset, offset + aligned(other.nbytes))
            for offset, other in placed
            if clash(other, buffer) and other.nbytes
        )
        placed.append((_tightest_gap(beside, aligned(buffer.nbytes)), buffer))
    total = max((offset + aligned(b.nbytes) for offset, b in placed), default=0)
    return Arena({b.key: offset for offset, b in placed}, total, _peak(buffers))


def _tightest_gap(taken: Iterable[tuple[int, int]], nbytes: int) -> int:
    """The start of the smallest gap that is large enough; behind everything if there is none."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in taken:
        gap = start - end
        if gap >= nbytes and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, stop)
    return end if best is None else best[1]


def _peak(buffers: Sequence[Buffer[Any]]) -> int:
    changes: dict[int, int] = {}
    for buffer in buffers:
        size = aligned(buffer.nbytes)
        changes[buffer.first] = changes.get(buffer.first, 0) + size
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - size
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most


def aligned(nbytes: int) -> int:
    """Round up to whole cache lines."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
