"""Reductions over axes, running sums, and the class of the largest or smallest entry."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import BOOL, F32, Element, Label, TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import chosen, expand, kept, reshaped
from fml.engine.ops.later import along, expr, nests, np
from fml.engine.ops.record import Array, Call, Generator, NestOf, Op, OpTypeError, Sample
from fml.engine.ops.samples import coin, draw, sample, whole

if TYPE_CHECKING:
    from fml.engine.kernels import loops
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]
_CASES = (
    ((5,), (0,), False),
    ((3, 5), (1,), True),
    ((3, 5), (0, 1), False),
    ((2, 3, 4), (0, 2), True),
    ((2, 3, 4), (1,), False),
    ((0, 3), (1,), False),
    ((), (), False),
    ((1, 1), (0,), True),
)


def _reduced(
    op: str, x: TensorType, attributes: Attributes, nonempty: bool = False
) -> tuple[Dim, ...]:
    axes = rules.require_axes(op, x, rules.as_ints(attributes["axes"]))
    for axis in axes:
        _require_entries(op, x, axis, nonempty)
    if attributes["keep"]:
        return kept(x.shape, axes)
    return tuple(dim for axis, dim in enumerate(x.shape) if axis not in axes)


def _require_entries(op: str, x: TensorType, axis: int, nonempty: bool) -> None:
    if nonempty and x.shape[axis].size == 0:
        message = f"`{op}` over axis {axis} of {x}, which has no entries"
        raise OpTypeError("E0313", message, (0,), "there is no such entry: leave the axis out")


def _infer_sum(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    shape = _reduced("sum", x, attributes)
    if x.element is BOOL:
        return TensorType(F32, shape)
    rules.numbers("sum", inputs)
    # Sums of bytes would overflow at once.
    return TensorType(Element.I32 if x.element is Element.U8 else x.element, shape)


def _infer_numbers(op: str, nonempty: bool) -> Callable[..., TensorType]:
    def infer(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        rules.numbers(op, inputs)
        return inputs[0].with_shape(_reduced(op, inputs[0], attributes, nonempty))

    return infer


def _infer_booleans(op: str) -> Callable[..., TensorType]:
    def infer(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        rules.booleans(op, inputs)
        return inputs[0].with_shape(_reduced(op, inputs[0], attributes))

    return infer


def _reduce(name: str) -> Callable[..., Array]:
    """Reduce by the function that numpy calls so."""

    def compute(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
        axes, keep = rules.as_ints(attributes["axes"]), bool(attributes["keep"])
        with np.errstate(all="ignore"):
            reduced = getattr(np, name)(inputs[0], axis=axes, keepdims=keep)
            return np.asarray(reduced, result.dtype)

    return compute


def _fold(combine: str) -> NestOf:
    """Reduce by what `loops.Fold` calls so."""

    def nest(
        inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> "nests.Nest":
        over_axes = sorted(rules.as_ints(attributes["axes"]))

        (x,) = nests.inputs_of(inputs)

        def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
            folded = dict(zip(over_axes, over, strict=True))
            rest = iter(at)
            kept_places = attributes["keep"]
            places = [
                folded[axis] if axis in folded and not kept_places else next(rest)
                for axis in range(len(x.sizes))
            ]
            found = [folded.get(axis, i) for axis, i in enumerate(places)]
            return expr.convert(x(*found), nests.computed_as(result))

        reach = [inputs[0].sizes[axis] for axis in over_axes]
        return nests.fold(inputs, result, reach, value, combine)

    return nest


def _sum_gradient(g: "Value", call: Call) -> Gradients:
    x = call.inputs[0].type
    if not x.is_float:
        return (None,)
    return (expand(g, x.shape, rules.as_ints(call.attributes["axes"])),)


def _extreme_gradient(g: "Value", call: Call) -> Gradients:
    """Split the gradient equally between the entries that attain the extreme."""
    (x,), y = call.inputs, call.output
    axes = rules.as_ints(call.attributes["axes"])
    hit = x.call("equal", expand(y, x.type.shape, axes))
    ones = chosen(hit, 1.0, 0.0, like=x)
    count = ones.call("sum", axes=axes, keep=True)
    return (ones * (reshaped(g, kept(x.type.shape, axes)) / count),)


def _product_gradient(g: "Value", call: Call) -> Gradients:
    """Multiply all other entries, exactly, zeros included and in higher gradients too.

    The reduced axes become one of n entries; on its square the diagonal is replaced by 1.
    """
    (x,) = call.inputs
    axes = rules.as_ints(call.attributes["axes"])
    if not axes:
        return (g,)
    front = tuple(axis for axis in range(x.type.rank) if axis not in axes)
    order = (*front, *axes)
    moved = x.call("transpose", order=order)
    outer = moved.type.shape[: len(front)]
    n = rules.product(moved.type.shape[len(front) :])
    square = moved.call("reshape", shape=(*outer, Dim.of(1), n))
    square = square.call("broadcast", shape=(*outer, n, n))
    place = x.builder.call("iota", size=n, element=Element.I32)
    diagonal = place.call("reshape", shape=(n, Dim.of(1))).call("equal", place)
    others = chosen(diagonal, 1.0, square, like=x)
    others = others.call("product", axes=(len(outer) + 1,), keep=False)
    back = others.call("reshape", shape=moved.type.shape)
    back = back.call("transpose", order=tuple(order.index(axis) for axis in range(x.type.rank)))
    return (expand(g, x.type.shape, axes) * back,)


def _infer_position(op: str) -> Callable[..., TensorType]:
    def infer(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        (x,) = inputs
        rules.numbers(op, inputs)
        axis = rules.require_axis(op, x, rules.as_int(attributes["axis"]))
        _require_entries(op, x, axis, nonempty=True)
        return TensorType(Label(x.shape[axis]), rules.with_axis(x.shape, axis))

    return infer


def _position(name: str) -> Callable[..., Array]:
    """Find the entry by the function that numpy calls so."""

    def compute(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
        found = getattr(np, name)(inputs[0], rules.as_int(attributes["axis"]))
        return np.asarray(found, result.dtype)

    return compute


def _position_nest(beats: str) -> NestOf:
    """Find the first entry that no other beats."""

    def nest(
        inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> "loops.Kernel":
        return along.first(inputs[0], rules.as_int(attributes["axis"]), beats, result)

    return nest


def _infer_cumsum(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.numbers("cumsum", inputs)
    rules.require_axis("cumsum", inputs[0], rules.as_int(attributes["axis"]))
    return inputs[0]


def _cumsum(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.cumsum(inputs[0], rules.as_int(attributes["axis"]), dtype=result.dtype)


def _cumsum_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "loops.Kernel":
    return along.running_sums(inputs[0], rules.as_int(attributes["axis"]), result)


def _cumsum_gradient(g: "Value", call: Call) -> Gradients:
    axis = call.attributes["axis"]
    backwards = g.call("flip", axis=axis).call("cumsum", axis=axis)
    return (backwards.call("flip", axis=axis),)


def _numbers(rng: Generator) -> Sequence[Sample]:
    return [
        sample([draw(rng, sizes)], {"axes": axes, "keep": keep}) for sizes, axes, keep in _CASES
    ]


def _numbers_and_others(rng: Generator) -> Sequence[Sample]:
    how = {"axes": (0,), "keep": False}
    empty = sample([draw(rng, (0, 3))], how)
    return [*_numbers(rng), empty, sample([coin(rng, (7,))], how), sample([whole(rng, (7,))], how)]


def _coins(rng: Generator) -> Sequence[Sample]:
    return [
        sample([coin(rng, sizes)], {"axes": axes, "keep": keep}) for sizes, axes, keep in _CASES
    ]


def _along(rng: Generator) -> Sequence[Sample]:
    cases = (((5,), 0), ((3, 5), 0), ((3, 5), 1), ((0, 3), 1), ((2, 1, 3), 1))
    return [sample([draw(rng, sizes)], {"axis": axis}) for sizes, axis in cases]


def _count(inputs: Sequence[TensorType], attributes: Attributes, result: TensorType) -> int:
    return rules.entries(inputs[0])


SUM = Op(
    name="sum",
    doc="Sum over axes; booleans count in f32.",
    signature="(x: number[...], axes, keep) -> number[...]",
    infer=_infer_sum,
    compute=_reduce("sum"),
    nest=_fold("add"),
    samples=_numbers_and_others,
    gradient=_sum_gradient,
    by_sample=rules.by_other_axes,
    flops=_count,
)
PRODUCT = Op(
    name="product",
    doc="Product over axes.",
    signature="(x: number[...], axes, keep) -> number[...]",
    infer=_infer_numbers("product", nonempty=False),
    compute=_reduce("prod"),
    nest=_fold("multiply"),
    samples=_numbers,
    gradient=_product_gradient,
    by_sample=rules.by_other_axes,
    flops=_count,
)
MAX = Op(
    name="max",
    doc="Largest entry over axes; equal ones share the gradient.",
    signature="(x: number[...], axes, keep) -> number[...]",
    infer=_infer_numbers("max", nonempty=True),
    compute=_reduce("max"),
    nest=_fold("maximum"),
    samples=_numbers,
    gradient=_extreme_gradient,
    by_sample=rules.by_other_axes,
    flops=_count,
)
MIN = Op(
    name="min",
    doc="Smallest entry over axes; equal ones share the gradient.",
    signature="(x: number[...], axes, keep) -> number[...]",
    infer=_infer_numbers("min", nonempty=True),
    compute=_reduce("min"),
    nest=_fold("minimum"),
    samples=_numbers,
    gradient=_extreme_gradient,
    by_sample=rules.by_other_axes,
    flops=_count,
)
ANY = Op(
    name="any",
    doc="Whether one entry is true.",
    signature="(x: bool[...], axes, keep) -> bool[...]",
    infer=_infer_booleans("any"),
    compute=_reduce("any"),
    nest=_fold("or"),
    samples=_coins,
    undifferentiable="its result is a boolean",
    by_sample=rules.by_other_axes,
    flops=_count,
)
ALL = Op(
    name="all",
    doc="Whether every entry is true.",
    signature="(x: bool[...], axes, keep) -> bool[...]",
    infer=_infer_booleans("all"),
    compute=_reduce("all"),
    nest=_fold("and"),
    samples=_coins,
    undifferentiable="its result is a boolean",
    by_sample=rules.by_other_axes,
    flops=_count,
)
ARGMAX = Op(
    name="argmax",
    doc="Place of the largest entry along an axis, the first of equal ones.",
    signature="(x: number[..., K], axis) -> label[K][...]",
    infer=_infer_position("argmax"),
    compute=_position("argmax"),
    nest=_position_nest("greater"),
    samples=_along,
    undifferentiable="its result is a class number",
    by_sample=rules.by_other_axes,
    flops=_count,
)
ARGMIN = Op(
    name="argmin",
    doc="Place of the smallest entry along an axis, the first of equal ones.",
    signature="(x: number[..., K], axis) -> label[K][...]",
    infer=_infer_position("argmin"),
    compute=_position("argmin"),
    nest=_position_nest("less"),
    samples=_along,
    undifferentiable="its result is a class number",
    by_sample=rules.by_other_axes,
    flops=_count,
)
CUMSUM = Op(
    name="cumsum",
    doc="Sums of the first 1, 2, ... entries along an axis.",
    signature="(x: number[...], axis) -> number[...]",
    infer=_infer_cumsum,
    compute=_cumsum,
    nest=_cumsum_nest,
    samples=_along,
    gradient=_cumsum_gradient,
    by_sample=rules.by_other_axes,
    flops=_count,
)

OPS = (SUM, PRODUCT, MAX, MIN, ANY, ALL, ARGMAX, ARGMIN, CUMSUM)
