"""The syntax tree: what was written, node by node, each with its place.

Nothing is resolved here: a name is a name whatever it means, and `f(x)` is a `Call` whether `f`
is a layer or a function. `fml.dsl.parse` makes these, `fml.dsl.format` prints them back.
"""

from dataclasses import dataclass, field, fields
from functools import cache
from typing import TypeAlias, TypeVar, dataclass_transform

from fml.engine.ir.source import Span

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def syntax(made: type[_T]) -> type[_T]:
    """Make a kind of syntax: a frozen dataclass that is compared and shown as `Syntax` says.

    To write these methods anew for each of sixty classes took a thirtieth of `fml check`.
    """
    return dataclass(frozen=True, slots=True, eq=False, repr=False)(made)


@syntax
class Syntax:
    """Anything that was written; two trees are equal if their words are, wherever they stand."""

    span: Span = field(compare=False, repr=False, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _words(type(self)))

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in _words(type(self)))))

    def __repr__(self) -> str:
        shown = (f.name for f in fields(self) if f.repr)
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"


@cache
def _words(kind: type[Syntax]) -> tuple[str, ...]:
    """The fields of a kind of syntax that count where two are compared."""
    return tuple(f.name for f in fields(kind) if f.compare)


# --- expressions ---------------------------------------------------------------------------------


@syntax
class Number(Syntax):
    """`0.1`, `1_000`, `10%`: `text` as written, `value` its number (an int if written as one)."""

    value: int | float
    text: str = field(compare=False)


@syntax
class String(Syntax):
    """`"..."`, unescaped."""

    value: str


@syntax
class Boolean(Syntax):
    """`true` or `false`."""

    value: bool


@syntax
class Name(Syntax):
    """A name, NFKC."""

    name: str


@syntax
class Quantity(Syntax):
    """`5 epochs`, `tau steps`: `unit` in the plural, as one of `UNITS`."""

    amount: "Expression"
    unit: str


UNITS = ("steps", "epochs", "samples", "seconds", "minutes", "hours")


@syntax
class ListOf(Syntax):
    """`[a, b]`."""

    items: tuple["Expression", ...]


@syntax
class Range(Syntax):
    """`a .. b`, both ends included."""

    low: "Expression"
    high: "Expression"


@syntax
class Interval(Syntax):
    """Behind `in`: `0 ..`, `0 <.. 1`, `0 ..< 1`; `<` leaves out the end at its side.

    `sign` is `..`, `<..`, `..<` or `<..<`; `high` is None where there is no upper end.
    """

    low: "Expression"
    sign: str
    high: "Expression | None"


@syntax
class Argument(Syntax):
    """`e` or `name = e` in a call."""

    name: str | None
    value: "Expression"


@syntax
class Call(Syntax):
    """`f(a, b = c)`."""

    function: "Expression"
    arguments: tuple[Argument, ...]


@syntax
class Slice(Syntax):
    """`a:b` inside an index; either end may be missing."""

    low: "Expression | None"
    high: "Expression | None"


@syntax
class All(Syntax):
    """`*` inside an index: `gpu[*]`."""


@syntax
class Index(Syntax):
    """`x[i, 1:3]`, and in types `label[K][N]`."""

    value: "Expression"
    items: tuple["Expression | Slice | All | Dots", ...]


@syntax
class Attribute(Syntax):
    """`x.name`; `*` and `**` for the wild cards of paths (`net.**.W`)."""

    value: "Expression"
    name: str


@syntax
class Unary(Syntax):
    """`-x` or `not x`."""

    operator: str
    operand: "Expression"


@syntax
class Binary(Syntax):
    """`^ * / @ + - == != < <= > >= and or`."""

    operator: str
    left: "Expression"
    right: "Expression"


@syntax
class Pipe(Syntax):
    """`x |> f` and `x |> f(a)`."""

    value: "Expression"
    into: "Expression"


@syntax
class If(Syntax):
    """`if c then a else b`."""

    condition: "Expression"
    then: "Expression"
    otherwise: "Expression"


