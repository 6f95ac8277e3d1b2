"""Operations that put tensors together and cut them: concat, slice, pad."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import expr, nests, np
from fml.engine.ops.record import Array, Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.samples import dims, draw, labels, one_of, sample, whole

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]


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

    xs = nests.inputs_of(inputs)

    def value(at: "nests.Indices") -> "nests.Expr":
        end = 0
        found: nests.Expr | None = None
        for x in xs:
            begin, end = end, end + x.sizes[axis]
            here = nests.moved(at, axis, lambda i, begin=begin: i - begin)
            if found is None:
                found = x(*here, guard=at[axis] < end)
                continue
            inside = x(*here, guard=expr.every([at[axis] >= begin, at[axis] < end]))
            found = expr.select(at[axis] < begin, found, inside)
        assert found is not None
        return found

    return nests.pull(inputs, result, value)


def _concat_gradient(g: "Value", call: Call) -> Gradients:
    axis, offset = rules.as_int(call.attributes["axis"]), Dim.of(0)
    pieces: list[Value | None] = []
    for x in call.inputs:
        end = offset + x.type.shape[axis]
        starts = rules.with_axis(dims(*[0] * g.type.rank), axis, offset)
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
    (x,) = nests.inputs_of(inputs)
    return nests.pull(
        inputs, result, lambda at: x(*(i + start for i, start in zip(at, starts, strict=True)))
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

    (x,) = nests.inputs_of(inputs)

    def value(at: "nests.Indices") -> "nests.Expr":
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
    samples=one_of([
        ((5,), {"starts": (1,), "stops": (4,)}), ((3, 5), {"starts": (0, 2), "stops": (3, 2)}),
        ((4, 3), {"starts": dims(1, 0), "stops": dims(4, 3)}), ((), {"starts": (), "stops": ()}),
        ((0, 3), {"starts": (0, 1), "stops": (0, 3)}),
    ]),
    gradient=_slice_gradient,
    by_sample=rules.by_same_first,
)  # fmt: skip
PAD = Op(
    name="pad",
    doc="x with `before[i]` and `after[i]` entries of `value` added along each axis i.",
    signature="(x: any[...], before, after, value) -> any[...]",
    infer=_infer_pad,
    compute=_pad,
    nest=_pad_nest,
    samples=one_of([
        ((5,), {"before": (1,), "after": (2,), "value": 0.0}),
        ((2, 3), {"before": (0, 2), "after": (1, 0), "value": -1.5}),
        ((0, 2), {"before": dims(1, 0), "after": dims(0, 0), "value": 7}),
        ((3, 2), {"before": (0, 1), "after": (0, 2), "value": 0.5}),
        ((), {"before": (), "after": (), "value": 1}),
    ]),
    gradient=_pad_gradient,
    by_sample=rules.by_same_first,
)  # fmt: skip

OPS = (CONCAT, SLICE, PAD)
