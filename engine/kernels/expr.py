"""Expressions of kernels: typed scalars over loop variables, locals and entries of buffers.

What stands here is what every machine has; functions such as `exp` are built from it once, in
`maths.py`, so that a CPU and a GPU compute the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fml.engine.ir.types import BOOL, F32, Element

Operand: TypeAlias = "Expr | float"
INDEX = Element.I64


class Expr:
    """A value of one element; inside a loop over lanes it may stand for several at once."""

    __slots__ = ()

    @property
    def type(self) -> Element:
        """The element that it is computed in, never narrower than what machines add in."""
        raise NotImplementedError

    def __add__(self, other: Operand) -> "Expr":
        return binary("add", self, other)

    def __radd__(self, other: float) -> "Expr":
        return binary("add", other, self)

    def __sub__(self, other: Operand) -> "Expr":
        return binary("subtract", self, other)

    def __rsub__(self, other: float) -> "Expr":
        return binary("subtract", other, self)

    def __mul__(self, other: Operand) -> "Expr":
        return binary("multiply", self, other)

    def __rmul__(self, other: float) -> "Expr":
        return binary("multiply", other, self)

    def __truediv__(self, other: Operand) -> "Expr":
        return binary("divide", self, other)

    def __rtruediv__(self, other: float) -> "Expr":
        return binary("divide", other, self)

    def __floordiv__(self, other: Operand) -> "Expr":
        return binary("quotient", self, other)

    def __mod__(self, other: Operand) -> "Expr":
        return binary("remainder", self, other)

    def __and__(self, other: Operand) -> "Expr":
        return binary("and", self, other)

    def __or__(self, other: Operand) -> "Expr":
        return binary("or", self, other)

    def __xor__(self, other: Operand) -> "Expr":
        return binary("xor", self, other)

    def __lshift__(self, other: Operand) -> "Expr":
        return binary("shift_left", self, other)

    def __rshift__(self, other: Operand) -> "Expr":
        return binary("shift_right", self, other)

    def __neg__(self) -> "Expr":
        return unary("negate", self)

    def __invert__(self) -> "Expr":
        return unary("not", self)

    def __lt__(self, other: Operand) -> "Expr":
        return compare("less", self, other)

    def __le__(self, other: Operand) -> "Expr":
        return compare("less_equal", self, other)

    def __gt__(self, other: Operand) -> "Expr":
        return compare("greater", self, other)

    def __ge__(self, other: Operand) -> "Expr":
        return compare("greater_equal", self, other)

    def equals(self, other: Operand) -> "Expr":
        """Whether the two are equal; NaN is not."""
        return compare("equal", self, other)

    def differs(self, other: Operand) -> "Expr":
        """Whether the two are not equal; NaN does."""
        return compare("not_equal", self, other)


@dataclass(frozen=True, slots=True, eq=False)
class Const(Expr):
    """A number."""

    value: float
    element: Element

    @property
    def type(self) -> Element:
        """Its element."""
        return self.element


@dataclass(frozen=True, slots=True, eq=False)
class Var(Expr):
    """What is bound once: a loop's variable, a `Let`, or a size given when the kernel is called."""

    name: str
    element: Element = INDEX

    @property
    def type(self) -> Element:
        """Its element."""
        return self.element


