"""What the language hands to the engine: graphs, their variables, and when they run.

Everything here is data. The graphs of one `Training` share variables by name: a graph reads
one with a `variable` node (its value when the graph starts) and changes it with `assign`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph
from fml.engine.ir.source import Span
from fml.engine.ir.types import TensorType


class Role(Enum):
    """What a variable is for."""

    PARAM = "param"  # trained, or `where frozen`
    STATE = "state"  # a layer's or a plan's `state`
    SLOT = "slot"  # an optimizer's `state`, which stays with its learner
    DELAY = "delay"  # what `previous(e)` remembers
    STATISTIC = "statistic"  # a figure of the training data, such as `standardize`'s mean


@dataclass(frozen=True, slots=True)
class Variable:
    """A value that outlives an iteration.

    `name` is its readable path (`net.dense_0.W`); `mapped` means one per learner. Its first
    value is the output of that name in `Training.init`. `replica_of` names the central variable
    that a learner's copy starts from.
    """

    name: str
    type: TensorType
    role: Role
    trained: bool = False
    mapped: bool = False
    replica_of: str | None = None
    span: Span | None = None

    @property
    def is_of_model(self) -> bool:
        """Whether it is saved with a model: a parameter, a layer's state, no learner's own."""
        return not self.mapped and self.role in {Role.PARAM, Role.STATE}


# Epochs are quotients of steps: a tenth epoch may be over at 9.999999999.
TOLERANCE = 1e-9


class Unit(Enum):
    """Units of durations."""

    STEPS = "steps"
    EPOCHS = "epochs"
    SAMPLES = "samples"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class Duration:
    """An amount of a unit: `5 epochs`. Minutes and hours are kept as seconds."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        unit = self.unit.value[:-1] if self.amount == 1 else self.unit.value
        return f"{self.amount:g} {unit}"


