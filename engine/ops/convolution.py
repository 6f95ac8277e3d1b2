"""Convolutions of images (channels last) and their two adjoints.

A convolution is bilinear, and its gradients are convolutions of the same three kinds.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attribute, Attributes
from fml.engine.ir.types import ElementType, TensorType
from fml.engine.ops import rules
from fml.engine.ops.geometry import NO_PADDING, Geometry
from fml.engine.ops.later import blocks, nests, np
from fml.engine.ops.record import Array, BlockOf, Call, Generator, Op, OpTypeError, Sample
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


# --- numpy ---------------------------------------------------------------------------------------
#
# Columns of windows times a matrix of weights: one large product. Where every channel is a group of
# its own and makes few units there is too little to multiply as matrices, and the entries of the
# kernel are taken one by one. Products run at the speed of the BLAS from 2 to 8 MiB of columns.

SLAB = 4 << 20


def _conv(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    x, w = inputs
    geometry = Geometry.of(attributes, w.shape[:2])
    room, places = geometry.room(x, 0), result.sizes[1:3]
    out = np.zeros(result.sizes, x.dtype)
    if _is_depthwise(w.shape, attributes):
        by_channel = out.reshape(*out.shape[:3], x.shape[3], -1)
        for i, j, met in geometry.taps(places):
            by_channel += room[met][..., np.newaxis] * w[i, j].reshape(x.shape[3], -1)
        return out
    rows = out.reshape(-1, w.shape[3])
    for channels, units in _groups(x.shape[3], w.shape[3], attributes):
        kernel = w[..., units].reshape(_entries(w.shape), -1)
        windows = geometry.windows(room[..., channels], places)
        for part, columns in _columns(windows):
            np.matmul(columns, kernel, out=rows[part, units])
    return out


def _input_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    g, w = inputs
    geometry, sizes = Geometry.of(attributes, w.shape[:2]), result.sizes
    room = geometry.empty_room(sizes, g.dtype)
    if _is_depthwise(w.shape, attributes):
        by_channel = g.reshape(*g.shape[:3], sizes[3], -1)
        for i, j, met in geometry.taps(g.shape[1:3]):
            room[met] += np.einsum("nhwcm,cm->nhwc", by_channel, w[i, j].reshape(sizes[3], -1))
        return room[geometry.inside(sizes)]
    for channels, units in _groups(sizes[3], w.shape[3], attributes):
        kernel = w[..., units].reshape(_entries(w.shape), -1).T
        within = room[..., channels]
        for part in _slabs((*g.shape[:3], *w.shape[:3]), g.itemsize):
            columns = g[part, :, :, units].reshape(-1, kernel.shape[0]) @ kernel
            windows = columns.reshape(-1, *g.shape[1:3], *w.shape[:3])
            for i, j, met in geometry.taps(g.shape[1:3]):
                within[part][met] += windows[:, :, :, i, j]
    return room[geometry.inside(sizes)]


def _weight_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    x, g = inputs
    geometry = Geometry.of(attributes, result.sizes[:2])
    room, places = geometry.room(x, 0), g.shape[1:3]
    total = np.zeros(result.sizes, x.dtype)
    if _is_depthwise(result.sizes, attributes):
        by_channel = g.reshape(*g.shape[:3], x.shape[3], -1)
        for i, j, met in geometry.taps(places):
            total[i, j, 0] = np.einsum("nhwc,nhwcm->cm", room[met], by_channel).reshape(-1)
        return total
    rows, kernel = g.reshape(-1, g.shape[3]), total.reshape(-1, g.shape[3])
    for channels, units in _groups(x.shape[3], g.shape[3], attributes):
        windows = geometry.windows(room[..., channels], places)
        for part, columns in _columns(windows):
            kernel[:, units] += columns.T @ rows[part, units]
    return total


def _columns(windows: Array) -> Iterator[tuple[slice, Array]]:
    """The windows [N, H', W', kh, kw, C] as rows of a matrix, part by part in one buffer."""
    places, entries = int(np.prod(windows.shape[1:3])), _entries(windows.shape[3:])
    if windows.flags.c_contiguous:
        yield slice(None), windows.reshape(-1, entries)
        return
    buffer: Array | None = None
    for part in _slabs(windows.shape, windows.itemsize):
        cut = windows[part]
        buffer = np.empty(cut.shape, cut.dtype) if buffer is None else buffer[: len(cut)]
        np.copyto(buffer, cut)
        yield slice(part.start * places, part.stop * places), buffer.reshape(-1, entries)


def _slabs(windows: Sequence[int], itemsize: int) -> Iterator[slice]:
    """Cut a batch of windows into parts of at most `SLAB` bytes, of at least one sample.

    What is copied for a part is still in the cache when it is multiplied, and memory is bounded
    however large the batch is.
    """
    each = max(1, SLAB // max(itemsize * int(np.prod(windows[1:])), 1))
    for start in range(0, windows[0], each):
        yield slice(start, min(start + each, windows[0]))


def _entries(window: Sequence[int]) -> int:
    return int(np.prod(window[:3]))


def _is_depthwise(kernel: Sequence[int], attributes: Attributes) -> bool:
    groups = rules.as_int(attributes["groups"])
    return groups > 1 and kernel[2] == 1 and kernel[3] < 8 * groups


def _groups(channels: int, units: int, attributes: Attributes) -> Iterator[tuple[slice, slice]]:
    """The channels that each group reads and the units that it makes."""
    groups = rules.as_int(attributes["groups"])
    for k in range(groups):
        yield (
            slice(k * channels // groups, (k + 1) * channels // groups),
            slice(k * units // groups, (k + 1) * units // groups),
        )


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
    compute=_conv,
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
    compute=_input_gradient,
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
    compute=_weight_gradient,
    nest=_weight_gradient_nest,
    block=_block("kernel", 0, None),
    samples=_weight_gradient_samples,
    gradient=_weight_gradient_gradient,
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(inputs[1]) * int(np.prod(result.sizes[:3]))
    ),
)
OPS = (CONV, CONV_INPUT_GRADIENT, CONV_WEIGHT_GRADIENT)
