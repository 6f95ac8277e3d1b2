"""Convolutions of images (channels last) and their two adjoints.

A convolution is bilinear, and its gradients are convolutions of the same three kinds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attribute, Attributes
from fml.engine.ir.types import ElementType, TensorType
from fml.engine.ops import columns, rules
from fml.engine.ops.geometry import NO_PADDING, Geometry
from fml.engine.ops.later import blocks, nests, np
from fml.engine.ops.record import BlockOf, Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.samples import draw, sample

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]
PLAIN: Attributes = {
    "stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1), "groups": 1,
}  # fmt: skip


def _infer_conv(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    x, w = inputs
    element = _conv_element("conv", inputs)
    groups = rules.as_int(attributes["groups"])
    if x.shape[3] != w.shape[2] * groups:
        message = f"`conv` of {groups} groups: {x.shape[3]} channels, but the kernel takes "
        message += f"{w.shape[2]} in each"
        raise OpTypeError("E0310", message, (0, 1), "channels = groups * kernel's third axis")
    _require_groups(w, groups)
    places = Geometry.of(attributes, w.shape[:2]).places("conv", x)
    return TensorType(element, (x.shape[0], *places, w.shape[3]))


def _conv_element(op: str, inputs: Sequence[TensorType]) -> ElementType:
    for place, type in enumerate(inputs):
        rules.require_rank(op, type, (4,), place)
    rules.floats(op, inputs)
    return rules.same_element(op, inputs)


def _require_groups(w: TensorType, groups: int) -> None:
    units = w.shape[3].size
    if units is not None and units % groups:
        message = f"`conv`: {units} units cannot be shared by {groups} groups"
        raise OpTypeError("E0310", message, (1,), "make the units a multiple of the groups")


def _infer_input_gradient(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    g, w = inputs
    _conv_element("conv_transpose", inputs)
    images = g.with_shape(rules.as_dims(attributes["shape"]))
    _require_result("conv_transpose", (images, w), attributes, g, 0)
    return images


def _infer_weight_gradient(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    x, g = inputs
    _conv_element("conv_weight_gradient", inputs)
    kernel = g.with_shape(rules.as_dims(attributes["shape"]))
    _require_result("conv_weight_gradient", (x, kernel), attributes, g, 1)
    return kernel


def _require_result(
    op: str, inputs: Sequence[TensorType], attributes: Attributes, g: TensorType, place: int
) -> None:
    """Require that `g` has the type of the convolution that this belongs to (E0310)."""
    wanted = _infer_conv(inputs, attributes)
    if g != wanted:
        message = f"`{op}` to {inputs[place]} takes {wanted}, found {g}"
        raise OpTypeError("E0310", message, (place,), "channels = the kernel's last axis")


# --- blocks ---------------------------------------------------------------------------------------


def _block(direction: str, images: int | None, kernel: int | None) -> BlockOf:
    """How one direction is blocked, given which inputs are images and kernel; else the result."""

    def block(
        inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> "blocks.Sliding":
        x = result if images is None else inputs[images]
        w = result if kernel is None else inputs[kernel]
        (_, *size, channels), (*window, _, units) = x.sizes, w.sizes
        geometry = Geometry.of(attributes, w.sizes[:2])
        (down, right), (below, beside) = geometry.stride, geometry.dilation
        top, left = (rules.as_ints(pair) for pair in geometry.padding)
        sizes = blocks.Convolution(
            nests.stored_as(result), x.sizes[0], (size[0], size[1]), channels,
            (window[0], window[1]), units, (down, right),
            ((top[0], top[1]), (left[0], left[1])), (below, beside),
            rules.as_int(attributes["groups"]),
        )  # fmt: skip
        return blocks.Sliding(blocks.Direction(direction), sizes)

    return block


# --- nests ---------------------------------------------------------------------------------------
#
# Channels and units are taken apart into group and number in it, so that no index is a quotient.


def _conv_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    geometry, (*window, each, _) = _window(attributes, inputs[1])
    groups, units = _grouped(attributes, result.sizes[3])

    x, w = nests.inputs_of(inputs)

    def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
        (*place, group, unit), (i, j, channel) = at, over
        met = geometry.met(x, (*place, group * each + channel), (i, j))
        return met * w(i, j, channel, group * units + unit)

    sizes = (*result.sizes[:3], groups, units)
    return nests.fold(inputs, result, (*window, each), value, sizes=sizes)


def _input_gradient_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    geometry, (*window, each, _) = _window(attributes, inputs[1])
    groups, units = _grouped(attributes, inputs[1].sizes[3])
    places = inputs[0].sizes[1:3]

    g, w = nests.inputs_of(inputs)

    def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
        (*pixel, group, channel), (i, j, number) = at, over
        place, there_is = geometry.meeting(places, pixel, (i, j))
        unit = group * units + number
        # Where there is no window nothing is added, even if the weight is not finite.
        weight = w(i, j, channel, unit, guard=there_is)
        return g(pixel[0], *place, unit, guard=there_is) * weight

    sizes = (*result.sizes[:3], groups, each)
    return nests.fold(inputs, result, (*window, units), value, sizes=sizes)


def _weight_gradient_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    geometry, (*window, each, _) = _window(attributes, result)
    groups, units = _grouped(attributes, result.sizes[3])

    x, g = nests.inputs_of(inputs)

    def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
        i, j, channel, group, number = at
        met = geometry.met(x, (*over, group * each + channel), (i, j))
        return met * g(*over, group * units + number)

    sizes = (*window, each, groups, units)
    return nests.fold(inputs, result, inputs[1].sizes[:3], value, sizes=sizes)


def _window(attributes: Attributes, kernel: TensorType) -> tuple[Geometry, tuple[int, ...]]:
    return Geometry.of(attributes, kernel.sizes[:2]), kernel.sizes


def _grouped(attributes: Attributes, units: int) -> tuple[int, int]:
    """How many groups there are, and how many units in each."""
    groups = rules.as_int(attributes["groups"])
    return groups, units // groups


# --- gradients -----------------------------------------------------------------------------------


def _how(attributes: Attributes) -> dict[str, Attribute]:
    return {name: attributes[name] for name in PLAIN}


def _conv_gradient(g: "Value", call: Call) -> Gradients:
    (x, w), how = call.inputs, _how(call.attributes)
    return (
        g.call("conv_input_gradient", w, shape=x.type.shape, **how),
        x.call("conv_weight_gradient", g, shape=w.type.shape, **how),
    )


def _input_gradient_gradient(h: "Value", call: Call) -> Gradients:
    (_, w), how = call.inputs, _how(call.attributes)
    g = call.inputs[0]
    return (
        h.call("conv", w, **how),
        h.call("conv_weight_gradient", g, shape=w.type.shape, **how),
    )


def _weight_gradient_gradient(h: "Value", call: Call) -> Gradients:
    (x, g), how = call.inputs, _how(call.attributes)
    return (
        g.call("conv_input_gradient", h, shape=x.type.shape, **how),
        x.call("conv", h, **how),
    )


_KERNELS: tuple[tuple[tuple[int, ...], tuple[int, ...], Attributes], ...] = (
    ((2, 5, 6, 3), (3, 2, 3, 4), PLAIN),
    ((1, 4, 4, 2), (1, 1, 2, 3), PLAIN),
    (
        (2, 7, 6, 4),
        (3, 2, 2, 6),
        {"stride": (2, 3), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2},
    ),
    ((1, 5, 5, 3), (3, 3, 1, 6), {**PLAIN, "padding": ((1, 1), (1, 1)), "groups": 3}),
    ((2, 4, 5, 1), (2, 3, 1, 3), {**PLAIN, "stride": (1, 2), "dilation": (2, 1)}),
    ((0, 4, 4, 2), (2, 2, 2, 3), {**PLAIN, "stride": (2, 2)}),
)


def _conv_samples(rng: Generator) -> Sequence[Sample]:
    return [sample([draw(rng, x), draw(rng, w)], how) for x, w, how in _KERNELS]


def _result_sizes(case: Sample) -> tuple[int, ...]:
    return _infer_conv(case.types, case.attributes).sizes


def _input_gradient_samples(rng: Generator) -> Sequence[Sample]:
    return [
        sample(
            [draw(rng, _result_sizes(case)), case.arrays[1]],
            {**case.attributes, "shape": case.types[0].shape},
        )
        for case in _conv_samples(rng)
    ]


def _weight_gradient_samples(rng: Generator) -> Sequence[Sample]:
    return [
        sample(
            [case.arrays[0], draw(rng, _result_sizes(case))],
            {**case.attributes, "shape": case.types[1].shape},
        )
        for case in _conv_samples(rng)
    ]


CONV = Op(
    name="conv",
    doc="Convolution (without flipping the kernel) of images; `padding` is zeros.",
    signature="(x: float[N, H, W, C], w: float[kh, kw, C/groups, F], stride, padding, dilation, "
    "groups) -> float[N, H', W', F]",
    infer=_infer_conv,
    compute=columns.conv,
    nest=_conv_nest,
    block=_block("forward", 0, 1),
    samples=_conv_samples,
    gradient=_conv_gradient,
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(result) * int(np.prod(inputs[1].sizes[:3]))
    ),
)
CONV_INPUT_GRADIENT = Op(
    name="conv_input_gradient",
    doc="Gradient of a convolution for its images, given that of its result; a transposed "
    "convolution.",
    signature="(g: float[N, H', W', F], w: float[kh, kw, C/groups, F], stride, padding, dilation, "
    "groups, shape) -> float[N, H, W, C]",
    infer=_infer_input_gradient,
    compute=columns.input_gradient,
    nest=_input_gradient_nest,
    block=_block("images", None, 1),
    samples=_input_gradient_samples,
    gradient=_input_gradient_gradient,
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(inputs[0]) * int(np.prod(inputs[1].sizes[:3]))
    ),
)
CONV_WEIGHT_GRADIENT = Op(
    name="conv_weight_gradient",
    doc="Gradient of a convolution for its kernel, given that of its result.",
    signature="(x: float[N, H, W, C], g: float[N, H', W', F], stride, padding, dilation, groups, "
    "shape) -> float[kh, kw, C/groups, F]",
    infer=_infer_weight_gradient,
    compute=columns.weight_gradient,
    nest=_weight_gradient_nest,
    block=_block("kernel", 0, None),
    samples=_weight_gradient_samples,
    gradient=_weight_gradient_gradient,
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(inputs[1]) * int(np.prod(result.sizes[:3]))
    ),
)
OPS = (CONV, CONV_INPUT_GRADIENT, CONV_WEIGHT_GRADIENT)
