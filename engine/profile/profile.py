"""What a profile says: the costs of tasks, and their sums by layer, by operation and by phase."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fml.engine.ir.graph import Phase
from fml.engine.ir.types import Element
from fml.engine.profile.machine import Machine

OUTSIDE = "(outside layers)"


@dataclass(frozen=True, slots=True)
class Part:
    """A node's part of a task.

    Attributes:
        layer, op, phase: what the costs are told by.
        share: of the task's time, as the roofline has it: in proportion to its operations at the
            machine's peak and its bytes at the rate of a copy.
        flops: its operations.
        nbytes: bytes that it reads from memory and writes there.
    """

    layer: str
    op: str
    phase: Phase
    share: float
    flops: int
    nbytes: float


@dataclass(frozen=True, slots=True)
class TaskCost:
    """What one task of a step costs.

    Attributes:
        name: its layer, its phase and its main operation, and how many there are besides.
        nodes: all its nodes, as `op f32[64, 10] of net.dense`.
        parts: of those nodes that cost something; their shares add up to 1.
        element: what its main operation computes in.
        seconds: within a step.
        alone: seconds when it is repeated by itself, and finds what it reads in the caches.
        flops: floating-point operations, by the formulae of its nodes' operations.
        nbytes: bytes of all that it reads, writes and needs meanwhile, each counted once.
        instances: how many learners have it; all that is told of it is their sum.
        is_native: whether it runs without Python; numpy computes it else.
        is_conditional: whether there are steps that leave it out; then it has no `flops` and
            `nbytes`, as nothing tells how often it ran.
    """

    name: str
    nodes: tuple[str, ...]
    parts: tuple[Part, ...]
    element: Element
    seconds: float
    alone: float
    flops: int
    nbytes: int
    instances: int = 1
    is_native: bool = True
    is_conditional: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """A row of a table: seconds of a step, operations and bytes, and the least time for these.

    `for_flops` and `for_bytes` are the seconds that the operations would take at the machine's
    peak, and the bytes at the rate of a plain copy; `least` is the greater of the two, task by
    task. The roofline of Williams, Waterman and Patterson (2009) says that nothing is faster.
    """

    seconds: float = 0.0
    flops: float = 0.0
    nbytes: float = 0.0
    least: float = 0.0
    for_flops: float = 0.0
    for_bytes: float = 0.0
    phases: Mapping[Phase, float] = field(default_factory=dict[Phase, float])

    @property
    def is_compute_bound(self) -> bool:
        """Whether arithmetic takes longer than moving the bytes, at best."""
        return self.for_flops >= self.for_bytes

    @property
    def of_peak(self) -> float:
        """The share of the nearer peak that is reached."""
        return self.least / self.seconds if self.seconds else 0.0

    def plus(self, task: "Cost", part: Part) -> "Cost":
        """This and a part of a task."""
        seconds = part.share * task.seconds
        return Cost(
            self.seconds + seconds,
            self.flops + part.flops,
            self.nbytes + part.nbytes,
            self.least + part.share * task.least,
            self.for_flops + _of(task.for_flops, part.flops, task.flops),
            self.for_bytes + _of(task.for_bytes, part.nbytes, task.nbytes),
            {**self.phases, part.phase: self.phases.get(part.phase, 0.0) + seconds},
        )


@dataclass(frozen=True, slots=True)
class Given:
    """What the runtime puts in place before each step: rows of data, counters, keys of draws."""

    name: str
    seconds: float
    nbytes: int


@dataclass(frozen=True, slots=True)
class MeasureCost:
    """What it takes to measure: `seconds` for `samples` of the `of` samples of a split."""

    name: str
    series: tuple[str, ...]
    seconds: float
    samples: int
    of: int

    @property
    def whole(self) -> float:
        """Seconds for the whole split, in proportion."""
        return self.seconds * self.of / self.samples


@dataclass(frozen=True, slots=True)
class Timeline:
    """Some real steps one after another, for `trace`; all times in seconds from the first on.

    Attributes:
        steps: the number of each step, and the times at which its things begin, and the end.
        python: from when to when Python chose the samples.
        given: names of the things that are given.
        calls: what is called then: a place among the profile's tasks, and the learner.
        figures: how many figures are taken at the end.
    """

    steps: tuple[tuple[int, tuple[float, ...]], ...]
    python: tuple[tuple[float, float], ...]
    given: tuple[str, ...]
    calls: tuple[tuple[int, int], ...]
    figures: int


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """Where the time of a step goes; printed, the tables of `fml profile`.

    Attributes:
        plan, device: what was measured, and by what.
        samples: in a step; 0 where nothing is fed.
        tasks: in the order of the step.
        given: what is put in place before them.
        figures: seconds of a step that its figures take to be kept.
        between: seconds of a step that are none of the above: the way from task to task.
        python: seconds of a step in Python, which chooses samples and fills tables.
        at_once: how many steps a native call takes; `python` is its time over all of them.
        steps: how many steps were measured.
        preparing: seconds to simplify, compile and plan all graphs of the run.
        notes: what should be known, a sentence each.
    """

    plan: str
    device: str
    samples: int
    tasks: tuple[TaskCost, ...]
    given: tuple[Given, ...]
    figures: float
    between: float
    python: float
    at_once: int
    steps: int
    preparing: float
    machine: Machine
    measures: tuple[MeasureCost, ...]
    timeline: Timeline
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Write all of it."""
        return self.text()

    def text(self, width: int | None = 80, top: int = 10) -> str:
        """Write the tables, with the `top` slowest tasks.

        Lines have at most `width` letters; without it, none is broken.
        """
        from fml.engine.profile.report import text

        return text(self, width, top)

    def trace(self) -> dict[str, object]:
        """Return some real steps in the format of Chrome's traces, for `json.dump`."""
        from fml.engine.profile.trace import trace

        return trace(self)

    def as_dict(self) -> dict[str, object]:
        """Return all but the timeline as numbers, names and lists, for `json.dump`."""
        from fml.engine.profile.numbers import as_dict

        return as_dict(self)

    @property
    def seconds(self) -> float:
        """Of one step, with all that belongs to it."""
        return self.native + self.python

    @property
    def native(self) -> float:
        """Seconds of one step without Python; they are the sum of its parts."""
        given = sum(one.seconds for one in self.given)
        return self.kernels + given + self.figures + self.between

    @property
    def kernels(self) -> float:
        """Seconds of one step in tasks."""
        return sum(task.seconds for task in self.tasks)

    def cost(self, task: TaskCost) -> Cost:
        """A task as a row."""
        for_flops = task.flops / self.machine.peak(task.element)
        # A learner finds in the caches what it has of its own.
        for_bytes = task.nbytes / self.machine.bandwidth(task.nbytes // task.instances)
        least = max(for_flops, for_bytes)
        return Cost(task.seconds, task.flops, task.nbytes, least, for_flops, for_bytes)

    @property
    def total(self) -> Cost:
        """All tasks together."""
        return self._sums(lambda part: "")[""] if self.tasks else Cost()

    @property
    def layers(self) -> dict[str, Cost]:
        """The costs by layer, in the order of the step; they add up to those of the tasks."""
        rows = self._sums(lambda part: part.layer)
        if OUTSIDE in rows:
            rows[OUTSIDE] = rows.pop(OUTSIDE)
        return rows

    @property
    def operations(self) -> dict[str, Cost]:
        """The costs by kind of operation, the greatest first."""
        rows = self._sums(lambda part: part.op)
        return dict(sorted(rows.items(), key=lambda row: -row[1].seconds))

    @property
    def phases(self) -> dict[Phase, Cost]:
        """The costs by what nodes are for, in the order of `Phase`."""
        rows = self._sums(lambda part: part.phase.value)
        return {phase: rows[phase.value] for phase in Phase if phase.value in rows}

    @property
    def slowest(self) -> list[TaskCost]:
        """The tasks, those that take most of a step first."""
        return sorted(self.tasks, key=lambda task: -task.seconds)

    def _sums(self, key: Callable[[Part], str]) -> dict[str, Cost]:
        rows: dict[str, Cost] = {}
        for task in self.tasks:
            cost = self.cost(task)
            for part in task.parts:
                row = rows.get(key(part), Cost())
                rows[key(part)] = row.plus(cost, part)
        return rows


def _of(amount: float, part: float, whole: float) -> float:
    return amount * part / whole if whole else 0.0


def shares(weights: Iterable[float]) -> list[float]:
    """What adds up to 1 in the proportion of weights; equal parts where all are 0."""
    weights = list(weights)
    total = sum(weights)
    return [w / total if total else 1 / len(weights) for w in weights]
