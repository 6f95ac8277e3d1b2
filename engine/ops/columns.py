"""Convolutions and their gradients by numpy: columns of windows times a matrix of weights.

That is one large product. Where every channel is a group of its own and makes few units there is
too little to multiply as matrices, and the entries of the kernel are taken one by one. Images are
[N, H, W, C], a kernel is [kh, kw, C/groups, F].
"""

from collections.abc import Iterator, Sequence

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.geometry import Geometry
from fml.engine.ops.later import np
from fml.engine.ops.record import Array

# Products run at the speed of the BLAS from 2 to 8 MiB of columns.
SLAB = 4 << 20


def conv(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    """Convolve images x with a kernel w."""
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


def input_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    """The gradient for the images, of those of the result g and a kernel w."""
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


def weight_gradient(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    """The gradient for the kernel, of images x and the gradient of the result g."""
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