def duration_of(attributes: Mapping[str, object]) -> Duration:
    """Return the duration of a `fires` node, by its attributes."""
    amount = attributes["amount"]
    assert isinstance(amount, int | float)
    return Duration(float(amount), Unit(attributes["unit"]))


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a `split`: a count of samples or a share of them, cut `source` by source."""

    name: str
    amount: float
    is_share: bool
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """How a data set is cut: `method` is `random`, `stratified` or `given_order`.

    `of` is the split of the source that is cut (`train` of `... from train`), or None for all of
    it; `by` is the label field that is kept in proportion.
    """

    parts: tuple[Part, ...]
    of: str | None = None
    method: str = "given_order"
    by: str | None = None
    seed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The sizes of the parts that have one whatever the data: where there are shares, the first
        part gets what is left.
        """
        first_takes_the_rest = any(part.is_share for part in self.parts)
        sized = self.parts[1:] if first_takes_the_rest else self.parts
        return {part.name: int(part.amount) for part in sized if not part.is_share}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a data set: its name and the type of one sample.

    `text_column` names the column whose sorted distinct values are the classes of a label.
    """

    name: str
    type: TensorType
    text_column: str | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Statistic:
    """A variable to be set from the training samples before anything else runs.

    `figure` is `mean` or `std`, over the samples, of the output `of` of `Dataset.graph`.
    They are set in order: a later one may depend on an earlier one.
    """

    variable: str
    of: str
    figure: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A `data` declaration.

    `source` is the kind (`csv`, `given`), `arguments` its own by name (path, header), or by place,
    counted from 0. `graph` turns `column` nodes (attribute `name`: a str, or an int for a place)
    into the outputs named like the fields, with the leading dimension `N`, the number of samples;
    `given` data have columns named like their fields.
    """

    name: str
    source: str
    arguments: Mapping[str | int, object]
    fields: tuple[Field, ...]
    graph: Graph
    split: Split | None = None
    statistics: tuple[Statistic, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """Mini-batches: `batch` samples of a split per learner, `None` for all of it in one batch.

    `dim` is the name that the graphs give to the number of samples in a batch. If it
    `is_of_learners`, each of them draws batches of its own; else all see the same one.
    """

    data: str
    split: str
    fields: tuple[str, ...]
    batch: int | None
    shuffle: bool
    dim: str = "N"
    span: Span | None = None
    is_of_learners: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """A figure that is recorded: its name (`valid.accuracy`) and the graph output it is."""

    name: str
    output: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Outputs of `graph`, computed on a whole split as if it were one batch.

    `every` is None for `at end` only; all are taken at the end as well. One that is `optional` is
    left out where the data have no such split. `remembers` has the variables of `previous`, and
    the output that each is set to when the iteration is over; at the end they are as at first.
    """

    data: str
    split: str
    graph: Graph
    series: tuple[Series, ...]
    every: Duration | None
    dim: str = "N"
    optional: bool = False
    span: Span | None = None
    remembers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Log:
    """An extra series, every so often: an output of `graph`, or of the step where it is None.

    `remembers` is as in `Measure`; a log of the step remembers in the step's graph.
    """

    series: Series
    graph: Graph | None
    every: Duration
    remembers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StopAfter:
    """`stop after 100 epochs`."""

    duration: Duration
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class StopWhen:
    """`stop when valid.accuracy >= 99%`: `graph` has one output, `condition`.

    Series are `series` nodes (attribute `name`) of the graph; false until all are measured.
    `remembers` is as in `Measure`.
    """

    graph: Graph
    text: str
    span: Span | None = None
    remembers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StopPatience:
    """`stop when valid.loss stops falling for 8 epochs`: no strictly better value within it."""

    series: str
    falling: bool
    within: Duration
    span: Span | None = None


Stop: TypeAlias = StopAfter | StopWhen | StopPatience


@dataclass(frozen=True, slots=True)
class Keep:
    """`keep highest valid.accuracy`: the parameters the run ends with; ties keep the first."""

    series: str
    highest: bool
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Learners:
    """The axis `learners`: `per_device` learners on each of `devices` (None: what there is)."""

    per_device: int | None
    devices: str | None = None
    staleness: int | None = 0
    span: Span | None = None

    def __str__(self) -> str:
        """Return `learners × 4`, and what else the block says."""
        count = "auto" if self.per_device is None else str(self.per_device)
        on = f" per device on {self.devices}" if self.devices else ""
        if self.staleness == 0:
            return f"learners × {count}{on}"
        steps = "unbounded" if self.staleness is None else str(self.staleness)
        return f"learners × {count}{on}, staleness {steps}"


@dataclass(frozen=True, slots=True)
class Draws:
    """What a plan draws from data sets, and for whom."""

    feeds: tuple[Feed, ...]
    measures: tuple[Measure, ...]
    learners: Learners | None


@dataclass(frozen=True, slots=True)
class Model:
    """An instance of a `model` declaration in the plan, for predicting and exporting.

    `graph` computes output `result` from `argument` nodes (attribute `name`) with `training`
    false; `inputs` are the argument names with their types. `fed` names the field of the
    plan's feed that each argument is given, where that is known.
    """

    name: str
    graph: Graph
    inputs: Mapping[str, TensorType]
    result: TensorType
    fed: Mapping[str, str]
    variables: tuple[str, ...]
    label_field: str | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """A lowered plan.

    `init` computes every variable's first value (outputs named like the variables); `step` is one
    iteration, the plan-level `every` and `when` blocks included as guarded nodes. Outputs of
    `step` named in `train_series` are averaged over an epoch into series of that name.
    `seed` is the plan's; `steps_per_epoch`, `samples_per_step` and `learners` are dimensions.
    `averaged` gives the central models the mean of their replicas' layer states; it is carried out
    before anything is measured or saved.
    """

    name: str
    variables: Mapping[str, Variable]
    datasets: Mapping[str, Dataset]
    init: Graph
    step: Graph
    feeds: tuple[Feed, ...]
    train_series: tuple[Series, ...] = ()
    measures: tuple[Measure, ...] = ()
    logs: tuple[Log, ...] = ()
    stops: tuple[Stop, ...] = ()
    keep: Keep | None = None
    seed: int = 0
    learners: Learners | None = None
    models: tuple[Model, ...] = ()
    averaged: Graph | None = None

    @property
    def durations(self) -> tuple[Duration, ...]:
        """After each of which something is looked at: a figure, a log, an end."""
        every = [m.every for m in self.measures if m.every is not None]
        every += [log.every for log in self.logs]
        return (*every, *(s.duration for s in self.stops if isinstance(s, StopAfter)))

    @property
    def reads_every_step(self) -> bool:
        """Whether a condition to stop may become true at any step, and not with a figure alone."""
        own = (node for s in self.stops if isinstance(s, StopWhen) for node in s.graph)
        return any(node.op in {"counter", "variable", "fires"} for node in own)


STEPS_PER_EPOCH = Dim.of("steps_per_epoch")
SAMPLES_PER_STEP = Dim.of("samples_per_step")
LEARNERS = Dim.of("learners")
DEVICES = Dim.of("devices")
