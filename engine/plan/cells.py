"""Which tasks touch the same bytes: memory is cut into cells wherever a region begins or ends.

Learners' regions lie in stacks: shares of one stride side by side, one for each learner. Two
learners never meet in a stack; who does is a task that touches it as a whole, or in part. Such
tasks may tell learners apart (those of one device from those of another), so a stack is looked at
for the first of all learners that none of them tells apart. The cost does not grow with learners.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from fml.engine.plan.task import Region, Space, Task

Touched: TypeAlias = dict[int, bool]


class ClashError(Exception):
    """Learners touch the same bytes, and nothing says in what order: a bug in fml."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The cells that a task touches, and whether each learner's are its own.

    Where a task touches a cell in two ways, it is not its own. Cells that nobody writes are left
    out, and `reads` are those that are not among `writes`.
    """

    reads: Touched
    writes: Touched


@dataclass(slots=True)
class _Stack:
    """Shares from `start` on: the first learner's ends before `end`."""

    start: int
    end: int
    stride: int
    learners: int
    told_apart: set[int] = field(default_factory=lambda: {0})

    @property
    def stop(self) -> int:
        """The end of the last share."""
        return self.end + (self.learners - 1) * self.stride

    def cut(self, begin: int, end: int) -> None:
        """Tell apart the learners of whose shares bytes `begin` to `end` hold less or more."""
        for place in (begin - self.start, end - self.start):
            share, rest = divmod(place, self.stride)
            self.told_apart |= {share, share + 1} if rest else {share}

    def stand_ins(self) -> list[int]:
        """Those who stand for all that nobody tells from them."""
        return sorted(self.told_apart & set(range(self.learners)))


def touches(tasks: Sequence[Task], learners: int) -> list[Touch]:
    """Return what each task touches.

    Raises:
        ClashError: learners' regions do not lie in their strides.
    """
    cells = _Cells(tasks, learners)
    written: set[int] = set()
    for task in tasks:
        for region in task.changed:
            written.update(cells.of(region, task.mapped))
    found: list[Touch] = []
    for task in tasks:
        writes = cells.all_of(task.changed, task.mapped, written)
        reads = cells.all_of(task.touched, task.mapped, written)
        for cell in writes.keys() & reads.keys():
            writes[cell] = reads.pop(cell) and writes[cell]
        found.append(Touch(reads, writes))
    return found


class _Cells:
    def __init__(self, tasks: Sequence[Task], learners: int) -> None:
        of_learners: set[Region] = set()
        of_all: set[Region] = set()
        for task in tasks:
            for region in (*task.touched, *task.changed):
                if region.nbytes:
                    is_own = task.mapped and region.stride and learners > 1
                    (of_learners if is_own else of_all).add(region)
        self._learners = learners
        self._stacks = {
            space: _stacks([r for r in of_learners if r.space is space], learners)
            for space in Space
        }
        for region in of_all:
            for stack in self._stacks_at(region):
                stack.cut(region.offset, region.offset + region.nbytes)
        bounds: dict[Space, set[int]] = defaultdict(set)
        for region in of_all:
            bounds[region.space] |= {region.offset, region.offset + region.nbytes}
        for region in of_learners:
            for share in self._shares(region):
                bounds[share.space] |= {share.offset, share.offset + share.nbytes}
        self._bounds = {space: sorted(places) for space, places in bounds.items()}
        self._first: dict[Space, int] = {}
        count = 0
        for space, places in self._bounds.items():
            self._first[space] = count
            count += len(places)
        self._known: dict[tuple[Region, bool], list[int]] = {}

    def all_of(self, regions: Iterable[Region], mapped: bool, among: set[int]) -> Touched:
        touched: Touched = {}
        for region in regions:
            is_own = bool(region.stride)
            for cell in self.of(region, mapped):
                if cell in among:
                    touched[cell] = is_own and touched.get(cell, True)
        return touched

    def of(self, region: Region, mapped: bool) -> list[int]:
        known = self._known.get((region, mapped))
        if known is None:
            known = self._known[region, mapped] = self._cut(region, mapped)
        return known

    def _cut(self, region: Region, mapped: bool) -> list[int]:
        if not region.nbytes:
            return []
        is_own = mapped and region.stride and self._learners > 1
        bounds, first = self._bounds[region.space], self._first[region.space]
        cells: list[int] = []
        for share in self._shares(region) if is_own else [region]:
            begin = bisect_left(bounds, share.offset)
            end = bisect_left(bounds, share.offset + share.nbytes, begin)
            cells += range(first + begin, first + end)
        return cells

    def _shares(self, region: Region) -> list[Region]:
        stack = next(iter(self._stacks_at(region)))
        return [region.of(learner) for learner in stack.stand_ins()]

    def _stacks_at(self, region: Region) -> list[_Stack]:
        stacks = self._stacks[region.space]
        begin = bisect_right(stacks, region.offset, key=lambda stack: stack.stop)
        end = bisect_left(stacks, region.offset + region.nbytes, key=lambda stack: stack.start)
        return stacks[begin:end]


def _stacks(regions: list[Region], learners: int) -> list[_Stack]:
    """Return the stacks of one space, in the order of their places."""
    stacks: list[_Stack] = []
    by_stride: dict[int, _Stack] = {}
    for region in sorted(regions, key=lambda region: region.offset):
        end = region.offset + region.nbytes
        stack = by_stride.get(region.stride)
        if stack is None or region.offset >= stack.start + region.stride:
            stack = _Stack(region.offset, end, region.stride, learners)
            stacks.append(stack)
            by_stride[region.stride] = stack
        stack.end = max(stack.end, end)
        if stack.end > stack.start + stack.stride:
            raise ClashError(
                f"{region.nbytes} bytes of the {region.space.value} at {region.offset} reach into "
                f"the next learner's, {region.stride} bytes further"
            )
    for one, other in pairwise(stacks):
        if one.stop > other.start:
            raise ClashError(
                f"learners' bytes at {one.start}, {one.stride} apart, and at {other.start}, "
                f"{other.stride} apart, lie in each other"
            )
    return stacks
