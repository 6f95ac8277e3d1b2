"""Expressions, and the types that are written with them."""

from dataclasses import field
from typing import TypeAlias

from fml.dsl.ast.syntax import Syntax, syntax


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
