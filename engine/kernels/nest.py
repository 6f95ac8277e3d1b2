"""Loop nests: what one entry of a result is, as an expression over its place.

An operation's record gives its nest once. `composing.py` turns one or several into statements,
putting the expression of one where another reads it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fml.engine.ir.types import Element, Label, TensorType
from fml.engine.kernels import expr
from fml.engine.kernels.affine import affine
from fml.engine.kernels.expr import INDEX, Apply, Buffer, Expr, Load, Var, index, wide

# Combines entries to the sum of their squared distances from their mean.
DEVIATIONS = "deviations"


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop of a nest: a variable that runs from 0 to below `size`."""

    var: Var
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Read(Expr):
    """An entry of an input of the nest, or `otherwise` where the guard is false.

    `indices` are its place along the axes; `flat`, where given, is the same place counted in
    row-major order. What the guard excludes is not touched.
    """

    place: int
    indices: tuple[Expr, ...]
    element: Element
    flat: Expr | None = None
    guard: Expr | None = None
    otherwise: float = 0.0

    @property
    def type(self) -> Element:
        """The element that the entry is computed in."""
        return wide(self.element)


@dataclass(frozen=True, slots=True, eq=False)
class Total(Expr):
    """What the folded values came to, in the `finish` of a nest."""

    element: Element

    @property
    def type(self) -> Element:
        """Its element."""
        return self.element


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a nest: called with indices, it gives the entry there."""

    place: int
    element: Element
    sizes: tuple[int, ...]

    def __call__(self, *indices: Expr, guard: Expr | None = None, otherwise: float = 0.0) -> Read:
        """The entry at these indices, one for each axis."""
        assert len(indices) == len(self.sizes)
        return Read(self.place, indices, self.element, None, guard, otherwise)

    def flat(self, at: Expr) -> Read:
        """The entry at a place counted in row-major order."""
        return Read(self.place, unflattened(at, self.sizes), self.element, at)

    def broadcast(self, indices: Sequence[Expr]) -> Read:
        """The entry that numpy's broadcasting has at the indices of a result of higher rank."""
        own = indices[len(indices) - len(self.sizes) :]
        return self(*(index(0) if n == 1 else i for i, n in zip(own, self.sizes, strict=True)))


@dataclass(frozen=True, slots=True)
class Nest:
    """For every place of `axes`: `finish` of the fold by `combine` of `value` over `over`.

    Without `over`, the value itself.

    Attributes:
        inputs: the types of what `Read`s refer to by place.
        element: that of the result; the value is computed in `wide` of it.
        axes: those of the result, in order; the last one is innermost in memory.
        combine: a key of `loops.IDENTITIES`, or `DEVIATIONS` in a fusion.
    """

    inputs: tuple[Input, ...]
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


def inputs_of(types: Sequence[TensorType]) -> tuple[Input, ...]:
    """The inputs of a nest, of definite types."""
    return tuple(Input(n, stored_as(t), t.sizes) for n, t in enumerate(types))


def stored_as(type: TensorType) -> Element:
    """The element that a type's entries are in memory: labels are whole numbers there."""
    return Element.I32 if isinstance(type.element, Label) else type.element


Indices: TypeAlias = Sequence[Var]


def computed_as(type: TensorType) -> Element:
    """The element that a type's entries are computed in."""
    return wide(stored_as(type))


def pull(
    inputs: Sequence[TensorType],
    result: TensorType,
    value: Callable[[Indices], Expr],
    sizes: Sequence[int] | None = None,
) -> Nest:
    """The nest of which `value` tells an entry, given its indices.

    `sizes`, where given, are the result's with an axis taken apart.
    """
    given, axes = inputs_of(inputs), axes_of(result.sizes if sizes is None else sizes)
    return Nest(given, stored_as(result), axes, value([axis.var for axis in axes]))


def fold(
    inputs: Sequence[TensorType],
    result: TensorType,
    reach: Sequence[int],
    value: Callable[[Indices, Indices], Expr],
    combine: str = "add",
    finish: Callable[[Expr], Expr] | None = None,
    sizes: Sequence[int] | None = None,
) -> Nest:
    """The nest that folds `value` over further axes, of the sizes `reach`.

    `value` is given the indices of the result and those of the further axes, `finish` what all
    came to. `sizes`, where given, are the result's with an axis taken apart.
    """
    over = axes_of(reach, "r")
    within = [axis.var for axis in over]
    one = pull(inputs, result, lambda at: value(at, within), sizes)
    ended = None if finish is None else finish(Total(one.value.type))
    return replace(one, over=over, combine=combine, finish=ended)


