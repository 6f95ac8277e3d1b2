"""What stands in the braces of layers, optimizers, strategies and plans."""

from dataclasses import field
from typing import TypeAlias

from fml.dsl.ast.expressions import Argument, Expression, Name, Type
from fml.dsl.ast.syntax import Syntax, syntax
from fml.engine.ir.source import Span


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
    type: Type | Expression | None
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
    every: Expression | str | None


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
