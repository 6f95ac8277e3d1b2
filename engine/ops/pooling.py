"""Pooling of images (channels last): sums and maxima of windows, with gradients to any order."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attribute, Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.geometry import NO_PADDING, Geometry
from fml.engine.ops.later import max_pool_nests, nests, np
from fml.engine.ops.record import Array, Call, Generator, Infer, NestOf, Op, OpTypeError, Sample
from fml.engine.ops.samples import draw, sample

if TYPE_CHECKING:
    from fml.engine.kernels.loops import Kernel
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]
_HOW = ("size", "stride", "padding")


def _how(attributes: Attributes) -> dict[str, Attribute]:
    return {name: attributes[name] for name in _HOW}


def _geometry(attributes: Attributes) -> Geometry:
    return Geometry.of(attributes, rules.as_dims(attributes["size"]))


def _infer_pool(op: str) -> Infer:
    def infer(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        rules.require_count(op, inputs, 1)
        return _pooled(op, inputs[0], attributes)

    return infer


def _pooled(op: str, x: TensorType, attributes: Attributes) -> TensorType:
    rules.require_rank(op, x, (4,))
    rules.floats(op, [x])
    return x.with_shape((x.shape[0], *_geometry(attributes).places(op, x), x.shape[3]))


def _require(op: str, wanted: TensorType, found: TensorType, place: int) -> None:
    if found != wanted:
        message = f"`{op}` takes {wanted} here, found {found}"
        raise OpTypeError("E0308", message, (place,), "give what the pooling gave")


def _over_windows(combine: str, otherwise: float) -> NestOf:
    """Fold the entries of every window; padding counts as `otherwise`."""

    def nest(
        inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> "nests.Nest":
        geometry, size = _geometry(attributes), rules.as_ints(attributes["size"])

        (x,) = nests.inputs_of(inputs)

        def value(at: "nests.Indices", tap: "nests.Indices") -> "nests.Expr":
            return geometry.met(x, at, tap, otherwise)

        return nests.fold(inputs, result, size, value, combine)

    return nest


# --- sums ----------------------------------------------------------------------------------------


def _window_sum(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    (x,), geometry = inputs, _geometry(attributes)
    room = geometry.room(x, 0)
    total = np.zeros(result.sizes, x.dtype)
    for _, _, met in geometry.taps(result.sizes[1:3]):
        total += room[met]
    return total


def _window_sum_gradient(g: "Value", call: Call) -> Gradients:
    shape = call.inputs[0].type.shape
    return (g.call("window_sum_adjoint", shape=shape, **_how(call.attributes)),)


def _infer_adjoint(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (g,) = inputs
    x = g.with_shape(rules.as_dims(attributes["shape"]))
    _require("window_sum_adjoint", _pooled("window_sum_adjoint", x, attributes), g, 0)
    return x


def _adjoint(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    (g,), geometry = inputs, _geometry(attributes)
    room = geometry.empty_room(result.sizes, g.dtype)
    for _, _, met in geometry.taps(g.shape[1:3]):
        room[met] += g
    return room[geometry.inside(result.sizes)]


def _adjoint_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    geometry, places, images = _geometry(attributes), inputs[0].sizes[1:3], result.sizes[1:3]

    (g,) = nests.inputs_of(inputs)

    def value(at: "nests.Indices", number: "nests.Indices") -> "nests.Expr":
        place, there_is = geometry.covering(places, images, at, number)
        return g(at[0], *place, at[3], guard=there_is)

    return nests.fold(inputs, result, geometry.covers, value)


def _adjoint_gradient(h: "Value", call: Call) -> Gradients:
    return (h.call("window_sum", **_how(call.attributes)),)


# --- maxima --------------------------------------------------------------------------------------


def _max_pool(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    (x,), geometry = inputs, _geometry(attributes)
    room = geometry.room(x, -np.inf)
    top = np.full(result.sizes, -np.inf, x.dtype)
    for _, _, met in geometry.taps(result.sizes[1:3]):
        np.maximum(top, room[met], out=top)
    return top


def _max_pool_gradient(g: "Value", call: Call) -> Gradients:
    (x,) = call.inputs
    return (g.call("max_pool_gradient", x, call.output, **_how(call.attributes)),)


def _infer_gradient(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    g, x, y = inputs
    pooled = _pooled("max_pool_gradient", x, attributes)
    _require("max_pool_gradient", pooled, y, 2)
    _require("max_pool_gradient", pooled, g, 0)
    return x


def _gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    g, x, y = inputs
    geometry = _geometry(attributes)
    room = geometry.empty_room(x.shape, g.dtype)
    hits = list(_hits(geometry, x, y))
    with np.errstate(all="ignore"):
        share = g / _count(hits, y)
        for met, hit in hits:
            room[met] += share * hit
    return room[geometry.inside(x.shape)]


def _maxima_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest | Kernel":
    return max_pool_nests.gradient(inputs, attributes, result)


def _hits(geometry: Geometry, x: Array, y: Array) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """For each entry of the window, what it meets and where it is the largest."""
    room = geometry.room(x, -np.inf)
    for _, _, met in geometry.taps(y.shape[1:3]):
        yield met, room[met] == y


def _count(hits: Sequence[tuple[tuple[slice, ...], Array]], y: Array) -> Array:
    """How many entries of each window are the largest."""
    count = np.zeros(y.shape, y.dtype)
    for _, hit in hits:
        count += hit
    return count


def _gradient_gradient(h: "Value", call: Call) -> Gradients:
    _, x, y = call.inputs
    return h.call("max_pool_pick", x, y, **_how(call.attributes)), None, None


def _infer_pick(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    h, x, y = inputs
    _require("max_pool_pick", _pooled("max_pool_pick", x, attributes), y, 2)
    _require("max_pool_pick", x, h, 0)
    return y


def _pick(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    h, x, y = inputs
    geometry = _geometry(attributes)
    room, hits = geometry.room(h, 0), list(_hits(geometry, x, y))
    total = np.zeros(result.sizes, h.dtype)
    with np.errstate(all="ignore"):
        for met, hit in hits:
            total += room[met] * hit
        return total / _count(hits, y)


def _picked_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "Kernel":
    return max_pool_nests.pick(inputs, attributes, result)


def _pick_gradient(g: "Value", call: Call) -> Gradients:
    _, x, y = call.inputs
    return g.call("max_pool_gradient", x, y, **_how(call.attributes)), None, None


# --- samples -------------------------------------------------------------------------------------

_CASES: tuple[tuple[tuple[int, ...], Attributes], ...] = (
    ((2, 4, 6, 3), {"size": (2, 2), "stride": (2, 2), "padding": NO_PADDING}),
    ((1, 5, 7, 2), {"size": (3, 2), "stride": (2, 1), "padding": ((1, 0), (1, 1))}),
    ((1, 5, 5, 1), {"size": (2, 1), "stride": (3, 2), "padding": NO_PADDING}),
    ((0, 3, 3, 1), {"size": (2, 2), "stride": (1, 1), "padding": NO_PADDING}),
)


def _samples(rng: Generator) -> Sequence[Sample]:
    return [sample([draw(rng, sizes)], how) for sizes, how in _CASES]


def _adjoint_samples(rng: Generator) -> Sequence[Sample]:
    return [
        sample(
            [draw(rng, _pooled("max_pool", case.types[0], case.attributes).sizes)],
            {**case.attributes, "shape": case.types[0].shape},
        )
        for case in _samples(rng)
    ]


def _with_maxima(rng: Generator, picks: bool) -> Sequence[Sample]:
    """Inputs g (or h), x and y = max_pool(x); only the first is differentiated."""
    made: list[Sample] = []
    for case in _samples(rng):
        (x,) = case.arrays
        type = _pooled("max_pool", case.types[0], case.attributes)
        y = _max_pool([x], case.attributes, type)
        first, wanted = (x, case.types[0]) if picks else (y, type)
        arrays = (draw(rng, first.shape), x, y)
        made.append(Sample(arrays, (wanted, case.types[0], type), case.attributes, (0,)))
    return made


def _count_taps(inputs: Sequence[TensorType], attributes: Attributes, result: TensorType) -> int:
    taps = int(np.prod(rules.as_ints(attributes["size"])))
    return taps * min(rules.entries(type) for type in (*inputs, result))


WINDOW_SUM = Op(
    name="window_sum",
    doc="Sums of the windows of images; `padding` counts as 0.",
    signature="(x: float[N, H, W, C], size, stride, padding) -> float[N, H', W', C]",
    infer=_infer_pool("window_sum"),
    compute=_window_sum,
    nest=_over_windows("add", 0.0),
    samples=_samples,
    gradient=_window_sum_gradient,
    by_sample=rules.by_first(0),
    flops=_count_taps,
)
WINDOW_SUM_ADJOINT = Op(
    name="window_sum_adjoint",
    doc="Each entry of g added to all of its window.",
    signature="(g: float[N, H', W', C], size, stride, padding, shape) -> float[N, H, W, C]",
    infer=_infer_adjoint,
    compute=_adjoint,
    nest=_adjoint_nest,
    samples=_adjoint_samples,
    gradient=_adjoint_gradient,
    by_sample=rules.by_first(0),
    flops=_count_taps,
)
MAX_POOL = Op(
    name="max_pool",
    doc="Largest entries of the windows of images; `padding` is never one of them.",
    signature="(x: float[N, H, W, C], size, stride, padding) -> float[N, H', W', C]",
    infer=_infer_pool("max_pool"),
    compute=_max_pool,
    nest=_over_windows("maximum", -math.inf),
    samples=_samples,
    gradient=_max_pool_gradient,
    by_sample=rules.by_first(0),
    flops=_count_taps,
)
MAX_POOL_GRADIENT = Op(
    name="max_pool_gradient",
    doc="Each entry of g given to the largest of its window in x, which is y; equal ones share it.",
    signature="(g: float[N, H', W', C], x: float[N, H, W, C], y: float[N, H', W', C], size, "
    "stride, padding) -> float[N, H, W, C]",
    infer=_infer_gradient,
    compute=_gradient,
    nest=_maxima_nest,
    samples=lambda rng: _with_maxima(rng, picks=False),
    gradient=_gradient_gradient,
    by_sample=rules.by_first(0, 1, 2),
    flops=_count_taps,
)
MAX_POOL_PICK = Op(
    name="max_pool_pick",
    doc="The entry of h where x has the largest of its window, which is y; the mean of equal ones.",
    signature="(h: float[N, H, W, C], x: float[N, H, W, C], y: float[N, H', W', C], size, "
    "stride, padding) -> float[N, H', W', C]",
    infer=_infer_pick,
    compute=_pick,
    nest=_picked_nest,
    samples=lambda rng: _with_maxima(rng, picks=True),
    gradient=_pick_gradient,
    by_sample=rules.by_first(0, 1, 2),
    flops=_count_taps,
)

OPS = (WINDOW_SUM, WINDOW_SUM_ADJOINT, MAX_POOL, MAX_POOL_GRADIENT, MAX_POOL_PICK)
