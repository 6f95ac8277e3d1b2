"""Operators on static values: numbers, booleans, durations and dimensions, before anything runs."""

import math
from collections.abc import Callable, Mapping
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.values import Any_, Unknown, describe
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Duration

_MAX_BITS = 4096
_MAX_TERMS, _MAX_POWER = 1000, 100


def _power(a: float, b: float) -> float:
    """`a ^ b`; whole numbers beyond all measure are refused before they are computed."""
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() * b > _MAX_BITS:
        raise OverflowError
    return pow(a, b)


_FOLD: Mapping[str, Callable[[float, float], float | bool]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": _power,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def fold(s: Session, e: ast.Binary, left: Any_, right: Any_) -> Any_:
    """Compute with static values."""
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return Unknown()
    sign = e.operator
    if sign in {"and", "or"} and isinstance(left, bool) and isinstance(right, bool):
        return (left and right) if sign == "and" else (left or right)
    if sign in {"==", "!="}:
        return _equal(left, right, sign)
    if isinstance(left, Duration) or isinstance(right, Duration):
        return _fold_duration(s, e, left, right)
    if _is_number(left) and _is_number(right) and sign in _FOLD:
        return _fold_numbers(
            s, e, cast("int | float | Dim", left), cast("int | float | Dim", right)
        )
    raise s.report(
        "E0401",
        f"`{sign}` does not go with {describe(left)} and {describe(right)}",
        [e],
        help="static values of one kind are needed here",
    )


def _equal(left: Any_, right: Any_, sign: str) -> Any_:
    if isinstance(left, Dim) or isinstance(right, Dim):
        if not (_is_number(left) and _is_number(right)):
            return sign == "!="
        same = Dim.of(cast(int, left)) == Dim.of(cast(int, right))
        # Two different polynomials may still be equal for some sizes.
        return (same if sign == "==" else not same) if same else Unknown()
    return (left == right) == (sign == "==")


def _fold_duration(s: Session, e: ast.Binary, left: Any_, right: Any_) -> Any_:
    match left, e.operator, right:
        case Duration(a, unit), "*" | "/", int() | float():
            return Duration(_fold_plain(s, e, a, right), unit)
        case int() | float(), "*", Duration(a, unit):
            return Duration(_fold_plain(s, e, left, a), unit)
        case Duration(a, u), "+" | "-", Duration(b, v) if u is v:
            return Duration(_fold_plain(s, e, a, b), u)
        case _:
            raise s.report(
                "E0401",
                f"`{e.operator}` does not go with {describe(left)} and {describe(right)}",
                [e],
                help="durations of one unit add up, and a number scales one",
            )


def _fold_numbers(
    s: Session, e: ast.Binary, left: int | float | Dim, right: int | float | Dim
) -> Any_:
    sign = e.operator
    try:
        if isinstance(left, Dim) or isinstance(right, Dim):
            return _fold_dims(sign, left, right)
    except ValueError:
        return Unknown()  # a quotient by a sum, such as 6 / (D + K): a number once both are known
    except ZeroDivisionError:
        raise s.report("E0408", "division by zero", [e.right]) from None
    return _fold_plain(s, e, left, right)


def _fold_plain(s: Session, e: ast.Binary, left: float, right: float) -> int | float:
    """Compute with two numbers; what no f64 can hold has no value."""
    try:
        result = _FOLD[e.operator](left, right)
        if isinstance(result, complex) or not math.isfinite(result):
            raise OverflowError
    except ZeroDivisionError:
        raise s.report("E0408", "division by zero", [e.right]) from None
    except (OverflowError, ValueError):
        raise s.report("E0408", f"`{e.operator}` has no finite value here", [e]) from None
    return result


def _fold_dims(sign: str, left: int | float | Dim, right: int | float | Dim) -> Any_:
    if isinstance(left, float) and not left.is_integer():
        return Unknown()
    if isinstance(right, float) and not right.is_integer():
        return Unknown()
    a = Dim.of(left if isinstance(left, Dim) else int(left))
    b = Dim.of(right if isinstance(right, Dim) else int(right))
    if len(a.terms) * len(b.terms) > _MAX_TERMS:
        return Unknown()  # a number once the sizes are known
    match sign:
        case "+":
            return simplest(a + b)
        case "-":
            return simplest(a - b)
        case "*":
            return simplest(a * b)
        case "/":
            return simplest(a / b)
        case "^" if b.size is not None and 0 <= b.size <= _MAX_POWER:
            return simplest(a**b.size) if len(a.terms) ** b.size <= _MAX_TERMS else Unknown()
        case _:
            return Unknown()


def simplest(dim: Dim) -> int | float | Dim:
    """Return a dimension as a plain number if it is one."""
    value = dim.constant
    if value is None:
        return dim
    return int(value) if value.denominator == 1 else float(value)


def _is_number(value: Any_) -> bool:
    return isinstance(value, int | float | Dim) and not isinstance(value, bool)
