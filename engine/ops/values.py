"""Operations that make or convert values: constants, dimensions, casts, stopped gradients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import BOOL, F32, Element, TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import expr, loops, nests, np
from fml.engine.ops.record import Array, Call, Generator, Op, Sample, given_type
from fml.engine.ops.samples import SHAPES, coin, draw, labels, sample, whole

if TYPE_CHECKING:
    from fml.engine.ops.build import Value


def _infer_cast(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.require_count("cast", inputs, 1)
    return inputs[0].with_element(rules.as_element(attributes["element"]))


def _cast(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    if result.element is BOOL:
        return np.not_equal(inputs[0], 0)
    with np.errstate(all="ignore"):
        if inputs[0].dtype.kind == "f" and result.dtype.kind in "iu":
            return _whole(inputs[0], result.dtype)
        return inputs[0].astype(result.dtype)


def _whole(x: Array, dtype: "np.dtype[Any]") -> Array:
    """Floats without their fraction; what lies outside is the nearest inside, and NaN is 0."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    whole = np.trunc(x)
    # The largest integer is no float, but the one behind it is a power of 2.
    high, low = whole >= float(most + 1), whole < float(least)
    inside = np.where(high | low | np.isnan(x), 0, whole).astype(dtype)
    return np.where(high, dtype.type(most), np.where(low, dtype.type(least), inside))


def _cast_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    element = nests.computed_as(result)

    (x,) = nests.inputs_of(inputs)

    def value(at: "nests.Indices") -> "nests.Expr":
        entry = x(*at)
        saturates = element.is_integer and entry.type.is_float
        return _whole_entry(entry, element) if saturates else expr.convert(entry, element)

    return nests.pull(inputs, result, value)


def _whole_entry(x: "nests.Expr", element: Element) -> "nests.Expr":
    """What `_whole` makes of one entry."""
    least, most = expr.limits(element)
    high, low = x >= float(most + 1), x < float(least)
    inside = expr.select(high | low | x.differs(x), 0, x)
    made = expr.select(high, most, expr.convert(inside, element))
    return expr.select(low, least, made)


def _cast_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    (x,) = call.inputs
    if not isinstance(x.type.element, Element) or not x.type.is_float:
        return (None,)
    return (g.call("cast", element=x.type.element),)


def _cast_samples(rng: Generator) -> Sequence[Sample]:
    to_f32, to_i32 = {"element": F32}, {"element": Element.I32}
    # Differences are taken in f64, which `to_f32` would round away.
    smooth = [sample([draw(rng, sizes)], {"element": Element.F64}) for sizes in SHAPES]
    rough = [
        sample([whole(rng, (3, 5))], to_f32),
        sample([coin(rng, (7,))], to_f32),
        sample([whole(rng, (7,))], {"element": BOOL}),
        sample([draw(rng, (7,))], to_i32, smooth=False),
        sample([whole(rng, (4,), 0, 3)], to_i32, [labels(3)]),
    ]
    return [*smooth, *rough]


def _infer_same(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.require_count("stop_gradient", inputs, 1)
    return inputs[0]


def _same_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    (x,) = nests.inputs_of(inputs)
    return nests.pull(inputs, result, lambda at: x(*at))


def _constant(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    # A number fills the type; nested tuples have its shape.
    filled = np.empty(result.sizes, result.dtype)
    filled[...] = np.asarray(attributes["value"], result.dtype)
    return filled


def _constant_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest | loops.Kernel":
    value, element = attributes["value"], nests.computed_as(result)
    if isinstance(value, int | float):
        return nests.pull(inputs, result, lambda at: expr.constant(value, element))
    (out,) = nests.buffers_for(inputs, result)
    entries = _constant((), attributes, result).reshape(-1).tolist()
    stores = (
        loops.Store(out, expr.index(place), expr.constant(entry, element))
        for place, entry in enumerate(entries)
    )
    return loops.Kernel("constant", (out,), tuple(stores))


def _constant_samples(rng: Generator) -> Sequence[Sample]:
    return [Sample((), (), {"value": 0.5}), Sample((), (), {"value": ((1.0, 2.0), (3.0, 4.0))})]


def _infer_dim_value(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.as_dim(attributes["dim"])
    return TensorType(rules.as_element(attributes.get("element", F32)))


def _dim_value(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.asarray(rules.as_int(attributes["dim"]), result.dtype)


def _dim_value_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    size = rules.as_int(attributes["dim"])
    return nests.pull(inputs, result, lambda at: expr.constant(size, nests.computed_as(result)))


def _infer_iota(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    size, element = rules.as_dim(attributes["size"]), rules.as_element(attributes["element"])
    return TensorType(element, (size,))


def _iota(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.arange(result.sizes[0]).astype(result.dtype)


def _iota_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    element = nests.computed_as(result)
    return nests.pull(inputs, result, lambda at: expr.convert(at[0], element))


CAST = Op(
    name="cast",
    doc="The same numbers as another element; towards integers the fraction is dropped, what lies "
    "outside is the nearest inside, and NaN is 0.",
    signature="(x: any[...], element) -> element[...]",
    infer=_infer_cast,
    compute=_cast,
    nest=_cast_nest,
    samples=_cast_samples,
    gradient=_cast_gradient,
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: rules.entries(result),
    in_place=(0,),
)
STOP_GRADIENT = Op(
    name="stop_gradient",
    doc="x, taken as a constant by gradients.",
    signature="(x: any[...]) -> any[...]",
    infer=_infer_same,
    compute=lambda inputs, attributes, result: inputs[0],
    nest=_same_nest,
    samples=lambda rng: [
        sample([whole(rng, (3, 5))]), sample([whole(rng, (4,), 0, 3)], elements=[labels(3)]),
        sample([draw(rng, (0, 3))], smooth=False),
    ],
    gradient=lambda g, call: (None,),
    by_sample=rules.by_first(0),
    in_place=(0,),
)  # fmt: skip
CONSTANT = Op(
    name="constant",
    doc="A number that fills the type, or nested tuples of its shape.",
    signature="(value) -> any[...]",
    infer=given_type,
    compute=_constant,
    nest=_constant_nest,
    samples=_constant_samples,
    undifferentiable="it has no inputs",
)
DIM_VALUE = Op(
    name="dim_value",
    doc="A dimension as a number; an f32 where no element is given.",
    signature="(dim, element) -> element",
    infer=_infer_dim_value,
    compute=_dim_value,
    nest=_dim_value_nest,
    samples=lambda rng: [
        Sample((), (), {"dim": Dim.of(7)}),
        Sample((), (), {"dim": Dim.of(1 << 40), "element": Element.I64}),
    ],
    undifferentiable="it has no inputs",
)
IOTA = Op(
    name="iota",
    doc="0, 1, ..., size - 1.",
    signature="(size, element) -> element[size]",
    infer=_infer_iota,
    compute=_iota,
    nest=_iota_nest,
    samples=lambda rng: [
        Sample((), (), {"size": Dim.of(size), "element": element})
        for size in (0, 1, 7)
        for element in (F32, Element.I32)
    ],
    undifferentiable="it has no inputs",
)

OPS = (CAST, STOP_GRADIENT, CONSTANT, DIM_VALUE, IOTA)
