"""What an expression can be: static values, tensors of the graph, and the things that are applied.

Static numbers, strings, booleans, lists (tuples), durations, dimensions and elements are plain
Python values; everything else is one of the classes below.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, Union

from fml.dsl import ast
from fml.engine.ir.dims import Dim
from fml.engine.ir.source import Span
from fml.engine.ir.training import Duration, Variable
from fml.engine.ir.types import Element, TensorType
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.modules import Module
    from fml.dsl.scope import Scope


@dataclass(frozen=True, slots=True)
class Poison:
    """Stands for a value that could not be made; an error has been reported, or none can be."""


POISON = Poison()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A static value that is not known while a declaration is checked on its own."""

    name: str = ""


class Size(int):
    """The size of a dimension, which remembers its name so that `over = K` finds the axis."""

    name: str

    def __new__(cls, value: int, name: str) -> "Size":
        """Make the whole number `value` that is called `name`."""
        made = super().__new__(cls, value)
        made.name = name
        return made


@dataclass(frozen=True, slots=True)
class RangeOf:
    """`a .. b`, both ends included; behind `in` also without an upper end, or without an end."""

    low: int | float
    high: int | float
    above: bool = False  # without `low` itself: `a <.. b`
    below: bool = False  # without `high` itself: `a ..< b`

    def __contains__(self, value: float) -> bool:
        """Whether a number lies within."""
        low = self.low < value if self.above else self.low <= value
        return low and (value < self.high if self.below else value <= self.high)

    @property
    def words(self) -> str:
        """Say it in words: `at least 0 and less than 1`."""
        said = f"{'more than' if self.above else 'at least'} {self.low}"
        if math.isinf(self.high):
            return said
        return f"{said} and {'less than' if self.below else 'at most'} {self.high}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A node of the graph that is being made."""

    value: Value

    @property
    def type(self) -> TensorType:
        """Its type."""
        return self.value.type


@dataclass(frozen=True, slots=True)
class Tree:
    """Tensors by path: parameters of an instance, gradients, and what is computed of them."""

    items: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """A variable that `<-` can change, with the constraint that every stored value obeys."""

    variable: Variable
    constraint: "Closure | None" = None

    @property
    def name(self) -> str:
        """Its path."""
        return self.variable.name


@dataclass(frozen=True, slots=True)
class PlaceTree:
    """`state v: z ~ zeros`: a place for every leaf of z, by the leaf's path."""

    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Closure:
    """An expression and the names that it is read with."""

    expression: ast.Expression
    scope: "Scope"


@dataclass(slots=True)
class Cell:
    """A name that `<-` rebinds without being a variable: the gradient inside an `each`."""

    value: "Any_"


@dataclass(slots=True)
class Master(Cell):
    """A 16-bit parameter inside an `each`: its value in f32, as updates are computed.

    `kept` is the slot that keeps what was stored before it was rounded; None where nothing is.
    """

    place: Place
    kept: Place | None


@dataclass(slots=True, eq=False)
class Instance:
    """A layer value: owns its parameters, which come to be when it is first applied.

    `children` are the layer values that its body makes, by the place that makes them, so that
    applying it twice shares them. A `replica` has its own parameters and a `central` instance,
    among whose `replicas` it is: what comes to be in one comes to be in all.
    """

    layer: "LayerFactory | None"
    attributes: Mapping[str, "Any_"]
    parent: "Instance | None"
    name: str
    span: Span | None = None
    central: "Instance | None" = None
    mapped: bool = False
    children: "dict[object, Instance]" = field(default_factory=dict[object, "Instance"])
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    replicas: "list[Instance]" = field(default_factory=list["Instance"])
    path: str = field(init=False)

    def __post_init__(self) -> None:
        """Note the readable path: the names from the plan down to here."""
        above = self.parent.path if self.parent else ""
        self.path = f"{above}.{self.name}" if above and self.name else above or self.name

    @property
    def measured_as(self) -> "Instance":
        """What stands for it where something is measured: a learner's replica is not, but z."""
        return self.central if self.mapped and self.central is not None else self

    def below(self, name: str) -> str:
        """The path from here of a variable that is owned here or below."""
        return name.removeprefix(f"{self.path}.") if self.path else name

    def all_places(self) -> Iterator[Place]:
        """Every variable owned here and below, in the order of the text."""
        yield from self.places.values()
        for child in self.children.values():
            yield from child.all_places()

    def trained(self) -> Iterator[Place]:
        """The trained parameters among them."""
        return (place for place in self.all_places() if place.variable.trained)


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """`repeat(n, layer)`: instances applied one after another."""

    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """`net.**.W`: the trained parameters below an instance whose paths fit a pattern."""

    instance: Instance
    pattern: tuple[str, ...]

    def of(self, instance: Instance) -> tuple[Place, ...]:
        """The parameters of an instance that fit."""
        return tuple(
            place
            for place in instance.trained()
            if fits(self.pattern, tuple(instance.below(place.name).split(".")))
        )

    def places(self) -> tuple[Place, ...]:
        """The parameters that are selected."""
        return self.of(self.instance)


