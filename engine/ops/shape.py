"""Operations that move entries without computing."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import sum_to
from fml.engine.ops.later import expr, nests, np
from fml.engine.ops.record import Array, Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.samples import draw, labels, sample, whole

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]


def _dims(*sizes: int) -> tuple[Dim, ...]:
    return tuple(map(Dim.of, sizes))


def _one(
    cases: Sequence[tuple[tuple[int, ...], Attributes]],
) -> Callable[[Generator], Sequence[Sample]]:
    return lambda rng: [sample([draw(rng, sizes)], attributes) for sizes, attributes in cases]


def _infer_reshape(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    shape = rules.as_dims(attributes["shape"])
    have, want = rules.product(inputs[0].shape), rules.product(shape)
    if have != want:
        message = f"{inputs[0]} has {have} entries, the shape {rules.show(shape)} has {want}"
        raise OpTypeError("E0307", message, (0,), "the numbers of entries must be equal")
    return inputs[0].with_shape(shape)


def _same_first(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    # Entries keep their order, and nothing is cut off or added in front.
    return result.shape[0] == inputs[0].shape[0]


def _same_rank(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    return result.rank == inputs[0].rank


def _reshape_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    return nests.pull(inputs, result, lambda at, x: x.flat(nests.row_major(at, result.sizes)))


def _reshape_gradient(g: "Value", call: Call) -> Gradients:
    return (g.call("reshape", shape=call.inputs[0].type.shape),)


def _infer_transpose(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    order = rules.require_axes("transpose", x, rules.as_ints(attributes["order"]))
    if len(order) != x.rank:
        message = f"`transpose` orders {len(order)} axes, but {x} has {x.rank}"
        raise OpTypeError("E0305", message, (0,), "name every axis once")
    return x.with_shape(tuple(x.shape[axis] for axis in order))


def _transpose(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.transpose(inputs[0], rules.as_ints(attributes["order"]))


def _transpose_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    order = rules.as_ints(attributes["order"])
    places = [order.index(axis) for axis in range(len(order))]
    return nests.pull(inputs, result, lambda at, x: x(*(at[place] for place in places)))


def _transpose_gradient(g: "Value", call: Call) -> Gradients:
    order = rules.as_ints(call.attributes["order"])
    return (g.call("transpose", order=tuple(order.index(axis) for axis in range(len(order)))),)


def _infer_broadcast(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    result = x.with_shape(rules.as_dims(attributes["shape"]))
    missing = result.rank - x.rank
    stretched = zip(x.shape, result.shape[max(missing, 0) :], strict=False)
    if missing < 0 or any(have not in (rules.ONE, want) for have, want in stretched):
        message = f"{x} does not broadcast to {rules.show(result.shape)}"
        way_out = "only an axis of 1, or one that is missing at the front, is stretched"
        raise OpTypeError("E0302", message, (0,), way_out)
    return result


def _broadcast(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.broadcast_to(inputs[0], result.sizes)


def _broadcast_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    return nests.pull(inputs, result, lambda at, x: x.broadcast(at))


def _infer_concat(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.same_element("concat", inputs)
    first = inputs[0]
    axis = rules.require_axis("concat", first, rules.as_int(attributes["axis"]))
    total = Dim.of(0)
    for place, type in enumerate(inputs):
        same = type.rank == first.rank and all(
            a == b
            for i, (a, b) in enumerate(zip(type.shape, first.shape, strict=True))
            if i != axis
        )
        if not same:
            message = f"`concat` along axis {axis}: the other axes of {first} and {type} differ"
            raise OpTypeError("E0308", message, (0, place), "make all axes but that one equal")
        total = total + type.shape[axis]
    return first.with_shape(rules.with_axis(first.shape, axis, total))


def _concat(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.concatenate(inputs, rules.as_int(attributes["axis"]))


def _concat_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    axis = rules.as_int(attributes["axis"])

    def value(at: "nests.Indices", *xs: "nests.Input") -> "nests.Expr":
        end = 0
        found: nests.Expr | None = None
        for x in xs:
            begin, end = end, end + x.sizes[axis]
            here = _moved(at, axis, lambda i, begin=begin: i - begin)
            if found is None:
                found = x(*here, guard=at[axis] < end)
                continue
            inside = x(*here, guard=expr.every([at[axis] >= begin, at[axis] < end]))
            found = expr.select(at[axis] < begin, found, inside)
        assert found is not None
        return found

    return nests.pull(inputs, result, value)


def _moved(
    at: "nests.Indices", axis: int, move: "Callable[[nests.Expr], nests.Expr]"
) -> "list[nests.Expr]":
    """Indices with that of one axis changed."""
    return [move(i) if place == axis else i for place, i in enumerate(at)]


def _concat_gradient(g: "Value", call: Call) -> Gradients:
    axis, offset = rules.as_int(call.attributes["axis"]), Dim.of(0)
    pieces: list[Value | None] = []
    for x in call.inputs:
        end = offset + x.type.shape[axis]
        starts = rules.with_axis(_dims(*[0] * g.type.rank), axis, offset)
        pieces.append(
            g.call("slice", starts=starts, stops=rules.with_axis(g.type.shape, axis, end))
        )
        offset = end
    return pieces


def _concat_samples(rng: Generator) -> Sequence[Sample]:
    classes = [whole(rng, (size,), 0, 3) for size in (2, 4)]
    return [
        sample([draw(rng, (3, size)) for size in (2, 0, 5)], {"axis": 1}),
        sample([draw(rng, (size, 2)) for size in (1, 3)], {"axis": 0}),
        sample([draw(rng, (4,))], {"axis": 0}),
        sample(classes, {"axis": 0}, [labels(3), labels(3)]),
    ]


def _infer_slice(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    starts, stops = (rules.as_dims(attributes[name]) for name in ("starts", "stops"))
    if not len(starts) == len(stops) == x.rank:
        raise TypeError(f"`slice` of {x} with {len(starts)} starts and {len(stops)} stops")
    for axis, (start, stop, dim) in enumerate(zip(starts, stops, x.shape, strict=True)):
        if any(_is_negative(room) for room in (start, stop - start, dim - stop)):
            message = f"the slice {start}:{stop} is outside axis {axis} of {x}"
            raise OpTypeError("E0309", message, (0,), f"a slice of this axis lies in 0 : {dim}")
    return x.with_shape(tuple(b - a for a, b in zip(starts, stops, strict=True)))


def _is_negative(dim: Dim) -> bool:
    return dim.constant is not None and dim.constant < 0


def _slice(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    starts, stops = (rules.as_ints(attributes[name]) for name in ("starts", "stops"))
    return inputs[0][tuple(map(slice, starts, stops))]


def _slice_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    starts = rules.as_ints(attributes["starts"])
    return nests.pull(
        inputs, result, lambda at, x: x(*(i + start for i, start in zip(at, starts, strict=True)))
    )


def _slice_gradient(g: "Value", call: Call) -> Gradients:
    starts, stops = (rules.as_dims(call.attributes[name]) for name in ("starts", "stops"))
    after = tuple(d - s for d, s in zip(call.inputs[0].type.shape, stops, strict=True))
    return (g.call("pad", before=starts, after=after, value=0.0),)


def _infer_pad(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    before, after = (rules.as_dims(attributes[name]) for name in ("before", "after"))
    if not len(before) == len(after) == x.rank:
        raise TypeError(f"`pad` of {x} with {len(before)} and {len(after)} widths")
    for axis, width in enumerate(zip(before, after, strict=True)):
        if any(map(_is_negative, width)):
            message = f"`pad` by {width[0]} and {width[1]} on axis {axis} of {x}"
            raise OpTypeError("E0309", message, (0,), "widths are at least 0; to cut, use a slice")
    return x.with_shape(tuple(a + d + b for a, d, b in zip(before, x.shape, after, strict=True)))


def _pad(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    before = rules.as_ints(attributes["before"])
    padded = np.full(result.sizes, attributes["value"], result.dtype)
    inside = tuple(slice(b, b + n) for b, n in zip(before, inputs[0].shape, strict=True))
    padded[inside] = inputs[0]
    return padded


def _pad_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    widths = [rules.as_ints(attributes[name]) for name in ("before", "after")]

    def value(at: "nests.Indices", x: "nests.Input") -> "nests.Expr":
        asked: list[nests.Expr] = []
        for i, size, before, after in zip(at, x.sizes, *widths, strict=True):
            asked += [i >= before] if before else []
            asked += [i < before + size] if after else []
        inside = (i - before for i, before in zip(at, widths[0], strict=True))
        return x(*inside, guard=expr.every(asked), otherwise=rules.as_number(attributes["value"]))

    return nests.pull(inputs, result, value)


def _pad_gradient(g: "Value", call: Call) -> Gradients:
    before = rules.as_dims(call.attributes["before"])
    stops = tuple(b + d for b, d in zip(before, call.inputs[0].type.shape, strict=True))
    return (g.call("slice", starts=before, stops=stops),)


def _infer_flip(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.require_axis("flip", inputs[0], rules.as_int(attributes["axis"]))
    return inputs[0]


def _flip(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.flip(inputs[0], rules.as_int(attributes["axis"]))


def _flip_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    axis = rules.as_int(attributes["axis"])
    last = nests.index(result.sizes[axis] - 1)
    return nests.pull(inputs, result, lambda at, x: x(*_moved(at, axis, lambda i: last - i)))


def _flip_gradient(g: "Value", call: Call) -> Gradients:
    return (g.call("flip", axis=call.attributes["axis"]),)


def _infer_roll(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.as_int(attributes["shift"])
    rules.require_axis("roll", inputs[0], rules.as_int(attributes["axis"]))
    return inputs[0]


def _roll(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    shift, axis = (rules.as_int(attributes[name]) for name in ("shift", "axis"))
    return np.roll(inputs[0], shift, axis)


def _roll_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    shift, axis = (rules.as_int(attributes[name]) for name in ("shift", "axis"))
    return nests.rolled(inputs, result, axis, shift)


def _roll_gradient(g: "Value", call: Call) -> Gradients:
    shift = -rules.as_int(call.attributes["shift"])
    return (g.call("roll", axis=call.attributes["axis"], shift=shift),)


RESHAPE = Op(
    name="reshape",
    doc="The same entries, in row-major order, in another shape.",
    signature="(x: any[...], shape) -> any[shape]",
    infer=_infer_reshape,
    compute=lambda inputs, attributes, result: inputs[0].reshape(result.sizes),
    nest=_reshape_nest,
    samples=_one([
        ((3, 4), {"shape": _dims(2, 6)}), ((), {"shape": _dims(1, 1)}), ((1, 1), {"shape": ()}),
        ((0, 3), {"shape": _dims(5, 0)}), ((2, 6), {"shape": _dims(2, 3, 2)}),
    ]),
    gradient=_reshape_gradient,
    by_sample=_same_first,
    in_place=(0,),
)  # fmt: skip
TRANSPOSE = Op(
    name="transpose",
    doc="The axes in another order: axis i of the result is axis `order[i]` of x.",
    signature="(x: any[...], order) -> any[...]",
    infer=_infer_transpose,
    compute=_transpose,
    nest=_transpose_nest,
    samples=_one([
        ((3, 5), {"order": (1, 0)}), ((2, 3, 4), {"order": (1, 2, 0)}), ((), {"order": ()}),
        ((0, 4), {"order": (1, 0)}), ((2, 3, 4), {"order": (0, 2, 1)}),
    ]),
    gradient=_transpose_gradient,
    by_sample=lambda inputs, attributes, result, follow: rules.as_ints(attributes["order"])[0] == 0,
)  # fmt: skip
BROADCAST = Op(
    name="broadcast",
    doc="x repeated along axes of 1 and along new leading axes.",
    signature="(x: any[...], shape) -> any[shape]",
    infer=_infer_broadcast,
    compute=_broadcast,
    nest=_broadcast_nest,
    samples=_one([
        ((), {"shape": _dims(3)}), ((3, 1), {"shape": _dims(2, 3, 5)}), ((4,), {"shape": _dims(4)}),
        ((1, 2), {"shape": _dims(0, 2)}), ((0, 1), {"shape": _dims(2, 0, 3)}),
    ]),
    gradient=lambda g, call: (sum_to(g, call.inputs[0].type),),
    by_sample=_same_rank,
)  # fmt: skip
CONCAT = Op(
    name="concat",
    doc="Tensors one after another along an axis.",
    signature="(*xs: any[...], axis) -> any[...]",
    infer=_infer_concat,
    compute=_concat,
    nest=_concat_nest,
    samples=_concat_samples,
    gradient=_concat_gradient,
    by_sample=rules.by_other_axes,
)
SLICE = Op(
    name="slice",
    doc="Entries `starts[i]` to `stops[i]` (exclusive) along each axis i.",
    signature="(x: any[...], starts, stops) -> any[...]",
    infer=_infer_slice,
    compute=_slice,
    nest=_slice_nest,
    samples=_one([
        ((5,), {"starts": (1,), "stops": (4,)}), ((3, 5), {"starts": (0, 2), "stops": (3, 2)}),
        ((4, 3), {"starts": _dims(1, 0), "stops": _dims(4, 3)}), ((), {"starts": (), "stops": ()}),
        ((0, 3), {"starts": (0, 1), "stops": (0, 3)}),
    ]),
    gradient=_slice_gradient,
    by_sample=_same_first,
)  # fmt: skip
PAD = Op(
    name="pad",
    doc="x with `before[i]` and `after[i]` entries of `value` added along each axis i.",
    signature="(x: any[...], before, after, value) -> any[...]",
    infer=_infer_pad,
    compute=_pad,
    nest=_pad_nest,
    samples=_one([
        ((5,), {"before": (1,), "after": (2,), "value": 0.0}),
        ((2, 3), {"before": (0, 2), "after": (1, 0), "value": -1.5}),
        ((0, 2), {"before": _dims(1, 0), "after": _dims(0, 0), "value": 7}),
        ((3, 2), {"before": (0, 1), "after": (0, 2), "value": 0.5}),
        ((), {"before": (), "after": (), "value": 1}),
    ]),
    gradient=_pad_gradient,
    by_sample=_same_first,
)  # fmt: skip
FLIP = Op(
    name="flip",
    doc="The entries along an axis in reverse.",
    signature="(x: any[...], axis) -> any[...]",
    infer=_infer_flip,
    compute=_flip,
    nest=_flip_nest,
    samples=_one([((5,), {"axis": 0}), ((2, 3), {"axis": 1}), ((3, 0), {"axis": 0})]),
    gradient=_flip_gradient,
    by_sample=rules.by_other_axes,
)
ROLL = Op(
    name="roll",
    doc="The entries along an axis, `shift` places further, those from the end at the beginning.",
    signature="(x: any[...], axis, shift) -> any[...]",
    infer=_infer_roll,
    compute=_roll,
    nest=_roll_nest,
    samples=_one([
        ((5,), {"axis": 0, "shift": 2}), ((2, 3), {"axis": 1, "shift": -4}),
        ((3, 0), {"axis": 1, "shift": 1}),
    ]),
    gradient=_roll_gradient,
    by_sample=rules.by_other_axes,
)  # fmt: skip

OPS = (RESHAPE, TRANSPOSE, BROADCAST, CONCAT, SLICE, PAD, FLIP, ROLL)