Expression: TypeAlias = (
    Number | String | Boolean | Name | Quantity | ListOf | Range | Call | Index | Attribute
    | Unary | Binary | Pipe | If
)  # fmt: skip


# --- types ---------------------------------------------------------------------------------------


@syntax
class Dots(Syntax):
    """`...` among the axes of a type."""


@syntax
class Type(Syntax):
    """`f32[N, H/2, ...]`, `label[K]`, `label[K][N]`, `dim`, `layer`, `duration`.

    `classes` is the K of a label; `axes` is None where no `[ ]` of axes was written (`f32`).
    """

    name: str
    classes: "Expression | None"
    axes: tuple["Expression | Dots", ...] | None


# --- declarations --------------------------------------------------------------------------------


@syntax
class Parameter(Syntax):
    """One of a declaration's: `x: f32[N, D]`, `bias = true`, `p in 0 ..< 1`."""

    name: str
    type: Type | None
    default: Expression | None
    allowed: Expression | Interval | None


@syntax
class Option(Syntax):
    """`option lr = 0.5 in 0.001 .. 10  ## learning rate`; `allowed` is a range or a list."""

    name: str
    default: Expression
    allowed: Expression | Interval | None
    doc: str = field(default="", compare=False)


@syntax
class Constant(Syntax):
    """`classes = 10` at the top of a file."""

    name: str
    value: Expression
    doc: str = field(default="", compare=False)


@syntax
class Import(Syntax):
    """`import "blocks.fml" as blocks`."""

    path: String
    name: str


@syntax
class ImportFrom(Syntax):
    """`from "blocks.fml" import residual, unit`."""

    path: String
    names: tuple[Name, ...]


@syntax
class DataField(Syntax):
    """`x: f32[4] = expression`; no expression in `given`."""

    name: str
    type: Type
    value: Expression | None


@syntax
class SplitPart(Syntax):
    """`train 70%`."""

    name: str
    amount: Expression


@syntax
class SplitBy(Syntax):
    """`split train 70%, valid 30% from train by stratified(y, seed = 7)`."""

    parts: tuple[SplitPart, ...]
    of: str | None
    by: Expression | None


@syntax
class Data(Syntax):
    """`data iris = csv("...") { ... }`; `source` is a call or a bare name (`given`)."""

    name: str
    source: Expression
    fields: tuple[DataField, ...]
    splits: tuple[SplitBy, ...]
    doc: str = field(default="", compare=False)


@syntax
class Function(Syntax):
    """`fn huber(a: f32[...], delta = 1.0) -> f32[...] = body`."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type | None
    body: "Expression | Block"
    doc: str = field(default="", compare=False)


@syntax
class Layer(Syntax):
    """`layer dense(units: dim)(x: f32[N, D]) -> f32[N, units] { ... }`, or `model`.

    Written with one list, `layer f(x: ...)`, there are no attributes.
    """

    kind: str  # layer or model
    name: str
    attributes: tuple[Parameter, ...]
    parameters: tuple[Parameter, ...]
    result: Type | None
    body: "Expression | Block"
    doc: str = field(default="", compare=False)


@syntax
class Optimizer(Syntax):
    """`optimizer momentum(rate, beta = 0.9) { ... }`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple["Statement", ...]
    doc: str = field(default="", compare=False)


