"""Loop nests: what one entry of a result is, as an expression over its place.

An operation's record gives its nest once. `schedule.py` turns nests into statements; putting the
expression of one nest in the place of another's reads is what fusion does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fml.engine.ir.types import Element
from fml.engine.kernels.expr import (
    INDEX,
    Apply,
    Buffer,
    Const,
    Expr,
    Load,
    Local,
    Operand,
    Var,
    every,
    index,
    wide,
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop of a nest: a variable that runs from 0 to below `size`."""

    var: Var
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Read(Expr):
    """The entry of an input of the nest at these indices, or `otherwise` where the guard is false.

    Inputs are row-major; what is not asked for is not touched.
    """

    place: int
    indices: tuple[Expr, ...]
    element: Element
    guard: Expr | None = None
    otherwise: float = 0.0

    @property
    def type(self) -> Element:
        """The element that the entry is computed in."""
        return wide(self.element)


@dataclass(frozen=True, slots=True, eq=False)
class Total(Expr):
    """What the folded values of a nest came to, in its `finish`."""

    element: Element

    @property
    def type(self) -> Element:
        """Its element."""
        return self.element


@dataclass(frozen=True, slots=True)
class Operand_:
    """What a nest reads: its element and sizes."""

    element: Element
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nest:
    """For every place of `axes`: `finish` of the fold by `combine` of `value` over `over`.

    Without `over`, the value itself. `axes` are those of the result, the last one innermost in
    memory.

    Attributes:
        inputs: what `Read`s refer to by place.
        element: that of the result; the value is computed in `wide` of it.
    """

    inputs: tuple[Operand_, ...]
    element: Element
    axes: tuple[Axis, ...]
    value: Expr
    over: tuple[Axis, ...] = ()
    combine: str = "add"
    finish: Expr | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The result's."""
        return tuple(axis.size for axis in self.axes)


def axes_of(sizes: Sequence[int], prefix: str = "i") -> tuple[Axis, ...]:
    """Loops with new variables."""
    return tuple(Axis(Var(f"{prefix}{n}"), size) for n, size in enumerate(sizes))


def row_major(indices: Sequence[Expr], sizes: Sequence[int]) -> Expr:
    """The place of an entry in memory, counted in entries."""
    place: Expr = index(0)
    stride = 1
    for at, size in zip(reversed(indices), reversed(sizes), strict=True):
        place = at * stride + place if stride else place
        stride *= size
    return place


Rewrite = Callable[[Expr], Expr | None]


def rewritten(e: Expr, rewrite: Rewrite) -> Expr:
    """An expression in which each part for which `rewrite` has another is replaced.

    Parts of a replaced part are not looked at; what is used twice stays one object.
    """
    known: dict[int, Expr] = {}

    def visit(part: Expr) -> Expr:
        if id(part) not in known:
            found = rewrite(part)
            known[id(part)] = _rebuilt(part, visit) if found is None else found
        return known[id(part)]

    return visit(e)


def _rebuilt(e: Expr, visit: Callable[[Expr], Expr]) -> Expr:
    match e:
        case Apply(function, operands, element):
            parts = tuple(map(visit, operands))
            if all(a is b for a, b in zip(parts, operands, strict=True)):
                return e
            return _applied(function, parts, element)
        case Read(place, indices, element, guard, otherwise):
            asked = None if guard is None else visit(guard)
            return Read(place, tuple(map(visit, indices)), element, asked, otherwise)
        case Load(buffer, at, guard, otherwise):
            asked = None if guard is None else visit(guard)
            return Load(buffer, visit(at), asked, otherwise)
        case _:
            return e


def _applied(function: str, operands: tuple[Expr, ...], element: Element) -> Expr:
    """Build through the constructors, which put constants together."""
    from fml.engine.kernels import expr

    if len(operands) == 2 and element is INDEX:
        return expr.binary(function, *operands)
    if function in expr.COMPARISONS:
        return expr.compare(function, *operands)
    if function == "select":
        return expr.select(*operands)
    return Apply(function, operands, element)


def substituted(e: Expr, values: "dict[Var, Expr]") -> Expr:
    """An expression with variables replaced."""
    return rewritten(e, lambda part: values.get(part) if isinstance(part, Var) else None)


def reads(e: Expr) -> list[Read]:
    """Every read in it, once."""
    found: dict[int, Read] = {}

    def note(part: Expr) -> Expr | None:
        if isinstance(part, Read):
            found[id(part)] = part
        return None

    rewritten(e, note)
    return list(found.values())


_ = (Local, Buffer, Const, Operand, every, field)
