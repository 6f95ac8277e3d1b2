"""Several steps in a row: what each of them is given, and what it leaves, in tables.

A backend repeats the step without Python; here are the batches, the counters and the keys of random
draws of so many steps, made at once, and the figures that they leave.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fml.engine.backends.interface import (
    Backend,
    Clock,
    Gathered,
    Given,
    LaunchError,
    Loop,
    Taken,
    Trace,
    View,
)
from fml.engine.ir.types import Element, TensorType
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.runtime.faults import StepRaised
from fml.engine.runtime.feeding import Batches, Samples, Selection
from fml.engine.runtime.section import Moment, Section

# Tables of batches take at most so many bytes.
TABLE_BYTES = 1 << 20
# Arrays of at most so many bytes are converted as a whole, larger ones batch by batch.
CONVERTED_BYTES = 1 << 26
# A table of times takes at most so many bytes.
TRACE_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class Times:
    """When each thing of some steps was done, and by whom.

    Attributes:
        seconds: f64[steps, things, 2], when it began and ended, from some moment on. Things are
            those of `Executable.issued_keys`; with one stream, what is given and taken too, before
            and behind the tasks.
        workers: i64[steps, things].
    """

    seconds: Array
    workers: Array


class Steps:
    """The steps of a run, some at a time.

    Attributes:
        most: how many can be taken at a time.
        figures: what the latest steps left, by output: entry i is that of the i-th of them.
    """

    def __init__(
        self,
        section: Section,
        feeds: Sequence[Batches],
        backend: Backend,
        series: Mapping[str, bool],
    ) -> None:
        """`series` are scalar outputs, and whether the steps end where one is not finite."""
        self.section = section
        self._feeds, self._backend, self._series = feeds, backend, series
        rows = max((batches.size for batches in feeds), default=1)
        most = min(backend.steps_at_once, max(1, TABLE_BYTES // (8 * rows)))
        self.most = 1 if section.depends_on_seconds or self._converts_late() else most
        self.figures: dict[str, Array] = {}
        self._made: Loop | None = None
        self._first = 0  # the first step of those that the tables are filled for

    def like(self, section: Section, backend: Backend) -> "Steps":
        """The same steps by another backend."""
        return Steps(section, self._feeds, backend, self._series)

    def run(self, moment: Moment, seconds_before: float, count: int) -> int:
        """Take `count` steps; return how many were taken: fewer if one gave no finite figure.

        Raises:
            StepRaised: an operation did; the steps before have been taken, and a part of its own.
        """
        self.fill(moment, seconds_before, count)
        return self.take(count)

    def fill(self, moment: Moment, seconds_before: float, count: int) -> None:
        """Make the tables of `count` steps.

        Raises:
            StepRaised: data that are read from a file now are not there.
        """
        self._first = moment.step
        steps = moment.step + np.arange(count)
        for (number, learner), table in self._counted.items():
            here = replace(moment, learner=learner)
            table.fill(self.section.counted(number, here, steps, seconds_before), count)
        try:
            self._rows.fill(moment.step, count)
        except LaunchError as fault:
            raise self._said_of(fault) from fault

    def take(self, count: int) -> int:
        """Take the steps that `fill` has made ready; return as `run` does."""
        return self._run(self._loop, count)

    def _run(self, loop: Loop, count: int) -> int:
        self._made = loop
        try:
            with np.errstate(all="ignore"):
                return loop.run(count)
        except LaunchError as fault:
            raise self._said_of(fault) from fault

    def take_timed(self, count: int) -> Array:
        """Take steps as `take` does, with a look at the clock before each thing that they do.

        Return when each thing began, and the end: f64[steps, things + 1], in seconds from the
        beginning on. Things are what is given (`given_to`), the tasks, and the figures taken.
        """
        loop, ticks = self._timed_loop
        begun = time.perf_counter()
        taken = self._run(loop, count)
        seconds = time.perf_counter() - begun
        first, last = ticks[0, 0], ticks[taken - 1, -1]
        return (ticks[:taken] - first) * (seconds / max(float(last - first), 1.0))

    def take_traced(self, count: int) -> Times:
        """Take at most `most_traced` steps as `take` does, and look at the clock all along."""
        if self.section.executable.plan.streams.count == 1:
            looks = self.take_timed(count)
            seconds = np.stack([looks[:, :-1], looks[:, 1:]], axis=-1)
            return Times(seconds, np.zeros(seconds.shape[:2], np.int64))
        loop, rows = self._traced_loop
        begun = time.perf_counter()
        taken = self._run(loop, count)
        elapsed, ticks = time.perf_counter() - begun, rows[:taken, :, :2]
        # Iterations run on: what is begun behind the last one is not counted.
        first, last = int(ticks[..., 0].min()), int(ticks[..., 1].max())
        return Times((ticks - first) * (elapsed / max(last - first, 1)), rows[:taken, :, 2].copy())

    @property
    def most_traced(self) -> int:
        """How many steps can be taken at a time if all that they do is timed."""
        things = len(self.section.executable.issued_keys)
        return min(self.most, max(1, TRACE_BYTES // (24 * max(things, 1))))

    @property
    def given_to(self) -> tuple[int, ...]:
        """The nodes that are given something before each step, in order; of learners, for each."""
        return tuple(number for number, _ in self._given)

    def end(self) -> None:
        """Let the step under way be the last of those that are taken together.

        A signal's handler may call this at any moment, while the loop is being made as well: it
        must not make it, which would wait for locks that are held already. The first call is short.
        """
        if self._made is not None:
            self._made.end()

    def provide(self, moment: Moment, seconds_before: float) -> None:
        """Give the step what it needs, and do not take it."""
        self.fill(moment, seconds_before, 1)
        self._giving.run(1)

    def _said_of(self, fault: LaunchError) -> StepRaised:
        """Say of what raised in which step it did, which node it is, and whose."""
        node, own = self.section.executable.computed_by(fault.thing)
        for (number, learner), given in self._given.items():
            if given is fault.thing:
                node = self.section.graph[number]
                own = learner if node.mapped else None
        return StepRaised(fault.__cause__, node, own, self._first + fault.iteration)

    def _converts_late(self) -> bool:
        return any(
            _is_late(batches.fields[name], self.section.graph[number].type)
            for batches in self._feeds
            for number, data, name in self.section.fed
            if data == batches.feed.data and name in batches.fields
        )

    # --- what is made once ----------------------------------------------------------------------

    @cached_property
    def _loop(self) -> Loop:
        executable = self.section.executable
        streams = executable.plan.streams
        with np.errstate(all="ignore"):  # constants are written that may overflow
            if streams.count == 1:
                return self._backend.loop(
                    executable.calls, [*self._given.values()], [*self._taken.values()]
                )
            return self._backend.capture(
                executable.issues(self._given, self._taken), streams.devices_of_streams()
            )

    @cached_property
    def _timed_loop(self) -> tuple[Loop, Array]:
        calls = self.section.executable.calls
        given, taken = [*self._given.values()], [*self._taken.values()]
        ticks = np.zeros((self.most, len(given) + len(calls) + len(taken) + 1), np.int64)
        return self._backend.loop(calls, given, taken, Clock(ticks)), ticks

    @cached_property
    def _traced_loop(self) -> tuple[Loop, Array]:
        executable = self.section.executable
        issues = executable.issues(self._given, self._taken)
        rows = np.zeros((self.most_traced, len(issues), 3), np.int64)
        devices = executable.plan.streams.devices_of_streams()
        return self._backend.capture(issues, devices, Trace(rows)), rows

    @cached_property
    def _taken(self) -> dict[tuple[int, int], Taken]:
        """What is taken of each output's node, and of each learner."""
        taken: dict[tuple[int, int], Taken] = {}
        graph = self.section.graph
        names: dict[int, list[str]] = {}  # a node may be several outputs, and is taken once
        for name in self._series:
            names.setdefault(graph.outputs[name], []).append(name)
        for number, same in names.items():
            views, node = self.section.executable.outputs[same[0]], graph[number]
            ends = any(self._series[name] for name in same)
            tables = np.zeros((len(views), self.most, *node.type.sizes), node.type.dtype)
            figures = np.moveaxis(tables, 0, 1) if node.mapped else tables[0]
            self.figures |= dict.fromkeys(same, figures)
            for learner, (view, table) in enumerate(zip(views, tables, strict=True)):
                taken[node.id, learner] = Taken(view, table, ends)
        return taken

    @cached_property
    def _giving(self) -> Loop:
        return self._backend.loop((), [*self._given.values()])

    @cached_property
    def _given(self) -> dict[tuple[int, int], Given | Gathered]:
        """What each node is given, and each learner."""
        return {**{key: table.given for key, table in self._counted.items()}, **self._rows.given}

    @cached_property
    def _counted(self) -> "dict[tuple[int, int], _Table]":
        """Tables of what depends on the number of the step alone, by node and learner."""
        executable = self.section.executable
        graph = self.section.graph
        return {
            (number, learner): _Table(view, graph[number].type, self.most)
            for number in self.section.counts
            for learner, view in enumerate(executable.inputs[number])
        }

    @cached_property
    def _rows(self) -> "_Rows":
        return _Rows(self.section, self._feeds, self.most)


