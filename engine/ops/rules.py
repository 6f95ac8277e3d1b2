"""Rules about shapes and elements that the families of operations share.

Each raises `OpTypeError` with the places of the clashing operands and one way out.
"""

from collections.abc import Sequence
from typing import cast

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attribute, Attributes
from fml.engine.ir.types import BOOL, Element, ElementType, Label, TensorType
from fml.engine.ops.record import BySample, OpTypeError

Dims = tuple[Dim, ...]
ONE = Dim.of(1)


def is_number(element: ElementType) -> bool:
    """Whether it is a float or an integer."""
    return isinstance(element, Element) and element is not BOOL


def is_index(element: ElementType) -> bool:
    """Whether it can choose an entry: an integer or a class number."""
    return isinstance(element, Label) or element.is_integer


def product(dims: Sequence[Dim]) -> Dim:
    """Number of entries of a shape."""
    total = ONE
    for dim in dims:
        total = total * dim
    return total


def show(shape: Sequence[Dim]) -> str:
    """A shape as it is written in messages: `[N, 3]`."""
    return f"[{', '.join(map(str, shape))}]"


def floats(op: str, inputs: Sequence[TensorType]) -> None:
    """Require floating-point inputs (E0306)."""
    for place, type in enumerate(inputs):
        if not type.is_float:
            message = f"`{op}` takes floating-point numbers, found {type}"
            raise OpTypeError("E0306", message, (place,), "convert it first: `cast(x, f32)`")


def numbers(op: str, inputs: Sequence[TensorType]) -> None:
    """Require numbers: no booleans, no labels (E0306)."""
    for place, type in enumerate(inputs):
        if not is_number(type.element):
            kind = "labels" if isinstance(type.element, Label) else "booleans"
            message = f"`{op}` takes numbers, found {kind}: {type}"
            way_out = "`one_hot(y)` or `cast(y, f32)`" if kind == "labels" else "`cast(x, f32)`"
            raise OpTypeError("E0306", message, (place,), f"convert them first: {way_out}")


def booleans(op: str, inputs: Sequence[TensorType]) -> None:
    """Require booleans (E0306)."""
    for place, type in enumerate(inputs):
        if type.element is not BOOL:
            message = f"`{op}` takes booleans, found {type}"
            raise OpTypeError("E0306", message, (place,), "compare first, for instance `x > 0`")


def indices(op: str, type: TensorType, place: int) -> None:
    """Require integers or labels (E0306)."""
    if not is_index(type.element):
        message = f"`{op}` takes integers or labels as indices, found {type}"
        raise OpTypeError("E0306", message, (place,), "convert them first: `cast(i, i32)`")


def same_element(op: str, inputs: Sequence[TensorType], first: int = 0) -> ElementType:
    """Require one element in all inputs from `first` on, and return it (E0303)."""
    element = inputs[first].element
    for place, type in enumerate(inputs):
        if place > first and type.element != element:
            message = f"`{op}` needs operands of one element, found {element} and {type.element}"
            way_out = f"convert one of them: `cast(x, {_wanted(element, type.element)})`"
            raise OpTypeError("E0303", message, (first, place), way_out)
    return element


def _wanted(left: ElementType, right: ElementType) -> ElementType:
    floating = [e for e in (left, right) if isinstance(e, Element) and e.is_float]
    return floating[0] if floating else Element.F32


def broadcast_shapes(op: str, inputs: Sequence[TensorType]) -> Dims:
    """Join shapes as NumPy does, but stretch only a literal 1 or missing axes (E0302)."""
    shapes = [type.shape for type in inputs if type.shape]  # scalars go with every shape
    if not shapes:
        return ()
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    joined: list[Dim] = [ONE] * rank
    owner = [0] * rank
    for place, type in enumerate(inputs):
        for axis, dim in enumerate(type.shape, start=rank - type.rank):
            if dim in (joined[axis], ONE):
                continue
            if joined[axis] != ONE:
                raise _no_broadcast(op, inputs, (owner[axis], place), joined[axis], dim)
            joined[axis], owner[axis] = dim, place
    return tuple(joined)


def _no_broadcast(
    op: str, inputs: Sequence[TensorType], places: tuple[int, int], left: Dim, right: Dim
) -> OpTypeError:
    a, b = (inputs[place] for place in places)
    message = f"shapes do not broadcast in `{op}`: {a} and {b} have {left} and {right} on one axis"
    way_out = "only an axis of 1, or one that is missing at the front, is stretched"
    return OpTypeError("E0302", message, places, way_out)


