"""What stands at the top of a file, and the file."""

from dataclasses import field
from typing import TypeAlias

from fml.dsl.ast.expressions import Expression, Interval, Name, String, Type
from fml.dsl.ast.statements import Block, Statement
from fml.dsl.ast.syntax import Syntax, syntax


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
    body: Expression | Block
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
    body: Expression | Block
    doc: str = field(default="", compare=False)


@syntax
class Optimizer(Syntax):
    """`optimizer momentum(rate, beta = 0.9) { ... }`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = field(default="", compare=False)


@syntax
class Strategy(Syntax):
    """`strategy sma(w, z, tau = 1 step) { ... }`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = field(default="", compare=False)


@syntax
class Train(Syntax):
    """`train fast { ... }`; the name is empty where none was written."""

    name: str
    body: tuple[Statement, ...]
    doc: str = field(default="", compare=False)


Declaration: TypeAlias = (
    Option | Constant | Import | ImportFrom | Data | Function | Layer | Optimizer | Strategy | Train
)


@syntax
class File(Syntax):
    """A whole file: its declarations in order."""

    declarations: tuple[Declaration, ...]
