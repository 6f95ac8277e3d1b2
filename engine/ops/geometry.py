"""How a window slides over images (channels last): what convolutions and pooling share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import expr, nests, np
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

    # --- in nests -------------------------------------------------------------------------------

    def met(
        self,
        image: "nests.Input",
        at: "Sequence[nests.Expr]",
        tap: "Sequence[nests.Expr]",
        otherwise: float = 0.0,
        when: "nests.Expr | None" = None,
    ) -> "nests.Read":
        """What entry `tap` of the window at a place [n, y, x, channel] meets of an image.

        `otherwise` in the padding, and where the condition `when` does not hold.
        """
        number, *places, channel = at
        found: list[nests.Expr] = []
        asked = [] if when is None else [when]
        for axis, (place, entry) in enumerate(zip(places, tap, strict=True)):
            before, after = rules.as_ints(self.padding[axis])
            i = place * self.stride[axis] + entry * self.dilation[axis] - before
            asked += [i >= 0] if before else []
            asked += [i < image.sizes[axis + 1]] if after else []
            found.append(i)
        return image(number, *found, channel, guard=expr.every(asked), otherwise=otherwise)

    def meeting(
        self,
        places: Sequence[int],
        at: "Sequence[nests.Expr]",
        tap: "Sequence[nests.Expr]",
    ) -> "tuple[list[nests.Expr], nests.Expr | None]":
        """The place [y, x] whose window meets pixel [n, y, x, channel] with entry `tap`.

        The condition says whether there is one among so many places.
        """
        found: list[nests.Expr] = []
        asked: list[nests.Expr] = []
        for axis, (pixel, entry) in enumerate(zip(at[1:3], tap, strict=True)):
            stride = self.stride[axis]
            reached = pixel + rules.as_int(self.padding[axis][0]) - entry * self.dilation[axis]
            asked += [reached >= 0, reached < places[axis] * stride]
            asked += [(reached % stride).equals(0)] if stride > 1 else []
            found.append(reached // stride)
        return found, expr.every(asked)

    @property
    def covers(self) -> tuple[int, ...]:
        """How many windows meet a pixel at most, along height and width; without dilation."""
        return tuple(
            -(-rules.as_int(size) // stride)
            for size, stride in zip(self.size, self.stride, strict=True)
        )

    def covering(
        self,
        places: Sequence[int],
        images: Sequence[int],
        at: "Sequence[nests.Expr]",
        number: "Sequence[nests.Expr]",
    ) -> "tuple[list[nests.Expr], nests.Expr | None]":
        """The place [y, x] of one of the windows that meet pixel [n, y, x, channel], by number.

        The condition says whether there is one; sizes are those of the places and of the images.
        """
        found: list[nests.Expr] = []
        asked: list[nests.Expr] = []
        for axis, (pixel, back) in enumerate(zip(at[1:3], number, strict=True)):
            size, stride = rules.as_int(self.size[axis]), self.stride[axis]
            reached = pixel + rules.as_int(self.padding[axis][0])
            place = reached // stride - back
            most = (images[axis] - 1 + rules.as_int(self.padding[axis][0])) // stride
            asked += [place >= 0] if self.covers[axis] > 1 else []
            asked += [place < places[axis]] if most >= places[axis] else []
            asked += [reached - place * stride < size] if size % stride else []
            found.append(place)
        return found, expr.every(asked)