def require_rank(op: str, type: TensorType, wanted: Sequence[int], place: int = 0) -> None:
    """Require one of these numbers of axes (E0304)."""
    if type.rank not in wanted:
        words = " or ".join(map(_axes, wanted))
        message = f"`{op}` takes {words} here, found {type}"
        raise OpTypeError("E0304", message, (place,), "`reshape` it first")


def _axes(count: int) -> str:
    return {0: "no axes", 1: "1 axis"}.get(count, f"{count} axes")


def require_axis(op: str, type: TensorType, axis: int) -> int:
    """Require an axis in 0 .. rank - 1, and return it (E0305)."""
    if not 0 <= axis < type.rank:
        message = f"`{op}` over axis {axis}, but {type} has {_axes(type.rank)}"
        raise OpTypeError("E0305", message, (0,), "axes are counted from 0")
    return axis


def require_axes(op: str, type: TensorType, axes: Sequence[int]) -> tuple[int, ...]:
    """Require different axes in 0 .. rank - 1, and return them (E0305)."""
    for axis in axes:
        require_axis(op, type, axis)
    if len(set(axes)) < len(axes):
        raise OpTypeError("E0305", f"`{op}` names an axis of {type} twice", (0,), "name it once")
    return tuple(axes)


def require_count(op: str, inputs: Sequence[TensorType], count: int) -> None:
    """Require this many inputs; anything else is a fault of who built the node."""
    if len(inputs) != count:
        raise TypeError(f"`{op}` takes {count} inputs, found {len(inputs)}")


def as_int(value: Attribute) -> int:
    """An attribute that is a whole number; TypeError otherwise."""
    if isinstance(value, Dim):
        value = value.size
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number is needed, found {value!r}")
    return value


def as_ints(value: Attribute) -> tuple[int, ...]:
    """An attribute that is a tuple of whole numbers (definite dimensions too)."""
    return tuple(as_int(part) for part in as_tuple(value))


def as_number(value: Attribute) -> float:
    """An attribute that is a number; TypeError otherwise."""
    if not isinstance(value, int | float):
        raise TypeError(f"a number is needed, found {value!r}")
    return value


def as_dim(value: Attribute) -> Dim:
    """An attribute that is a dimension or a whole number."""
    if isinstance(value, Dim):
        return value
    return Dim.of(as_int(value))


def as_dims(value: Attribute) -> Dims:
    """An attribute that is a tuple of dimensions or whole numbers."""
    return tuple(as_dim(part) for part in as_tuple(value))


def as_tuple(value: Attribute) -> tuple[Attribute, ...]:
    """An attribute that is a tuple; TypeError otherwise."""
    if not isinstance(value, tuple):
        raise TypeError(f"a tuple is needed, found {value!r}")
    return cast("tuple[Attribute, ...]", value)


def as_element(value: Attribute) -> Element:
    """An attribute that is an element; TypeError otherwise."""
    if not isinstance(value, Element):
        raise TypeError(f"an element is needed, found {value!r}")
    return value


def text(attributes: Attributes, name: str) -> str:
    """An attribute that is a string; TypeError otherwise."""
    value = attributes[name]
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a string, found {value!r}")
    return value


def entries(type: TensorType) -> int:
    """Number of entries of a definite type."""
    total = 1
    for size in type.sizes:
        total *= size
    return total


def with_axis(shape: Dims, axis: int, *dims: Dim) -> Dims:
    """The shape with these dimensions in the place of one axis."""
    return (*shape[:axis], *dims, *shape[axis + 1 :])


def by_first(*places: int) -> BySample:
    """Samples stay apart if exactly the inputs at these places hold them."""
    wanted = frozenset(places)
    return lambda inputs, attributes, result, follow: follow == wanted


def by_same_first(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    """Samples stay apart if entries keep their order and none of the first axis come or go."""
    return result.shape[0] == inputs[0].shape[0]


def by_other_axes(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    """Samples stay apart if every input holds them, and `axis` or `axes` is not theirs."""
    axes = as_ints(attributes["axes"]) if "axes" in attributes else (as_int(attributes["axis"]),)
    return len(follow) == len(inputs) and 0 not in axes