@dataclass(frozen=True, slots=True, eq=False)
class Local(Expr):
    """What is assigned again and again, in a register; as an expression, its value now."""

    name: str
    element: Element

    @property
    def type(self) -> Element:
        """Its element."""
        return self.element


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that a kernel is called with, in entries of one element."""

    name: str
    element: Element


@dataclass(frozen=True, slots=True, eq=False)
class Load(Expr):
    """The entry of a buffer at an index, or `otherwise` where `guard` is false.

    16-bit floats are widened to f32 at once. With an `ahead` that is not 0, an entry so many
    places on is fetched, for it will be read soon.
    """

    buffer: Buffer
    index: Expr
    guard: Expr | None = None
    otherwise: float = 0.0
    ahead: int = 0

    @property
    def type(self) -> Element:
        """The element that the entry is computed in."""
        return wide(self.buffer.element)


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Expr):
    """A primitive applied to expressions."""

    function: str
    operands: tuple[Expr, ...]
    element: Element

    @property
    def type(self) -> Element:
        """The element of the result."""
        return self.element


# All that an emitter has to know, with the number of operands. Operands have one element, but for
# `select` (whose first is a bool) and conversions; integers wrap, and u8 is the only unsigned one.
PRIMITIVES: Mapping[str, int] = {
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "minimum", "maximum"), 2),
    **dict.fromkeys(("quotient", "remainder"), 2),  # of integers, towards 0
    **dict.fromkeys(("and", "or", "xor", "shift_left", "shift_right"), 2),  # zeros come in
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), 2),
    **dict.fromkeys(("negate", "not", "abs", "sqrt", "floor", "ceil", "round", "truncate"), 1),
    "fma": 3,  # a b + c, rounded once
    "multiply_add": 3,  # a b + c, rounded once or twice, whichever is faster
    "scale": 2,  # a 2^b, for a whole float b; rounded once if a 2^(b / 2) is a normal number
    # x = m 2^e of a float, 3/4 <= m < 3/2. e is -inf of 0, x of inf and NaN, and undefined below 0;
    # m is NaN below 0 and of NaN, and some finite number of 0 and inf.
    **dict.fromkeys(("exponent", "significand"), 1),
    "select": 3,
    "high_word": 2,  # of the product of two i32 taken as unsigned
    "convert": 1,  # to another element, as C does; out of range it is undefined
    "bits": 1,  # the same bits as another element of the same width
    # An f32 that is rounded to a float of 16 bits, to nearest, ties to even, and stays an f32.
    **dict.fromkeys(("to_f16", "to_bf16"), 1),
}
# How numbers become those of an element that is narrower than what they are computed in.
NARROWING: Mapping[Element, str] = {Element.F16: "to_f16", Element.BF16: "to_bf16"}


def wide(element: Element) -> Element:
    """What entries of an element are computed in: f32 for floats of 16 bits."""
    return F32 if element in NARROWING else element


def constant(value: float, element: Element) -> Const:
    """A number of an element."""
    return Const(value, element)


def index(value: int) -> Const:
    """A number to count with."""
    return Const(value, INDEX)


def limits(element: Element) -> tuple[int, int]:
    """The least and the largest number of an integer element."""
    width = {Element.U8: 8, Element.I32: 32, INDEX: 64}[element]
    return (0, 255) if element is Element.U8 else (-(1 << (width - 1)), (1 << (width - 1)) - 1)


def lifted(operand: Operand, like: Expr) -> Expr:
    """An operand; a number becomes a constant of the element of the other."""
    return operand if isinstance(operand, Expr) else Const(operand, like.type)


def binary(function: str, a: Operand, b: Operand) -> Expr:
    """Apply a primitive to two operands of one element; counting is done at once where possible.

    Raises:
        TypeError: they differ.
    """
    if not isinstance(a, Expr):
        assert isinstance(b, Expr)
        a = lifted(a, b)
    b = lifted(b, a)
    if a.type is not b.type:
        raise TypeError(f"`{function}` of {a.type} and {b.type}")
    if a.type is INDEX:
        known = _counted(function, a, b)
        if known is not None:
            return known
    return Apply(function, (a, b), a.type)


def unary(function: str, a: Expr) -> Expr:
    """Apply a primitive whose result has the element of its operand."""
    return Apply(function, (a,), a.type)


def apply(function: str, a: Expr, *others: Expr) -> Expr:
    """Apply a primitive whose result has the element of its operands."""
    return binary(function, a, others[0]) if others else unary(function, a)


def compare(function: str, a: Expr, b: Operand) -> Expr:
    """Apply a comparison."""
    b = lifted(b, a)
    if a.type is not b.type:
        raise TypeError(f"`{function}` of {a.type} and {b.type}")
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(COMPARISONS[function](a.value, b.value), BOOL)
    return Apply(function, (a, b), BOOL)


def fma(a: Operand, b: Operand, c: Operand) -> Expr:
    """a b + c; numbers take the element of an expression among them."""
    like = next(x for x in (a, b, c) if isinstance(x, Expr))
    return Apply("fma", (lifted(a, like), lifted(b, like), lifted(c, like)), like.type)


def select(condition: Expr, yes: Operand, no: Operand) -> Expr:
    """`yes` where the condition is true, else `no`; both are computed."""
    like = yes if isinstance(yes, Expr) else no
    assert isinstance(like, Expr)
    yes, no = lifted(yes, like), lifted(no, like)
    if isinstance(condition, Const):
        return yes if condition.value else no
    return Apply("select", (condition, yes, no), yes.type)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller one; NaN if one is NaN."""
    return binary("minimum", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger one; NaN if one is NaN."""
    return binary("maximum", a, b)


def convert(a: Expr, element: Element) -> Expr:
    """The number as another element."""
    if a.type is element:
        return a
    if isinstance(a, Const):
        return Const(a.value if element.is_float else int(a.value), element)
    return Apply("convert", (a,), element)


def bits(a: Expr, element: Element) -> Expr:
    """The bits of a number as another element of the same width."""
    return Apply("bits", (a,), element)


def every(conditions: "list[Expr]") -> Expr | None:
    """Whether all hold; None if there is nothing to ask."""
    asked: Expr | None = None
    for condition in conditions:
        if isinstance(condition, Const):
            if not condition.value:
                return condition
            continue
        asked = condition if asked is None else asked & condition
    return asked


# Comparisons, as they come out for constants.
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}
_COUNTED: Mapping[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    # Indices are never negative, so both roundings are one.
    "quotient": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "minimum": min,
    "maximum": max,
}


def _counted(function: str, a: Expr, b: Expr) -> Expr | None:
    """What counting gives at once: constants are put together, neutral ones dropped."""
    x = int(a.value) if isinstance(a, Const) else None
    y = int(b.value) if isinstance(b, Const) else None
    if x is not None and y is not None and function in _COUNTED:
        return index(_COUNTED[function](x, y))
    match function, x, y:
        case ("add", 0, _) | ("multiply", 1, _):
            return b
        case ("add" | "subtract", _, 0) | ("multiply" | "quotient", _, 1):
            return a
        case ("multiply", 0, _) | ("multiply", _, 0) | ("remainder", _, 1):
            return index(0)
        case _:
            return None
