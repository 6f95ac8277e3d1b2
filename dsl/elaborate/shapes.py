"""Primitives that move entries: shapes, joins, parts, padding, gathering."""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate import arithmetic, clock, reductions
from fml.dsl.elaborate.arithmetic import as_tensor, read, to_dim, whole_number
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.elaborate.statics import simplest
from fml.dsl.values import Any_, LearnersValue, Poison, Tensor, Tree, Unknown, describe
from fml.engine.ir.dims import Dim
from fml.engine.ir.types import Element
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

    Arguments = Mapping[str, Given]

ONE = Dim.of(1)


def _x(s: Session, bound: "Arguments") -> Tensor:
    return as_tensor(s, bound["x"].value, bound["x"].at)


def _axis(s: Session, tensor: Tensor, bound: "Arguments", e: ast.Expression) -> int:
    """The axis that `over` names; the last if it is left out."""
    return reductions.axis_of(s, tensor, _given(bound, "over"), e)


def _parts(value: Any_) -> tuple[Any_, ...]:
    return cast("tuple[Any_, ...]", value) if isinstance(value, tuple) else (value,)


def _dims(s: Session, value: Any_, at: ast.Expression) -> tuple[Dim, ...]:
    parts = _parts(value)
    written = at.items if isinstance(at, ast.ListOf) and len(at.items) == len(parts) else ()
    places = written or (at,) * len(parts)
    dims = [to_dim(s, part, place) for part, place in zip(parts, places, strict=True)]
    if any(isinstance(dim, Poison) for dim in dims):
        raise Failed
    return tuple(cast("list[Dim]", dims))


def _with_axis(shape: tuple[Dim, ...], axis: int, *dims: Dim) -> tuple[Dim, ...]:
    return (*shape[:axis], *dims, *shape[axis + 1 :])


def _cut(s: Session, x: Value, axis: int, low: Dim, high: Dim, e: ast.Expression) -> Tensor:
    zero = Dim.of(0)
    starts = _with_axis((zero,) * x.type.rank, axis, low)
    stops = _with_axis(x.type.shape, axis, high)
    return s.op("slice", (x,), (e,), starts=starts, stops=stops)


# --- the same entries in another shape -----------------------------------------------------------


