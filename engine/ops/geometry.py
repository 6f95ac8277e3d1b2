"""How a window slides over images (channels last): what convolutions and pooling share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import np
from fml.engine.ops.record import Array, OpTypeError

NO_PADDING = ((0, 0), (0, 0))


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a window slides: per spatial axis its size, stride, padding and dilation."""

    size: tuple[Dim, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[Dim, ...], ...]
    dilation: tuple[int, ...]

    @staticmethod
    def of(attributes: Attributes, size: Sequence[Dim | int]) -> "Geometry":
        """Read the attributes of a convolution, or those of a pooling, which has no dilation."""
        padding = tuple(rules.as_dims(pair) for pair in rules.as_tuple(attributes["padding"]))
        stride = rules.as_ints(attributes["stride"])
        dilation = rules.as_ints(attributes.get("dilation", (1, 1)))
        return Geometry(tuple(map(Dim.of, size)), stride, padding, dilation)

    def places(self, op: str, x: TensorType) -> tuple[Dim, ...]:
        """Number of places of the window along height and width (E0311)."""
        found: list[Dim] = []
        for i, dim in enumerate(x.shape[1:3]):
            room = dim + sum(self.padding[i], Dim.of(0))
            reach = (self.size[i] - 1) * self.dilation[i] + 1
            places = ((room - reach) / self.stride[i]).floor() + 1
            if places.constant is not None and places.constant < 1:
                message = f"`{op}`: a kernel of {reach} does not fit on {room} entries of {x}"
                raise OpTypeError("E0311", message, (0,), "a smaller kernel, or more padding")
            found.append(places)
        return tuple(found)

    def room(self, x: Array, fill: float) -> Array:
        """Return an image with its padding; the image itself if there is none."""
        sizes = self._padded(x.shape)
        if sizes == x.shape[1:3]:
            return x
        room = np.full((x.shape[0], *sizes, x.shape[3]), fill, x.dtype)
        room[self.inside(x.shape)] = x
        return room

    def empty_room(self, sizes: Sequence[int], dtype: "np.dtype[np.generic]") -> Array:
        """Zeros in the size of an image with its padding, to add windows up in."""
        return np.zeros((sizes[0], *self._padded(sizes), sizes[3]), dtype)

    def inside(self, sizes: Sequence[int]) -> tuple[slice, ...]:
        """Where the image is within its padding."""
        starts = [rules.as_int(pair[0]) for pair in self.padding]
        height, width = (slice(s, s + n) for s, n in zip(starts, sizes[1:3], strict=True))
        return slice(None), height, width

    def _padded(self, sizes: Sequence[int]) -> tuple[int, ...]:
        pairs = zip(sizes[1:3], self.padding, strict=True)
        return tuple(size + sum(rules.as_ints(pair)) for size, pair in pairs)

    def windows(self, room: Array, places: Sequence[int]) -> Array:
        """All windows [N, H', W', kh, kw, C] of a padded image, as a view that must not be written.

        A row of a window is one run of memory, which is why a copy of this view is the fastest
        way to the columns of a convolution.
        """
        batch, height, width, channel = room.strides
        sizes = tuple(map(rules.as_int, self.size))
        (down, right), (below, beside) = self.stride, self.dilation
        strides = (batch, down * height, right * width, below * height, beside * width, channel)
        shape = (room.shape[0], *places, *sizes, room.shape[3])
        return np.lib.stride_tricks.as_strided(room, shape, strides, writeable=False)

    def taps(self, places: Sequence[int]) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        """Each entry (i, j) of the window, and what it meets of the padded image."""
        height, width = map(rules.as_int, self.size)
        for i in range(height):
            for j in range(width):
                yield i, j, (slice(None), self._met(0, i, places), self._met(1, j, places))

    def _met(self, axis: int, tap: int, places: Sequence[int]) -> slice:
        start, stride = tap * self.dilation[axis], self.stride[axis]
        return slice(start, start + (places[axis] - 1) * stride + 1, stride)
