"""Operations that move all entries of a tensor: reshape, transpose, broadcast, flip, roll."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import sum_to
from fml.engine.ops.later import nests, np
from fml.engine.ops.record import Array, Call, Op, OpTypeError
from fml.engine.ops.samples import dims, one_of

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]


def _infer_reshape(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    shape = rules.as_dims(attributes["shape"])
    have, want = rules.product(inputs[0].shape), rules.product(shape)
    if have != want:
        message = f"{inputs[0]} has {have} entries, the shape {rules.show(shape)} has {want}"
        raise OpTypeError("E0307", message, (0,), "the numbers of entries must be equal")
    return inputs[0].with_shape(shape)


def _same_rank(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    return result.rank == inputs[0].rank


def _reshape_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    (x,) = nests.inputs_of(inputs)
    return nests.pull(inputs, result, lambda at: x.flat(nests.row_major(at, result.sizes)))


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
    (x,) = nests.inputs_of(inputs)
    return nests.pull(inputs, result, lambda at: x(*(at[place] for place in places)))


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
    (x,) = nests.inputs_of(inputs)
    return nests.pull(inputs, result, x.broadcast)


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
    (x,) = nests.inputs_of(inputs)
    return nests.pull(inputs, result, lambda at: x(*nests.moved(at, axis, lambda i: last - i)))


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
    samples=one_of([
        ((3, 4), {"shape": dims(2, 6)}), ((), {"shape": dims(1, 1)}), ((1, 1), {"shape": ()}),
        ((0, 3), {"shape": dims(5, 0)}), ((2, 6), {"shape": dims(2, 3, 2)}),
    ]),
    gradient=_reshape_gradient,
    by_sample=rules.by_same_first,
    in_place=(0,),
)  # fmt: skip
TRANSPOSE = Op(
    name="transpose",
    doc="The axes in another order: axis i of the result is axis `order[i]` of x.",
    signature="(x: any[...], order) -> any[...]",
    infer=_infer_transpose,
    compute=_transpose,
    nest=_transpose_nest,
    samples=one_of([
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
    samples=one_of([
        ((), {"shape": dims(3)}), ((3, 1), {"shape": dims(2, 3, 5)}), ((4,), {"shape": dims(4)}),
        ((1, 2), {"shape": dims(0, 2)}), ((0, 1), {"shape": dims(2, 0, 3)}),
    ]),
    gradient=lambda g, call: (sum_to(g, call.inputs[0].type),),
    by_sample=_same_rank,
)  # fmt: skip
FLIP = Op(
    name="flip",
    doc="The entries along an axis in reverse.",
    signature="(x: any[...], axis) -> any[...]",
    infer=_infer_flip,
    compute=_flip,
    nest=_flip_nest,
    samples=one_of([((5,), {"axis": 0}), ((2, 3), {"axis": 1}), ((3, 0), {"axis": 0})]),
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
    samples=one_of([
        ((5,), {"axis": 0, "shift": 2}), ((2, 3), {"axis": 1, "shift": -4}),
        ((3, 0), {"axis": 1, "shift": 1}),
    ]),
    gradient=_roll_gradient,
    by_sample=rules.by_other_axes,
)  # fmt: skip

OPS = (RESHAPE, TRANSPOSE, BROADCAST, FLIP, ROLL)