class _Table:
    """Values of one input, an entry for each step."""

    def __init__(self, view: View, type: TensorType, most: int) -> None:
        self._type = type
        self._table = np.zeros((most, *type.sizes), type.dtype)
        self.given = Given(view, self._table)

    def fill(self, values: Array, count: int) -> None:
        self._table[:count] = stored(values, self._type)


class _Rows:
    """The batches of all feeds: rows of the arrays where the samples lie."""

    def __init__(self, section: Section, feeds: Sequence[Batches], most: int) -> None:
        self.given: dict[tuple[int, int], Given | Gathered] = {}
        self._feeds = feeds
        # A feed, the learner, its rows, the table.
        self._orders: list[tuple[Batches, int, Array | None, Array]] = []
        self._late: list[tuple[Batches, int, Samples, _Table]] = []
        of = {(batches.feed.data, name): batches for batches in feeds for name in batches.fields}
        for number, data, field in section.fed:
            batches = of[data, field]
            samples, type = batches.fields[field], section.graph[number].type
            if _is_late(samples, type):
                for learner, view in enumerate(section.executable.inputs[number]):
                    late = _Table(view, type, most)
                    self._late.append((batches, learner, samples, late))
                    self.given[number, learner] = late.given
                continue
            array = samples.array if isinstance(samples, Selection) else samples
            if not _is_stored_as(array, type):
                array = np.ascontiguousarray(stored(array, type))
            chosen = samples.rows if isinstance(samples, Selection) else None
            for learner, view in enumerate(section.executable.inputs[number]):
                order = self._order(batches, learner, chosen, most)
                self.given[number, learner] = Gathered(view, array, order)

    def _order(self, batches: Batches, learner: int, chosen: Array | None, most: int) -> Array:
        """The table of row numbers, one for all fields whose samples are the same rows."""
        for known, who, rows, table in self._orders:
            if known is batches and who == learner and rows is chosen:
                return table
        table = np.zeros((most, batches.size), np.int64)
        self._orders.append((batches, learner, chosen, table))
        return table

    def fill(self, step: int, count: int) -> None:
        """Choose the samples of `count` steps: once for all learners and fields of a feed."""
        every = {batches: batches.rows(step, count) for batches in self._feeds}
        for batches, learner, chosen, table in self._orders:
            rows = batches.own(every[batches], learner)
            table[:count] = rows if chosen is None else chosen[rows]
        for batches, learner, samples, late in self._late:
            rows = batches.own(every[batches], learner)
            try:
                late.fill(np.asarray(samples[rows.reshape(-1)]), count)
            except Exception as cause:
                raise LaunchError(late.given, 0) from cause


def _is_late(samples: Samples, type: TensorType) -> bool:
    """Whether samples are too large to be converted before they are asked for."""
    array = samples.array if isinstance(samples, Selection) else samples
    return not _is_stored_as(array, type) and array.nbytes > CONVERTED_BYTES


def _is_stored_as(array: Array, type: TensorType) -> bool:
    """Whether an array's rows are in memory as a tensor's are."""
    is_rounded = type.element is not Element.BF16
    return array.dtype == type.dtype and array.flags.c_contiguous and is_rounded
