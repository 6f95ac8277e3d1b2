"""Scalar expressions of records as expressions of kernels, as numpy means them."""

from collections.abc import Callable, Mapping, Sequence

from fml.engine.ir.types import BOOL, Element
from fml.engine.kernels import angles, expr, maths, powers
from fml.engine.kernels.expr import INDEX, Expr, compare, constant, convert, select, unary
from fml.engine.ops.scalar import Apply, Argument, Constant, Named, Scalar

# Whole numbers from narrow to wide; every float is wider.
_WIDER = (BOOL, Element.U8, Element.I32, INDEX, Element.F32, Element.F64)


def lower(scalar: Scalar, inputs: Sequence[Expr], result: Element) -> Expr:
    """Return what `scalar.evaluate` computes, entry by entry, as an expression of `result`.

    Whole numbers are first converted where the result is a float.
    """
    floating = result.is_float
    given = [convert(x, result) if floating and x.type.is_integer else x for x in inputs]
    return convert(_lowered(scalar, given, {}), result)


def _lowered(e: Scalar, inputs: Sequence[Expr], known: dict[int, Expr]) -> Expr:
    """A part; `known` is keyed by identity: what is used twice stays one object."""
    if id(e) not in known:
        known[id(e)] = _computed(e, inputs, known)
    return known[id(e)]


def _computed(e: Scalar, inputs: Sequence[Expr], known: dict[int, Expr]) -> Expr:
    match e:
        case Argument(place):
            return inputs[place]
        case Constant(number):
            # Of the element that the others have; without others, of the first input's.
            return constant(number, inputs[0].type)
        case Named(name, definition, operand):
            if name in _NAMED:
                return _NAMED[name](_lowered(operand, inputs, known))
            return _lowered(definition, inputs, known)
        case Apply(function, operands):
            parts = [_lowered(operand, inputs, known) for operand in operands]
            return _FUNCTIONS[function](*_alike(function, parts))
        case _:
            raise TypeError(f"not an expression: {e!r}")


def _alike(function: str, parts: Sequence[Expr]) -> list[Expr]:
    """The operands as numbers of one element, the widest; a condition stays what it is."""
    numbers = parts[1:] if function == "where" else parts
    widest = max((part.type for part in numbers), key=_WIDER.index)
    return [*parts[: len(parts) - len(numbers)], *(convert(part, widest) for part in numbers)]


def _power(x: Expr, y: Expr) -> Expr:
    if x.type.is_float:
        return powers.power(x, y)
    squared = _whole_power(x, y)
    if x.type is Element.U8:
        return squared
    # To a negative power, 1 and -1 stay what they are, all else is 0.
    zero = constant(0, x.type)
    unit = select(unary("abs", x).equals(1), x, zero)
    odd = (y & 1).equals(1)
    return select(y < 0, select(odd, unit, unary("abs", unit)), squared)


def _whole_power(x: Expr, y: Expr) -> Expr:
    """By squares: x to the power of each bit of y that is set."""
    total: Expr = constant(1, x.type)
    for bit in range({Element.U8: 8, Element.I32: 31}.get(x.type, 63)):
        is_set = (y & (1 << bit)).differs(0)
        total = select(is_set, total * x, total)
        x = x * x
    return total


def _modulo(x: Expr, y: Expr) -> Expr:
    if x.type.is_float:
        return powers.modulo(x, y)
    if x.type is Element.U8:
        return select(y.equals(0), y, x % select(y.equals(0), 1, y))
    # By 0 nothing is left, as by 1, and as by -1, by which no machine divides the least number.
    left = x % select(y.equals(0) | y.equals(-1), 1, y)
    differ = (left < 0) ^ (y < 0)
    return select(left.differs(0) & differ, left + y, left)


def _comparing(function: str) -> Callable[[Expr, Expr], Expr]:
    return lambda x, y: compare(function, x, y)


def _primitive(function: str) -> Callable[..., Expr]:
    return lambda *operands: expr.apply(function, *operands)


_NAMED: Mapping[str, Callable[[Expr], Expr]] = {
    "erf": powers.erf,
    "rsqrt": maths.rsqrt,
    "sigmoid": maths.sigmoid,
    "softplus": maths.softplus,
}
_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    **{name: _primitive(name) for name in ("abs", "ceil", "floor", "negate", "round", "sqrt")},
    **{name: _primitive(name) for name in ("add", "subtract", "multiply", "divide")},
    **{name: _primitive(name) for name in ("maximum", "minimum")},
    **{name: _comparing(name) for name in expr.COMPARISONS},
    "cos": angles.cos,
    "exp": maths.exp,
    "expm1": maths.expm1,
    "log": maths.log,
    "log1p": maths.log1p,
    "logical_and": _primitive("and"),
    "logical_not": _primitive("not"),
    "logical_or": _primitive("or"),
    "mod": _modulo,
    "power": _power,
    "sign": maths.sign,
    "sin": angles.sin,
    "tanh": maths.tanh,
    "where": select,
}
