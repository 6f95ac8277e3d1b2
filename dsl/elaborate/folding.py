"""Primitives on static values: `sqrt(4)` is 2 before anything runs."""

import math
from collections.abc import Callable, Mapping

from fml.dsl import ast
from fml.dsl.elaborate.arithmetic import simplest
from fml.dsl.elaborate.session import Session
from fml.dsl.values import Any_, Unknown, describe
from fml.engine.ir.dims import Dim

_FOLD: Mapping[str, Callable[..., float]] = {
    "abs": abs, "exp": math.exp, "log": math.log, "log1p": math.log1p, "expm1": math.expm1,
    "sqrt": math.sqrt, "rsqrt": lambda x: 1 / math.sqrt(x), "sin": math.sin, "cos": math.cos,
    "tanh": math.tanh, "floor": math.floor, "ceil": math.ceil, "round": round, "erf": math.erf,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "softplus": lambda x: math.log1p(math.exp(x)),
    "sign": lambda x: float((x > 0) - (x < 0)), "max": max, "min": min, "mod": lambda a, b: a % b,
    "stop_gradient": lambda x: x,
}  # fmt: skip


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
        return _FOLD[name](*numbers)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise s.report("E0408", f"`{name}` has no finite value here", [e]) from None


def _fold_dim(name: str, values: list[Any_]) -> Any_:
    first = values[0]
    if isinstance(first, Dim) and name in {"floor", "ceil"}:
        return simplest(first.floor() if name == "floor" else first.ceil())
    return Unknown()
