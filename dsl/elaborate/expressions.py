"""Evaluates expressions: one function per kind of syntax, `evaluate` chooses."""

from collections.abc import Callable
from functools import cache
from typing import TypeAlias, cast

from fml.dsl import ast
from fml.dsl.elaborate import arithmetic, calls, members, names
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.scope import Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Cell,
    Place,
    PlaceTree,
    Poison,
    RangeOf,
    Tensor,
    Tree,
    Unknown,
    describe,
)  # fmt: skip
from fml.engine.ir.training import Duration, Unit

_UNITS: dict[str, tuple[float, Unit]] = {
    "steps": (1, Unit.STEPS),
    "epochs": (1, Unit.EPOCHS),
    "samples": (1, Unit.SAMPLES),
    "seconds": (1, Unit.SECONDS),
    "minutes": (60, Unit.SECONDS),
    "hours": (3600, Unit.SECONDS),
}


def evaluate(s: Session, e: ast.Expression, scope: Scope) -> Any_:
    """Return an expression's value; `POISON` where an error was reported."""
    builder, span = s.region.builder, e.span
    outer, builder.span = builder.span, s.user_span(span) if span.source.is_std else span
    try:
        return _evaluators()[type(e)](s, e, scope)
    except Failed:
        return POISON
    except RecursionError:
        s.report("E0107", "this is nested too deeply", [e], help="bind an inner part to a name")
        return POISON
    finally:
        builder.span = outer


def settled(s: Session, value: Any_) -> Any_:
    """A value as `=` keeps it: that of this moment, whatever `<-` does later."""
    match value:
        case Place() | PlaceTree():
            return arithmetic.read(s, value)
        case Cell():
            return settled(s, value.value)
        case _:
            return value


def evaluate_static(s: Session, e: ast.Expression, scope: Scope, wanted: str) -> Any_:
    """Evaluate what must be known before anything runs; `wanted` says what (`a number`)."""
    value = evaluate(s, e, scope)
    if isinstance(value, Tensor | Tree | Place | PlaceTree | Cell):
        raise s.report(
            "E0401", f"{wanted} is needed here, known before anything runs", [e],
            notes=[f"found {describe(value)}"],
        )  # fmt: skip
    if isinstance(value, Poison):
        raise Failed
    return value


def _number(s: Session, e: ast.Number, scope: Scope) -> Any_:
    return e.value


def _string(s: Session, e: ast.String | ast.Boolean, scope: Scope) -> Any_:
    return e.value


def _quantity(s: Session, e: ast.Quantity, scope: Scope) -> Any_:
    amount = evaluate_static(s, e.amount, scope, "a number")
    if isinstance(amount, Unknown):
        return Unknown()
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise s.report(
            "E0401", f"a number of {e.unit} is needed, found {describe(amount)}", [e.amount]
        )
    factor, unit = _UNITS[e.unit]
    return Duration(amount * factor, unit)


def _list(s: Session, e: ast.ListOf, scope: Scope) -> Any_:
    items = tuple(settled(s, evaluate(s, item, scope)) for item in e.items)
    return POISON if any(isinstance(item, Poison) for item in items) else items


def _range(s: Session, e: ast.Range, scope: Scope) -> Any_:
    ends: list[int | float] = []
    attempts = Attempts()
    for written in (e.low, e.high):
        with attempts:
            value = evaluate_static(s, written, scope, "a number")
            if not isinstance(value, Unknown):
                ends.append(end_of_range(s, value, written))
    attempts.settle()
    return RangeOf(ends[0], ends[1]) if len(ends) == 2 else Unknown()


def end_of_range(s: Session, value: Any_, at: ast.Expression) -> int | float:
    """Return an end of a range, which is a number (E0401)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise s.report("E0401", f"a range goes between numbers, found {describe(value)}", [at])
    return value


def _unary(s: Session, e: ast.Unary, scope: Scope) -> Any_:
    return arithmetic.unary(s, e, evaluate(s, e.operand, scope))


def _binary(s: Session, e: ast.Binary, scope: Scope) -> Any_:
    left = evaluate(s, e.left, scope)
    # `C == Cin and stride == 1`: what decides statically decides without the other side.
    if e.operator in {"and", "or"} and isinstance(left, bool) and left == (e.operator == "or"):
        return left
    return arithmetic.binary(s, e, left, evaluate(s, e.right, scope))


def _if(s: Session, e: ast.If, scope: Scope) -> Any_:
    condition = evaluate(s, e.condition, scope)
    match condition:
        case bool():
            return evaluate(s, e.then if condition else e.otherwise, scope)
        case Poison() | Unknown():
            return POISON
        case Tensor() | Place() | PlaceTree() | Tree():
            raise s.report(
                "E0403", "`if` chooses before anything runs, and this is known only then",
                [e.condition], help="`where(c, a, b)` chooses elementwise",
            )  # fmt: skip
        case _:
            raise s.report(
                "E0401", f"`if` takes a boolean, found {describe(condition)}", [e.condition]
            )


Evaluate: TypeAlias = "Callable[[Session, ast.Expression, Scope], Any_]"


@cache
def _evaluators() -> dict[type, Evaluate]:
    """The function of each kind of syntax; made late, since they live in modules that need this."""
    return cast(
        "dict[type, Evaluate]",
        {
            ast.Number: _number,
            ast.String: _string,
            ast.Boolean: _string,
            ast.Name: names.look_up,
            ast.Quantity: _quantity,
            ast.ListOf: _list,
            ast.Range: _range,
            ast.Call: calls.call,
            ast.Index: members.index,
            ast.Attribute: members.attribute,
            ast.Unary: _unary,
            ast.Binary: _binary,
            ast.Pipe: calls.pipe,
            ast.If: _if,
        },
    )