@syntax
class Strategy(Syntax):
    """`strategy sma(w, z, tau = 1 step) { ... }`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple["Statement", ...]
    doc: str = field(default="", compare=False)


@syntax
class Train(Syntax):
    """`train fast { ... }`; the name is empty where none was written."""

    name: str
    body: tuple["Statement", ...]
    doc: str = field(default="", compare=False)


Declaration: TypeAlias = (
    Option | Constant | Import | ImportFrom | Data | Function | Layer | Optimizer | Strategy | Train
)


@syntax
class File(Syntax):
    """A whole file: its declarations in order."""

    declarations: tuple[Declaration, ...]


# --- statements ----------------------------------------------------------------------------------


@syntax
class Block(Syntax):
    """`{ statements; value }`: the body of a layer or fn."""

    statements: tuple["Statement", ...]
    value: Expression


@syntax
class Bind(Syntax):
    """`name = e`."""

    name: str
    value: Expression
    name_span: Span = field(compare=False, repr=False, kw_only=True)


@syntax
class Assign(Syntax):
    """`place <- e`."""

    place: Expression
    value: Expression


@syntax
class Param(Syntax):
    """`param W: f32[D, K] ~ glorot_uniform where max_norm(3)`; `where` may be the name `frozen`."""

    name: str
    type: Type
    initial: Expression
    where: Expression | None


@syntax
class State(Syntax):
    """`state m: f32[D] ~ zeros`; in an `each` the type may be left out; `state v: z ~ zeros`."""

    name: str
    type: "Type | Expression | None"
    initial: Expression


@syntax
class FeedFrom(Syntax):
    """`feed x, y from iris.train |> shuffle |> batch(32)`: `source` is all after `from`."""

    names: tuple[Name, ...]
    source: Expression


@syntax
class Minimize(Syntax):
    """`minimize NAME = e over net.head`; `name` is None where none was written."""

    name: str | None
    value: Expression
    over: Expression | None


@syntax
class Using(Syntax):
    """`using momentum(lr)`."""

    optimizer: Expression


@syntax
class Descend(Syntax):
    """`descend P along T using OPT`."""

    place: Expression
    along: Expression
    optimizer: Expression


@syntax
class Measured(Syntax):
    """One expression of a `measure`, perhaps `as "name"`."""

    value: Expression
    name: str | None


@syntax
class Measure(Syntax):
    """`measure e, ... on D.split every DURATION`; `every` is the string `end` for `at end`."""

    measured: tuple[Measured, ...]
    on: Expression
    every: "Expression | str | None"


@syntax
class StopAfter(Syntax):
    """`stop after D`."""

    duration: Expression


@syntax
class StopWhen(Syntax):
    """`stop when C`."""

    condition: Expression


@syntax
class StopStalled(Syntax):
    """`stop when e stops falling for D`; `direction` is `falling` or `rising`."""

    value: Expression
    direction: str
    duration: Expression


@syntax
class Keep(Syntax):
    """`keep lowest valid.loss`; `which` is `lowest` or `highest`."""

    which: str
    value: Expression


@syntax
class Log(Syntax):
    """`log e as "name" every D`; name and duration may be missing."""

    value: Expression
    name: str | None
    every: Expression | None


@syntax
class Every(Syntax):
    """`every D { ... }`."""

    duration: Expression
    body: tuple["Statement", ...]


@syntax
class When(Syntax):
    """`when c { ... }`."""

    condition: Expression
    body: tuple["Statement", ...]


@syntax
class Seed(Syntax):
    """`seed 7`."""

    value: Expression


@syntax
class Precision(Syntax):
    """`precision bf16`."""

    element: Name


@syntax
class Each(Syntax):
    """`each w, g at w - beta * m { ... }` in an optimizer."""

    parameter: Name
    gradient: Name
    at: Expression | None
    body: tuple["Statement", ...]


@syntax
class Use(Syntax):
    """`use sma(learners.w, z)`."""

    strategy: Expression


@syntax
class Learners(Syntax):
    """`learners m per device on gpu[*], staleness = 2 { ... }`.

    `count` is the name `auto` for `auto per device`; `settings` are `staleness = 2` and the like;
    the one-line form has `by` and no body.
    """

    count: Expression
    on: Expression | None
    settings: tuple[Argument, ...]
    by: Expression | None
    body: tuple["Statement", ...] | None


Statement: TypeAlias = (
    Bind | Assign | Param | State | FeedFrom | Minimize | Using | Descend | Measure | StopAfter
    | StopWhen | StopStalled | Keep | Log | Every | When | Seed | Precision | Each | Use | Learners
)  # fmt: skip