def moved(at: Indices, axis: int, move: Callable[[Expr], Expr]) -> list[Expr]:
    """Indices with that of one axis changed."""
    return [move(i) if place == axis else i for place, i in enumerate(at)]


def rolled(inputs: Sequence[TensorType], result: TensorType, axis: int, shift: int) -> Nest:
    """The entries along an axis, `shift` places further, those from the end at the beginning."""
    size = result.sizes[axis]
    back = shift % max(size, 1)
    (x,) = inputs_of(inputs)

    def before(i: Expr) -> Expr:
        return expr.select(i < back, i + (size - back), i - back)

    return pull(inputs, result, lambda at: x(*moved(at, axis, before)))


def buffers_for(inputs: Sequence[TensorType], result: TensorType) -> tuple[Buffer, ...]:
    """The buffers of an operation's kernel: `in0`, `in1`, ..., `out`."""
    given = (Buffer(f"in{n}", stored_as(type)) for n, type in enumerate(inputs))
    return (*given, Buffer("out", stored_as(result)))


def axes_of(sizes: Sequence[int], prefix: str = "i") -> tuple[Axis, ...]:
    """Loops with new variables."""
    return tuple(Axis(Var(f"{prefix}{n}"), size) for n, size in enumerate(sizes))


def row_major(indices: Sequence[Expr], sizes: Sequence[int]) -> Expr:
    """The place of an entry, counted in row-major order."""
    place: Expr = index(0)
    stride = 1
    for at, size in zip(reversed(indices), reversed(sizes), strict=True):
        place = at * stride + place
        stride *= size
    return place


def unflattened(at: Expr, sizes: Sequence[int]) -> tuple[Expr, ...]:
    """The indices of a place counted in row-major order; what has no entries has no place."""
    found: list[Expr] = []
    stride = 1
    for axis, size in reversed(list(enumerate(max(size, 1) for size in sizes))):
        whole = at // stride
        found.append(whole % size if axis else whole)
        stride *= size
    return tuple(reversed(found))


def flat_place(read: Read, nest: Nest) -> Expr:
    """The place of a read of a nest, counted in row-major order."""
    return read.flat or row_major(read.indices, nest.inputs[read.place].sizes)


def is_by_columns(nest: Nest) -> bool:
    """Whether the innermost axis in memory of what a fold reads is one of its result's."""
    if not nest.axes:
        return False
    last, beside = nest.over[-1].var, nest.axes[-1].var
    rows = columns = 0
    for part in parts_of(nest.value):
        if isinstance(part, Read) and part.indices:
            at = affine(flat_place(part, nest))
            rows += at.stride(last) == 1
            columns += at.stride(beside) == 1
    return columns > rows


# --- rewriting ------------------------------------------------------------------------------------

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
            same = all(a is b for a, b in zip(parts, operands, strict=True))
            return e if same else _applied(function, parts, element)
        case Read(place, indices, element, flat, guard, otherwise):
            flat = None if flat is None else visit(flat)
            guard = None if guard is None else visit(guard)
            return Read(place, tuple(map(visit, indices)), element, flat, guard, otherwise)
        case Load(buffer, at, guard, otherwise):
            guard = None if guard is None else visit(guard)
            return Load(buffer, visit(at), guard, otherwise, e.ahead)
        case _:
            return e


def _applied(function: str, operands: tuple[Expr, ...], element: Element) -> Expr:
    """Build through the constructors, which put constants together."""
    if len(operands) == 2 and element is INDEX:
        return expr.binary(function, *operands)
    if function in expr.COMPARISONS:
        return expr.compare(function, *operands)
    if function == "select":
        return expr.select(*operands)
    return Apply(function, operands, element)


def substituted(e: Expr, values: dict[Var, Expr]) -> Expr:
    """An expression with variables replaced."""
    return rewritten(e, lambda part: values.get(part) if isinstance(part, Var) else None)


def parts_of(e: Expr) -> list[Expr]:
    """Every different object in an expression."""
    found: dict[int, Expr] = {}

    def note(part: Expr) -> Expr | None:
        found[id(part)] = part
        return None

    rewritten(e, note)
    return list(found.values())


def loads_for_reads(e: Expr, inputs: Sequence[Input], buffers: Sequence[Buffer]) -> Expr:
    """An expression over entries of buffers instead of inputs."""

    def lower(part: Expr) -> Expr | None:
        if not isinstance(part, Read):
            return None
        at = part.flat or row_major(part.indices, inputs[part.place].sizes)
        guard = None if part.guard is None else rewritten(part.guard, lower)
        return Load(buffers[part.place], rewritten(at, lower), guard, part.otherwise)

    return rewritten(e, lower)
