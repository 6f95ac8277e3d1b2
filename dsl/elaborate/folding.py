"""Primitives on static values: `sqrt(4)` is 2 before anything runs."""

import math
from collections.abc import Callable, Mapping

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.elaborate.statics import simplest
from fml.dsl.values import Any_, Unknown, describe
from fml.engine.ir.dims import Dim

_UNARY: Mapping[str, Callable[[float], float]] = {
    "abs": lambda x: abs(x),
    "ceil": lambda x: math.ceil(x),
    "cos": math.cos,
    "erf": math.erf,
    "exp": math.exp,
    "expm1": math.expm1,
    "floor": lambda x: math.floor(x),
    "log": lambda x: math.log(x),
    "log1p": math.log1p,
    "round": lambda x: round(x),
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "sign": lambda x: (x > 0) - (x < 0),
    "sin": math.sin,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "sqrt": math.sqrt,
    "stop_gradient": lambda x: x,
    "tanh": math.tanh,
}
_BINARY: Mapping[str, Callable[[float, float], float]] = {
    "max": lambda a, b: max(a, b),
    "min": lambda a, b: min(a, b),
    "mod": lambda a, b: a % b,
}


def fold_call(s: Session, name: str, values: list[Any_], e: ast.Expression) -> Any_:
    """Compute a primitive of static numbers; dimensions round, and wait where names remain."""
    if any(isinstance(v, Unknown) for v in values):
        return Unknown()
    if any(isinstance(v, Dim) for v in values):
        return _fold_dim(name, values)
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(values):
        odd = next(v for v in values if isinstance(v, bool) or not isinstance(v, int | float))
        raise s.report("E0401", f"`{name}` takes numbers or tensors, found {describe(odd)}", [e])
    try:
        return _BINARY[name](*numbers) if name in _BINARY else _UNARY[name](*numbers)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise s.report("E0408", f"`{name}` has no finite value here", [e]) from None


def _fold_dim(name: str, values: list[Any_]) -> Any_:
    first = values[0]
    if isinstance(first, Dim) and name in {"floor", "ceil"}:
        return simplest(first.floor() if name == "floor" else first.ceil())
    return Unknown()
