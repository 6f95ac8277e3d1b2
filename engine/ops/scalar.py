"""Scalar expressions: what an elementwise operation does to one entry, as data.

The numpy implementation evaluates the expression on arrays; a compiling backend emits it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from fml.engine.ops.later import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Generator: TypeAlias = np.random.Generator
else:
    # `fml check` asks the operations for types alone, and does not wait for numpy.
    Array = Generator = Any

Operand: TypeAlias = "Scalar | float"


class Scalar:
    """An expression over the entries of the inputs; operators and functions build larger ones."""

    __slots__ = ()

    def __add__(self, other: Operand) -> "Scalar":
        return apply("add", self, other)

    def __radd__(self, other: float) -> "Scalar":
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> "Scalar":
        return apply("subtract", self, other)

    def __rsub__(self, other: float) -> "Scalar":
        return apply("subtract", other, self)

    def __mul__(self, other: Operand) -> "Scalar":
        return apply("multiply", self, other)

    def __rmul__(self, other: float) -> "Scalar":
        return apply("multiply", other, self)

    def __truediv__(self, other: Operand) -> "Scalar":
        return apply("divide", self, other)

    def __rtruediv__(self, other: float) -> "Scalar":
        return apply("divide", other, self)

    def __neg__(self) -> "Scalar":
        return apply("negate", self)

    def __lt__(self, other: Operand) -> "Scalar":
        return apply("less", self, other)


@dataclass(frozen=True, slots=True)
class Argument(Scalar):
    """The entry of the input at this place."""

    place: int


FIRST, SECOND, THIRD = Argument(0), Argument(1), Argument(2)


@dataclass(frozen=True, slots=True)
class Constant(Scalar):
    """A number, of the element that the expression computes in."""

    value: float


@dataclass(frozen=True, slots=True)
class Apply(Scalar):
    """A function of `functions` applied to expressions."""

    function: str
    operands: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Named(Scalar):
    """An expression that has a name: numpy computes it as it stands, an emitter may know better."""

    name: str
    definition: Scalar
    operand: Scalar


def _power(a: Any, b: Any) -> Any:
    """Whole numbers to negative powers lose their fraction: 1 and -1 stay, all else is 0."""
    if np.result_type(a, b).kind == "f" or np.all(np.greater_equal(b, 0)):
        return np.power(a, b)
    inverse = np.where(np.equal(np.absolute(a), 1), a, 0)
    odd = np.equal(np.mod(b, 2), 1)
    below = np.where(odd, inverse, np.absolute(inverse))
    return np.where(np.less(b, 0), below, np.power(a, np.maximum(b, 0)))


@cache
def functions() -> Mapping[str, Callable[..., Any]]:
    """All functions that an emitter has to know, with the meaning that numpy gives them."""
    return {
        "abs": np.absolute,
        "add": np.add,
        "ceil": np.ceil,
        "cos": np.cos,
        "divide": np.true_divide,
        "equal": np.equal,
        "exp": np.exp,
        "expm1": np.expm1,
        "floor": np.floor,
        "greater": np.greater,
        "greater_equal": np.greater_equal,
        "less": np.less,
        "less_equal": np.less_equal,
        "log": np.log,
        "log1p": np.log1p,
        "logical_and": np.logical_and,
        "logical_not": np.logical_not,
        "logical_or": np.logical_or,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "mod": np.mod,
        "multiply": np.multiply,
        "negate": np.negative,
        "not_equal": np.not_equal,
        "power": _power,
        "round": np.rint,
        "sign": np.sign,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "subtract": np.subtract,
        "tanh": np.tanh,
        "where": np.where,
    }


def apply(function: str, *operands: Operand) -> Scalar:
    """Apply a function of `functions`; numbers become constants."""
    return Apply(
        function, tuple(o if isinstance(o, Scalar) else Constant(float(o)) for o in operands)
    )


def polynomial(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """Sum of `coefficients[i] * x^i`, by Horner's rule."""
    total: Operand = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total if isinstance(total, Scalar) else Constant(total)


def evaluate(expression: Scalar, inputs: Sequence[Array], dtype: "np.dtype[np.generic]") -> Array:
    """Compute an expression on arrays that broadcast, with a result of `dtype`.

    Whole numbers are first converted where the result is a float.
    """
    floating = dtype.kind == "f"
    given = [a.astype(dtype) if floating and a.dtype.kind in "iu" else a for a in inputs]
    with np.errstate(all="ignore"):
        return np.asarray(_value(expression, given, {})).astype(dtype, copy=False)


def _value(e: Scalar, inputs: Sequence[Array], known: dict[int, Any]) -> Any:
    """The value of a part; `known` is keyed by identity, since what is used twice is one object.

    No closure: one that calls itself would keep its arrays until the next garbage collection.
    """
    if id(e) not in known:
        match e:
            case Argument(place):
                known[id(e)] = inputs[place]
            case Constant(number):
                known[id(e)] = number
            case Apply(function, operands):
                parts = [_value(operand, inputs, known) for operand in operands]
                known[id(e)] = functions()[function](*parts)
            case Named(_, definition):
                known[id(e)] = _value(definition, inputs, known)
            case _:
                raise TypeError(f"not an expression: {e!r}")
    return known[id(e)]


def applications(expression: Scalar) -> int:
    """How many functions are applied, shared ones counted once."""
    return sum(isinstance(e, Apply) for e in _parts(expression))


def arity(expression: Scalar) -> int:
    """How many inputs it takes."""
    return 1 + max((e.place for e in _parts(expression) if isinstance(e, Argument)), default=-1)


def _parts(expression: Scalar) -> Sequence[Scalar]:
    """Every different object in it."""
    found: dict[int, Scalar] = {}
    stack = [expression]
    while stack:
        e = stack.pop()
        if id(e) not in found:
            found[id(e)] = e
            stack.extend(e.operands if isinstance(e, Apply) else ())
            stack.extend((e.definition,) if isinstance(e, Named) else ())
    return list(found.values())