def fits(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Tell whether a pattern fits a path or what the path lies in.

    `*` stands for one name, `**` for any number of them, none included.
    """
    if not pattern:
        return True
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(fits(rest, path[n:]) for n in range(len(path) + 1))
    return bool(path) and first in {"*", path[0]} and fits(rest, path[1:])


@dataclass(frozen=True, slots=True)
class FunctionValue:
    """A declared `fn`."""

    declaration: ast.Function
    module: "Module"


@dataclass(frozen=True, slots=True)
class LayerFactory:
    """A declared `layer` or `model`."""

    declaration: ast.Layer
    module: "Module"

    @property
    def way_out(self) -> str:
        """How a layer value is made of it, which has parameters."""
        needed = ", ".join(p.name for p in self.declaration.attributes if p.default is None)
        return f"write `{self.declaration.name}({needed})` to make one with its parameters"


@dataclass(frozen=True, slots=True)
class OptimizerFactory:
    """A declared `optimizer`."""

    declaration: ast.Optimizer
    module: "Module"


@dataclass(frozen=True, slots=True)
class StrategyFactory:
    """A declared `strategy`."""

    declaration: ast.Strategy
    module: "Module"


@dataclass(frozen=True, slots=True)
class OptimizerValue:
    """An optimizer with its arguments, and where it was written."""

    factory: OptimizerFactory
    arguments: Mapping[str, "Any_"]
    written: ast.Expression


@dataclass(frozen=True, slots=True)
class OptimizerChain:
    """`clip_norm(1) |> adam(rate)`, left to right."""

    links: tuple[OptimizerValue, ...]


@dataclass(frozen=True, slots=True)
class Builtin:
    """A primitive of the language, by name in `fml.dsl.elaborate.builtins`."""

    name: str


@dataclass(frozen=True, slots=True)
class DataValue:
    """A declared data set."""

    declaration: ast.Data
    module: "Module"


@dataclass(frozen=True, slots=True)
class SplitValue:
    """One split of a data set, with what `|> shuffle |> batch(n)` said."""

    data: DataValue
    split: str
    shuffle: bool = False
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Namespace:
    """Names behind a dot: an imported module."""

    module: "Module"


@dataclass(frozen=True, slots=True)
class LearnersValue:
    """The name `learners`: outside the block, `learners.NAME`; as an axis, `over = learners`."""


LEARNERS_AXIS = LearnersValue()


@dataclass(frozen=True, slots=True)
class Columns:
    """`columns[...]` in a data set: its source's columns, by name or place, each of a type."""

    type: TensorType


@dataclass(frozen=True, slots=True)
class SeriesOf:
    """`valid` in `valid.loss`: the series measured on a split of that name."""

    split: str


# `Union`, since a list holds values of every kind and `|` knows no forward references.
Any_: TypeAlias = Union[
    bool, int, float, str, Dim, Element, Duration, RangeOf, Unknown, "tuple[Any_, ...]",
    Poison, Tensor, Tree, Place, PlaceTree, Cell, Instance, Selection, Stack, FunctionValue,
    LayerFactory, OptimizerFactory, StrategyFactory, OptimizerValue, OptimizerChain, Builtin,
    DataValue, SplitValue, Namespace, LearnersValue, Columns, SeriesOf,
]  # fmt: skip
STATIC = (bool, int, float, str, Dim, Element, Duration, RangeOf, Unknown, tuple)


def describe(value: Any_) -> str:
    """Say in the language's words what a value is, for diagnostics."""
    match value:
        case Tensor():
            return f"a tensor {value.type}"
        case bool():
            return "a boolean"
        case int() | float() | Dim():
            return f"the number {value}"
        case str():
            return f'the string "{value}"'
        case Element():
            return f"the element type {value}"
        case Duration():
            return f"the duration {value}"
        case tuple():
            return "a list"
        case _:
            return _NAMES.get(type(value), "a value")


_NAMES: dict[type, str] = {
    Tree: "a tree of tensors",
    Place: "a parameter or state",
    PlaceTree: "a tree of states",
    Cell: "a gradient",
    Instance: "a layer value",
    Selection: "parameters of a layer value",
    Stack: "a layer value",
    FunctionValue: "a function",
    Builtin: "a function",
    LayerFactory: "a layer",
    OptimizerFactory: "an optimizer",
    OptimizerValue: "an optimizer",
    OptimizerChain: "an optimizer",
    StrategyFactory: "a strategy",
    DataValue: "a data set",
    SplitValue: "a split of a data set",
    Namespace: "an imported file",
    LearnersValue: "the axis `learners`",
    Columns: "the columns of a source",
    SeriesOf: "the series of a split",
    RangeOf: "a range",
    Unknown: "a static value",
}
