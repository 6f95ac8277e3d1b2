"""Convolutions of images (channels last), their two adjoints, and the windows of an image.

A convolution is bilinear, and its gradients are convolutions of the same three kinds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attribute, Attributes
from fml.engine.ir.types import ElementType, TensorType
from fml.engine.ops import rules
from fml.engine.ops.record import Array, Call, Infer, Op, OpTypeError, Sample
from fml.engine.ops.samples import draw, sample

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

Gradients = Sequence["Value | None"]
PLAIN: Attributes = {
    "stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a kernel slides: per spatial axis its size, stride, padding and dilation."""

    size: tuple[Dim, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[Dim, ...], ...]
    dilation: tuple[int, ...]

    @staticmethod
    def of(attributes: Attributes, size: Sequence[Dim]) -> "Geometry":
        """Read the attributes of a convolution, or those of `windows`, which lack most."""
        given = {**PLAIN, **attributes}
        padding = tuple(rules.as_dims(pair) for pair in rules.as_tuple(given["padding"]))
        stride, dilation = (rules.as_ints(given[name]) for name in ("stride", "dilation"))
        return Geometry(tuple(size), stride, padding, dilation)

    def places(self, op: str, x: TensorType) -> tuple[Dim, ...]:
        """Number of places of the kernel along height and width (E0311)."""
        found: list[Dim] = []
        for i, dim in enumerate(x.dims[1:3]):
            room = dim + sum(self.padding[i], Dim.of(0))
            reach = (self.size[i] - 1) * self.dilation[i] + 1
            places = ((room - reach) / self.stride[i]).floor() + 1
            if places.constant is not None and places.constant < 1:
                message = f"`{op}`: a kernel of {reach} does not fit on {room} entries of {x}"
                raise OpTypeError("E0311", message, (0,), "a smaller kernel, or more padding")
            found.append(places)
        return tuple(found)

    def padded(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Height and width of a definite image with its padding."""
        height, width = (
            size + sum(rules.as_ints(pair))
            for size, pair in zip(sizes[1:3], self.padding, strict=True)
        )
        return height, width

    def inside(self, sizes: Sequence[int]) -> tuple[slice, ...]:
        """Where the image is within its padding."""
        starts = [rules.as_int(pair[0]) for pair in self.padding]
        height, width = (slice(s, s + n) for s, n in zip(starts, sizes[1:3], strict=True))
        return slice(None), height, width

    def taps(self, places: Sequence[int]) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        """Each entry (i, j) of the kernel, and what it meets of the padded image."""
        height, width = map(rules.as_int, self.size)
        for i in range(height):
            for j in range(width):
                yield i, j, (slice(None), self._met(0, i, places), self._met(1, j, places))

    def _met(self, axis: int, tap: int, places: Sequence[int]) -> slice:
        start, stride = tap * self.dilation[axis], self.stride[axis]
        return slice(start, start + (places[axis] - 1) * stride + 1, stride)


def cut(x: Array, geometry: Geometry, places: tuple[int, int]) -> Array:
    """Windows [N, H', W', kh, kw, C] of an image."""
    height, width = geometry.padded(x.shape)
    room = np.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    room[geometry.inside(x.shape)] = x
    kernel = tuple(map(rules.as_int, geometry.size))
    windows = np.empty((x.shape[0], *places, *kernel, x.shape[3]), x.dtype)
    for i, j, met in geometry.taps(places):
        windows[:, :, :, i, j] = room[met]
    return windows


def paste(windows: Array, geometry: Geometry, sizes: Sequence[int]) -> Array:
    """Add windows [N, H', W', kh, kw, C] up at their places: the adjoint of `cut`."""
    height, width = geometry.padded(sizes)
    room = np.zeros((sizes[0], height, width, sizes[3]), windows.dtype)
    for i, j, met in geometry.taps(windows.shape[1:3]):
        np.add(room[met], windows[:, :, :, i, j], out=room[met])
    return room[geometry.inside(sizes)]


def _by_group(array: Array, groups: int, axis: int) -> list[Array]:
    return np.split(array, groups, axis)


def _infer_conv(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    x, w = inputs
    element = _conv_element("conv", inputs)
    groups = rules.as_int(attributes["groups"])
    if x.dims[3] != w.dims[2] * groups:
        message = f"`conv` of {groups} groups: {x.dims[3]} channels, but the kernel takes "
        message += f"{w.dims[2]} in each"
        raise OpTypeError("E0310", message, (0, 1), "channels = groups * kernel's third axis")
    _require_groups(w, groups)
    places = Geometry.of(attributes, w.dims[:2]).places("conv", x)
    return TensorType(element, (x.dims[0], *places, w.dims[3]))


def _conv_element(op: str, inputs: Sequence[TensorType]) -> ElementType:
    for place, type in enumerate(inputs):
        rules.require_rank(op, type, (4,), place)
    rules.floats(op, inputs)
    return rules.same_element(op, inputs)


def _require_groups(w: TensorType, groups: int) -> None:
    units = w.dims[3].size
    if units is not None and units % groups:
        message = f"`conv`: {units} units cannot be shared by {groups} groups"
        raise OpTypeError("E0310", message, (1,), "make the units a multiple of the groups")


def _infer_adjoint(op: str) -> Infer:
    def infer(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        element = _conv_element(op, inputs)
        return TensorType(element, rules.as_dims(attributes["shape"]))

    return infer


def _conv(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    x, w = inputs
    groups = rules.as_int(attributes["groups"])
    geometry = _definite(attributes, w.shape[:2])
    parts = [
        cut(part, geometry, (result.sizes[1], result.sizes[2])).reshape(-1, _rows(kernel))
        @ kernel.reshape(_rows(kernel), -1)
        for part, kernel in zip(_by_group(x, groups, 3), _by_group(w, groups, 3), strict=True)
    ]
    return np.concatenate(parts, 1, dtype=result.dtype).reshape(result.sizes)


def _input_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    g, w = inputs
    groups = rules.as_int(attributes["groups"])
    geometry = _definite(attributes, w.shape[:2])
    sizes = (*result.sizes[:3], result.sizes[3] // groups)
    parts: list[Array] = []
    for part, kernel in zip(_by_group(g, groups, 3), _by_group(w, groups, 3), strict=True):
        columns = part.reshape(-1, part.shape[3]) @ kernel.reshape(_rows(kernel), -1).T
        windows = columns.reshape(*g.shape[:3], *kernel.shape[:3])
        parts.append(paste(windows, geometry, sizes))
    return np.concatenate(parts, 3, dtype=result.dtype)


def _weight_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    x, g = inputs
    groups = rules.as_int(attributes["groups"])
    geometry = _definite(attributes, result.sizes[:2])
    rows = int(np.prod(result.sizes[:3]))
    parts: list[Array] = []
    for part, out in zip(_by_group(x, groups, 3), _by_group(g, groups, 3), strict=True):
        windows = cut(part, geometry, (g.shape[1], g.shape[2])).reshape(-1, rows)
        parts.append((windows.T @ out.reshape(-1, out.shape[3])).reshape(*result.sizes[:3], -1))
    return np.concatenate(parts, 3, dtype=result.dtype)


def _rows(kernel: Array) -> int:
    return int(np.prod(kernel.shape[:3]))


def _definite(attributes: Attributes, size: Sequence[int]) -> Geometry:
    return Geometry.of(attributes, tuple(map(Dim.of, size)))


def _how(attributes: Attributes) -> dict[str, Attribute]:
    return {name: attributes[name] for name in PLAIN}


def _conv_gradient(g: "Value", call: Call) -> Gradients:
    (x, w), how = call.inputs, _how(call.attributes)
    return (
        g.call("conv_input_gradient", w, shape=x.type.dims, **how),
        x.call("conv_weight_gradient", g, shape=w.type.dims, **how),
    )


def _input_gradient_gradient(h: "Value", call: Call) -> Gradients:
    (_, w), how = call.inputs, _how(call.attributes)
    g = call.inputs[0]
    return (
        h.call("conv", w, **how),
        h.call("conv_weight_gradient", g, shape=w.type.dims, **how),
    )


def _weight_gradient_gradient(h: "Value", call: Call) -> Gradients:
    (x, g), how = call.inputs, _how(call.attributes)
    return (
        g.call("conv_input_gradient", h, shape=x.type.dims, **how),
        x.call("conv", h, **how),
    )


def _infer_windows(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    rules.require_rank("windows", x, (4,))
    size = rules.as_dims(attributes["size"])
    places = Geometry.of(attributes, size).places("windows", x)
    return x.with_shape((x.dims[0], *places, *size, x.dims[3]))


def _windows(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    geometry = _definite(attributes, result.sizes[3:5])
    return cut(inputs[0], geometry, (result.sizes[1], result.sizes[2]))


def _windows_gradient(g: "Value", call: Call) -> Gradients:
    size, stride = call.attributes["size"], call.attributes["stride"]
    shape = call.inputs[0].type.dims
    return (g.call("windows_adjoint", size=size, stride=stride, shape=shape),)


def _infer_windows_adjoint(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.require_rank("windows_adjoint", inputs[0], (6,))
    rules.numbers("windows_adjoint", inputs)
    return inputs[0].with_shape(rules.as_dims(attributes["shape"]))


def _windows_adjoint(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    (g,) = inputs
    return paste(g, _definite(attributes, g.shape[3:5]), result.sizes)


def _windows_adjoint_gradient(h: "Value", call: Call) -> Gradients:
    size, stride = call.attributes["size"], call.attributes["stride"]
    return (h.call("windows", size=size, stride=stride),)


_KERNELS: tuple[tuple[tuple[int, ...], tuple[int, ...], Attributes], ...] = (
    ((2, 5, 6, 3), (3, 2, 3, 4), PLAIN),
    ((1, 4, 4, 2), (1, 1, 2, 3), PLAIN),
    (
        (2, 7, 6, 4),
        (3, 2, 2, 6),
        {"stride": (2, 3), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2},
    ),
    ((1, 5, 5, 3), (3, 3, 1, 6), {**PLAIN, "padding": ((1, 1), (1, 1)), "groups": 3}),
    ((0, 4, 4, 2), (2, 2, 2, 3), {**PLAIN, "stride": (2, 2)}),
)


def _conv_samples(rng: np.random.Generator) -> Sequence[Sample]:
    return [sample([draw(rng, x), draw(rng, w)], how) for x, w, how in _KERNELS]


def _result_sizes(case: Sample) -> tuple[int, ...]:
    return _infer_conv(case.types, case.attributes).sizes


def _input_gradient_samples(rng: np.random.Generator) -> Sequence[Sample]:
    return [
        sample(
            [draw(rng, _result_sizes(case)), case.arrays[1]],
            {**case.attributes, "shape": case.types[0].dims},
        )
        for case in _conv_samples(rng)
    ]


def _weight_gradient_samples(rng: np.random.Generator) -> Sequence[Sample]:
    return [
        sample(
            [case.arrays[0], draw(rng, _result_sizes(case))],
            {**case.attributes, "shape": case.types[1].dims},
        )
        for case in _conv_samples(rng)
    ]


_WINDOWS: tuple[tuple[tuple[int, ...], Attributes], ...] = (
    ((2, 4, 6, 3), {"size": (2, 2), "stride": (2, 2)}),
    ((1, 5, 7, 2), {"size": (3, 2), "stride": (2, 1)}),
    ((0, 3, 3, 1), {"size": (2, 2), "stride": (1, 1)}),
)


def _windows_samples(rng: np.random.Generator) -> Sequence[Sample]:
    return [sample([draw(rng, sizes)], how) for sizes, how in _WINDOWS]


def _windows_adjoint_samples(rng: np.random.Generator) -> Sequence[Sample]:
    return [
        sample(
            [draw(rng, _infer_windows(case.types, case.attributes).sizes)],
            {**case.attributes, "shape": case.types[0].dims},
        )
        for case in _windows_samples(rng)
    ]


CONV = Op(
    name="conv",
    doc="Convolution (without flipping the kernel) of images; `padding` is zeros.",
    signature="(x: float[N, H, W, C], w: float[kh, kw, C/groups, F], stride, padding, dilation, "
    "groups) -> float[N, H', W', F]",
    infer=_infer_conv,
    compute=_conv,
    samples=_conv_samples,
    gradient=_conv_gradient,
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(result) * int(np.prod(inputs[1].sizes[:3]))
    ),
)
CONV_INPUT_GRADIENT = Op(
    name="conv_input_gradient",
    doc="Gradient of a convolution for its images, given that of its result.",
    signature="(g: float[N, H', W', F], w: float[kh, kw, C/groups, F], stride, padding, dilation, "
    "groups, shape) -> float[N, H, W, C]",
    infer=_infer_adjoint("conv_input_gradient"),
    compute=_input_gradient,
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
    infer=_infer_adjoint("conv_weight_gradient"),
    compute=_weight_gradient,
    samples=_weight_gradient_samples,
    gradient=_weight_gradient_gradient,
    flops=lambda inputs, attributes, result: (
        2 * rules.entries(inputs[1]) * int(np.prod(result.sizes[:3]))
    ),
)
WINDOWS = Op(
    name="windows",
    doc="All windows of images, for pooling.",
    signature="(x: float[N, H, W, C], size, stride) -> float[N, H', W', kh, kw, C]",
    infer=_infer_windows,
    compute=_windows,
    samples=_windows_samples,
    gradient=_windows_gradient,
    by_sample=rules.by_first(0),
)
WINDOWS_ADJOINT = Op(
    name="windows_adjoint",
    doc="Windows added up at the places that `windows` took them from.",
    signature="(g: float[N, H', W', kh, kw, C], size, stride, shape) -> float[N, H, W, C]",
    infer=_infer_windows_adjoint,
    compute=_windows_adjoint,
    samples=_windows_adjoint_samples,
    gradient=_windows_adjoint_gradient,
    by_sample=rules.by_first(0),
    flops=lambda inputs, attributes, result: rules.entries(inputs[0]),
)

OPS = (CONV, CONV_INPUT_GRADIENT, CONV_WEIGHT_GRADIENT, WINDOWS, WINDOWS_ADJOINT)