def reshape(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`reshape(x, [N, 4])`; `reshape(x, y)` takes the shape of y."""
    like = read(s, bound["shape"].value)
    shape = like.type.shape if isinstance(like, Tensor) else _dims(s, like, bound["shape"].at)
    x = _x(s, bound)
    if s.region.statistics is not None and shape[:1] != x.type.shape[:1]:
        raise s.report(
            "E0307", f"the shape [{', '.join(map(str, shape))}] has no place for the samples of "
            f"{x.type}", [bound["shape"].at],
            help="leave `reshape` out: a field of several axes, `x: f32[28, 28, 1]`, takes a list "
            "of columns of as many entries as it is, the last axis fastest",
        )  # fmt: skip
    return s.op("reshape", (x.value,), (bound["x"].at,), shape=shape)


def flatten(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`flatten(x)`: all axes but the first made one."""
    tensor = _x(s, bound)
    if not tensor.type.rank:
        raise s.report(
            "E0304", "`flatten` keeps the first axis, and this has none", [bound["x"].at]
        )
    first, *rest = tensor.type.shape
    return s.op("reshape", (tensor.value,), (e,), shape=(first, prod(rest, start=ONE)))


def transpose(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`transpose(x, order = [1, 0])`; without an order, the axes in reverse."""
    tensor = _x(s, bound)
    axes = tuple(reversed(range(tensor.type.rank)))
    if "order" in bound:
        at = bound["order"].at
        axes = tuple(reductions.axis_of(s, tensor, i, at) for i in _parts(bound["order"].value))
    return s.op("transpose", (tensor.value,), (e,), order=axes)


def expand(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`expand(x, over, size = 1)`: a new axis at this place of the result; last if left out."""
    tensor = _x(s, bound)
    axis = arithmetic.new_axis(s, tensor.type.rank, _given(bound, "over"), e)
    shape = (*tensor.type.shape[:axis], ONE, *tensor.type.shape[axis:])
    made = s.op("reshape", (tensor.value,), (e,), shape=shape)
    if "size" not in bound:
        return made
    (size,) = _dims(s, (bound["size"].value,), bound["size"].at)
    return s.op("broadcast", (made.value,), (e,), shape=_with_axis(shape, axis, size))


def _given(bound: "Arguments", name: str) -> Any_ | None:
    return bound[name].value if name in bound else None


def squeeze(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`squeeze(x, over)`: without these axes, which are 1; without all such if left out."""
    tensor = _x(s, bound)
    dims = tensor.type.shape
    if "over" not in bound:
        axes = tuple(axis for axis, dim in enumerate(dims) if dim == ONE)
    else:
        axes = reductions.axes_of(s, tensor, bound["over"].value, e)
    for axis in axes:
        if dims[axis] != ONE:
            raise s.report(
                "E0305", f"axis {axis} of {s.type_text(tensor.value)} is not 1", [e],
                notes=s.origin_notes(tensor.value), help="only an axis of 1 can be left out",
            )  # fmt: skip
    shape = tuple(dim for axis, dim in enumerate(dims) if axis not in axes)
    return s.op("reshape", (tensor.value,), (e,), shape=shape)


# --- parts and joins -----------------------------------------------------------------------------


def joined(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`concat([a, b], over)` along an axis, `stack([a, b], over)` along a new one."""
    items, at = bound["items"].value, bound["items"].at
    if not isinstance(items, tuple):
        raise s.report("E0402", f"`{p.name}` takes a list, found {describe(items)}", [at])
    parts = cast("tuple[Any_, ...]", items)
    element = clock.common_element(parts)
    if p.name == "stack":
        return arithmetic.stack(s, parts, at, element, _given(bound, "over"))
    tensors = [as_tensor(s, item, at, element) for item in parts]
    if not tensors:
        raise s.report("E0402", "there is nothing to join", [at])
    axis = _axis(s, tensors[0], bound, e)
    return s.op("concat", tuple(t.value for t in tensors), (at,), axis=axis)


def split(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`split(x, 3, over)`: a list of equal parts; `split(x, [2, 5], over)`: of these sizes."""
    tensor = _x(s, bound)
    axis = _axis(s, tensor, bound, e)
    size = tensor.type.shape[axis]
    at = bound["into"].at
    if isinstance(bound["into"].value, tuple):
        sizes = _dims(s, bound["into"].value, at)
    else:
        count = whole_number(s, bound["into"], "into", 1)
        if count is None:
            raise Failed
        sizes = _dims(s, (simplest(size / count),), at) * count
    if sum(sizes, Dim.of(0)) != size:
        written = " + ".join(map(str, sizes)) or "no"
        raise s.report(
            "E0309", f"parts of {written} entries do not make up axis {axis}, which has {size}",
            [at], notes=s.origin_notes(tensor.value), help="the parts must add up to the axis",
        )  # fmt: skip
    start, parts = Dim.of(0), list[Tensor]()
    for part in sizes:
        parts.append(_cut(s, tensor.value, axis, start, start + part, e))
        start = start + part
    return tuple(parts)


def tile(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`tile(x, 3, over)`: x three times, one behind the other."""
    tensor = _x(s, bound)
    axis = _axis(s, tensor, bound, e)
    (times,) = _dims(s, (bound["times"].value,), bound["times"].at)
    dims = tensor.type.shape
    if not dims:
        raise s.report("E0304", "`tile` repeats along an axis, and this has none", [e])
    apart = s.op("reshape", (tensor.value,), (e,), shape=_with_axis(dims, axis, ONE, dims[axis]))
    spread = _with_axis(dims, axis, times, dims[axis])
    repeated = s.op("broadcast", (apart.value,), (e,), shape=spread)
    return s.op(
        "reshape", (repeated.value,), (e,), shape=_with_axis(dims, axis, times * dims[axis])
    )


def pad(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`pad(x, 2, over = [1, 2], value = 0)`: entries before and behind, along all axes if left out.

    The width is a number for both ends or `[before, behind]`.
    """
    tensor, at = _x(s, bound), bound["width"].at
    rank = tensor.type.rank
    over = _given(bound, "over")
    axes = range(rank) if over is None else reductions.axes_of(s, tensor, over, e)
    ends = _dims(s, bound["width"].value, at)
    if len(ends) not in {1, 2}:
        raise s.report(
            "E0401", f"a width is a number or `[before, behind]`, found {len(ends)} numbers", [at]
        )
    value = bound["value"].value if "value" in bound else 0
    if isinstance(value, Unknown):
        raise Failed
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise s.report(
            "E0401", f"`value` is a number, found {describe(value)}", [bound["value"].at]
        )
    none = Dim.of(0)
    before, after = (
        tuple(width if axis in axes else none for axis in range(rank))
        for width in (ends[0], ends[-1])
    )
    return s.op("pad", (tensor.value,), (e,), before=before, after=after, value=value)


# --- order along an axis -------------------------------------------------------------------------


def flip(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`flip(x, over)`: the entries of an axis in reverse."""
    tensor = _x(s, bound)
    return s.op("flip", (tensor.value,), (e,), axis=_axis(s, tensor, bound, e))


def roll(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`roll(x, 1, over)` round an axis; with `over = learners`, round the learners."""
    value, by = read(s, bound["x"].value), whole_number(s, bound["by"], "by")
    if by is None:
        raise Failed
    if not isinstance(_given(bound, "over"), LearnersValue):
        tensor = as_tensor(s, value, e)
        return s.op("roll", (tensor.value,), (e,), axis=_axis(s, tensor, bound, e), shift=by)
    reductions.require_outside(s, e)
    if isinstance(value, Tree):
        return Tree({k: _round_learners(s, t, by, e) for k, t in value.items.items()})
    return _round_learners(s, as_tensor(s, value, e), by, e)


def _round_learners(s: Session, tensor: Tensor, by: int, e: ast.Expression) -> Tensor:
    if not tensor.value.node.mapped:
        raise s.report(
            "E0606", "every learner has the same value of this, so there is nothing to shift", [e],
            help="`over = learners` goes with `learners.NAME`",
        )  # fmt: skip
    return s.op("learners_roll", (tensor.value,), (e,), shift=by)


# --- choosing entries ----------------------------------------------------------------------------


def take(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`take(x, indices, over = 0)`."""
    tensor = _x(s, bound)
    indices = as_tensor(s, bound["indices"].value, bound["indices"].at, Element.I32)
    axis = reductions.axis_of(s, tensor, bound["over"].value if "over" in bound else 0, e)
    return s.op("take", (tensor.value, indices.value), (e,), axis=axis)


def gather(s: Session, x: Tensor, chosen: Mapping[int, Tensor], e: ast.Expression) -> Tensor:
    """`x[i, j]`: entries by tensors of indices, one for each of these axes, which broadcast.

    The axes of the indices stand where the first of the axes was. An index outside counts as the
    nearest inside, as in `take`.
    """
    first, *others = chosen
    if not others:
        return s.op("take", (x.value, chosen[first].value), (e,), axis=first)
    dims = x.type.shape
    rest = [axis for axis in range(first + 1, x.type.rank) if axis not in chosen]
    order = (*range(first), *chosen, *rest)
    moved = s.op("transpose", (x.value,), (e,), order=order)
    flat = (
        *dims[:first],
        prod((dims[axis] for axis in chosen), start=ONE),
        *(dims[axis] for axis in rest),
    )
    lined = s.op("reshape", (moved.value,), (e,), shape=flat)
    place = _number(s, x, first, chosen[first], e)
    for axis in others:
        size = s.builder.call("dim_value", dim=dims[axis], element=Element.I64)
        along = s.op("add", (place * size, _number(s, x, axis, chosen[axis], e)), (e, e))
        place = along.value
    return s.op("take", (lined.value, place), (e,), axis=first)


def _number(s: Session, x: Tensor, axis: int, index: Tensor, e: ast.Expression) -> Value:
    """An index as a whole number within its axis; `take` knows what may be an index."""
    inside = s.builder.call("iota", size=x.type.shape[axis], element=Element.I64)
    return s.op("take", (inside, index.value), (e,), axis=0).value


def top_k(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`top_k(x, k, over)`: a list of the k largest entries, largest first, and of their places."""
    tensor = _x(s, bound)
    axis = _axis(s, tensor, bound, e)
    (k,) = _dims(s, (bound["k"].value,), bound["k"].at)
    places = s.op("top_k", (tensor.value,), (bound["x"].at,), axis=axis, k=k)
    # Rows of the entries along the axis, and for each row its places.
    rank = tensor.type.rank
    order = (*(i for i in range(rank) if i != axis), axis)
    outer = tuple(tensor.type.shape[i] for i in order[:-1])
    rows = prod(outer, start=ONE)
    table, chosen = (
        v.call("transpose", order=order).call("reshape", shape=(rows, v.type.shape[axis]))
        for v in (tensor.value, places.value)
    )
    row = s.builder.call("iota", size=rows, element=Element.I64).call("reshape", shape=(rows, ONE))
    found = gather(s, Tensor(table), {0: Tensor(row), 1: Tensor(chosen)}, e).value
    back = tuple(order.index(i) for i in range(rank))
    largest = found.call("reshape", shape=(*outer, k)).call("transpose", order=back)
    return (Tensor(largest), places)
