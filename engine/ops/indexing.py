"""Choosing entries by number: take and what undoes it, one-hot vectors, the largest entries."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import F32, Element, Label, TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import along, expr, loops, nests, np
from fml.engine.ops.precision import NARROW
from fml.engine.ops.record import Array, Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.samples import draw, labels, sample, whole

if TYPE_CHECKING:
    from fml.engine.ops.build import Value


def _infer_take(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    x, indices = inputs
    axis = rules.require_axis("take", x, rules.as_int(attributes["axis"]))
    rules.indices("take", indices, 1)
    classes = indices.element.classes if isinstance(indices.element, Label) else None
    if classes is not None and classes != x.shape[axis]:
        message = f"labels of {classes} classes choose from an axis of {x.shape[axis]} entries"
        raise OpTypeError("E0314", message, (0, 1), "make the axis as long as there are classes")
    return x.with_shape(rules.with_axis(x.shape, axis, *indices.shape))


def _take(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    x, indices = inputs
    axis = rules.as_int(attributes["axis"])
    if x.shape[axis] == 0:
        return np.zeros(result.sizes, result.dtype)
    return np.asarray(np.take(x, indices, axis, mode="clip"))


def _take_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    axis = rules.as_int(attributes["axis"])
    end = axis + inputs[1].rank
    size = inputs[0].sizes[axis]

    x, indices = nests.inputs_of(inputs)

    def value(at: "nests.Indices") -> "nests.Expr":
        if size == 0:
            return expr.constant(0, nests.computed_as(result))
        return x(*at[:axis], _inside(indices(*at[axis:end]), size), *at[end:])

    return nests.pull(inputs, result, value)


def _inside(number: "nests.Expr", size: int) -> "nests.Expr":
    """The place of an entry that a number chooses: the nearest inside."""
    place = expr.convert(number, expr.INDEX)
    return expr.minimum(expr.maximum(place, 0), size - 1)


def _taken_by_sample(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    # Samples choose from what all share, or from every sample the same is chosen.
    return follow == frozenset({1 if rules.as_int(attributes["axis"]) == 0 else 0})


def _take_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    x, indices = call.inputs
    axis = rules.as_int(call.attributes["axis"])
    return g.call("take_adjoint", indices, axis=axis, size=x.type.shape[axis]), None


def _infer_take_adjoint(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    g, indices = inputs
    rules.numbers("take_adjoint", [g])
    rules.indices("take_adjoint", indices, 1)
    axis, size = rules.as_int(attributes["axis"]), rules.as_dim(attributes["size"])
    if g.shape[axis : axis + indices.rank] != indices.shape:
        message = f"`take_adjoint`: axes from {axis} on of {g} are not those of {indices}"
        raise OpTypeError("E0308", message, (0, 1), "give the gradient of a `take`")
    return g.with_shape((*g.shape[:axis], size, *g.shape[axis + indices.rank :]))


def _take_adjoint(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    g, indices = inputs
    axis, sizes = rules.as_int(attributes["axis"]), result.sizes
    before, after = sizes[:axis], sizes[axis + 1 :]
    outer, size, inner = int(np.prod(before)), sizes[axis], int(np.prod(after))
    total = np.zeros(outer * size * inner, result.dtype)
    if g.size:
        # One list of places in one list of numbers: numpy adds that up several times faster.
        chosen = np.clip(indices.reshape(1, -1, 1), 0, size - 1).astype(np.int64)
        places = (np.arange(outer).reshape(-1, 1, 1) * size + chosen) * inner + np.arange(inner)
        np.add.at(total, places.reshape(-1), g.reshape(-1))
    return total.reshape(sizes)


def _take_adjoint_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest | loops.Kernel":
    axis, indices = rules.as_int(attributes["axis"]), inputs[1]
    if result.element in NARROW:
        # Sums must not be rounded in between, and so each entry looks for what belongs to it.
        g, indices = nests.inputs_of(inputs)

        def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
            here = _inside(indices(*over), result.sizes[axis]).equals(at[axis])
            return g(*at[:axis], *over, *at[axis + 1 :], guard=here)

        return nests.fold(inputs, result, indices.sizes, value)
    return _added_up(inputs, axis, result)


def _added_up(inputs: Sequence[TensorType], axis: int, result: TensorType) -> "loops.Kernel":
    """The entries of g added to zeros, one index after another."""
    g, indices, out = nests.buffers_for(inputs, result)
    sizes, count = result.sizes, rules.entries(inputs[1])
    before, size, inner = math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :])
    o, k, i, chosen = (expr.Var(name) for name in ("o", "k", "i", "chosen"))
    to = (o * size + chosen) * inner + i
    total = expr.Load(out, to) + expr.Load(g, (o * count + k) * inner + i)
    zeros = loops.loop(
        "i", size * inner,
        [loops.Store(out, o * (size * inner) + i, expr.constant(0, nests.computed_as(result)))],
        i, along.LANES,
    )  # fmt: skip
    one = (
        loops.Let(chosen, _inside(expr.Load(indices, k), size)),
        loops.loop("i", inner, [loops.Store(out, to, total)], i, along.LANES if inner > 1 else 1),
    )
    body = (zeros, loops.loop("k", count, one, k))
    return loops.Kernel("take_adjoint", (g, indices, out), (loops.loop("o", before, body, o),))


def _take_adjoint_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    return g.call("take", call.inputs[1], axis=call.attributes["axis"]), None


def _infer_one_hot(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    element = rules.as_element(attributes["element"])
    if not isinstance(x.element, Label):
        message = f"`one_hot` takes labels, found {x}"
        raise OpTypeError("E0306", message, (0,), "declare it as a label, for instance `label[10]`")
    return TensorType(element, (*x.shape, x.element.classes))


def _one_hot(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    classes = np.arange(result.sizes[-1])
    return np.equal(inputs[0][..., np.newaxis], classes).astype(result.dtype)


def _one_hot_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    (x,) = nests.inputs_of(inputs)

    def value(at: "nests.Indices") -> "nests.Expr":
        hit = x(*at[:-1]).equals(expr.convert(at[-1], Element.I32))
        return expr.convert(hit, nests.computed_as(result))

    return nests.pull(inputs, result, value)


def _take_samples(rng: Generator) -> Sequence[Sample]:
    return [
        sample([draw(rng, (5,)), whole(rng, (3,), 0, 5)], {"axis": 0}),
        sample([draw(rng, (4, 3)), whole(rng, (), 0, 3)], {"axis": 1}),
        sample([draw(rng, (3, 4, 2)), whole(rng, (2, 3), 0, 4)], {"axis": 1}),
        sample([draw(rng, (3, 2)), whole(rng, (5,), 0, 3)], {"axis": 0}, [F32, labels(3)]),
        sample([draw(rng, (3, 2)), whole(rng, (0,), 0, 3)], {"axis": 0}),
    ]


def _take_adjoint_samples(rng: Generator) -> Sequence[Sample]:
    size = Dim.of(4)
    return [
        sample([draw(rng, (3,)), whole(rng, (3,), 0, 4)], {"axis": 0, "size": size}),
        sample([draw(rng, (2,)), whole(rng, (), 0, 4)], {"axis": 1, "size": size}),
        sample([draw(rng, (3, 2, 3, 2)), whole(rng, (2, 3), 0, 4)], {"axis": 1, "size": size}),
        sample([draw(rng, (0, 2)), whole(rng, (0,), 0, 4)], {"axis": 0, "size": size}),
    ]


def _one_hot_samples(rng: Generator) -> Sequence[Sample]:
    return [
        sample([whole(rng, sizes, 0, 3)], {"element": element}, [labels(3)])
        for sizes in ((), (7,), (2, 3), (0,))
        for element in (F32, Element.BOOL)
    ]


def _infer_top_k(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    rules.numbers("top_k", inputs)
    axis = rules.require_axis("top_k", x, rules.as_int(attributes["axis"]))
    k, size = rules.as_dim(attributes["k"]), x.shape[axis]
    room = (size - k).constant
    if room is not None and room < 0:
        message = f"`top_k` of {k} entries along axis {axis} of {x}, which has {size}"
        raise OpTypeError("E0313", message, (0,), "k is at most the size of the axis")
    return TensorType(Label(size), rules.with_axis(x.shape, axis, k))


def _top_k(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    axis, k = rules.as_int(attributes["axis"]), rules.as_int(attributes["k"])
    # Sorted upwards from behind, equal ones come out in their order in the end.
    upwards = np.argsort(np.flip(inputs[0], axis), axis, kind="stable")
    last = inputs[0].shape[axis] - 1
    downwards = last - np.flip(upwards, axis)
    return np.take(downwards, np.arange(k), axis).astype(result.dtype)


def _top_k_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "loops.Kernel":
    axis, k = rules.as_int(attributes["axis"]), rules.as_int(attributes["k"])
    return along.largest(inputs[0], axis, k, result)


def _top_k_samples(rng: Generator) -> Sequence[Sample]:
    cases = (((5,), 0, 2), ((3, 5), 1, 5), ((4, 3), 0, 1), ((0, 3), 1, 2), ((3, 2), 1, 0))
    return [sample([draw(rng, sizes)], {"axis": axis, "k": Dim.of(k)}) for sizes, axis, k in cases]


TAKE = Op(
    name="take",
    doc="Entries of x along an axis, by number; a number outside counts as the nearest inside.",
    signature="(x: any[...], indices: index[...], axis) -> any[...]",
    infer=_infer_take,
    compute=_take,
    nest=_take_nest,
    samples=_take_samples,
    gradient=_take_gradient,
    by_sample=_taken_by_sample,
)
TAKE_ADJOINT = Op(
    name="take_adjoint",
    doc="Entries of g added up at the places that `take` took them from.",
    signature="(g: number[...], indices: index[...], axis, size) -> number[...]",
    infer=_infer_take_adjoint,
    compute=_take_adjoint,
    nest=_take_adjoint_nest,
    samples=_take_adjoint_samples,
    gradient=_take_adjoint_gradient,
    flops=lambda inputs, attributes, result: rules.entries(inputs[0]),
)
ONE_HOT = Op(
    name="one_hot",
    doc="A vector per label, 1 at its class and 0 elsewhere.",
    signature="(y: label[K][...], element) -> element[..., K]",
    infer=_infer_one_hot,
    compute=_one_hot,
    nest=_one_hot_nest,
    samples=_one_hot_samples,
    undifferentiable="its input is a class number",
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: rules.entries(result),
)
TOP_K = Op(
    name="top_k",
    doc="Places of the k largest entries along an axis, from the largest on; NaN is the largest.",
    signature="(x: number[..., K], axis, k) -> label[K][..., k]",
    infer=_infer_top_k,
    compute=_top_k,
    nest=_top_k_nest,
    samples=_top_k_samples,
    undifferentiable="its result is a class number",
    by_sample=rules.by_other_axes,
    flops=lambda inputs, attributes, result: rules.entries(inputs[0]),
)

OPS = (TAKE, TAKE_ADJOINT, ONE_HOT, TOP_K)
