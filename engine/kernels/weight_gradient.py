"""The gradient of a convolution for its kernel, as contractions.

Either taps are loops and what lies outside of the images is left out, or a tile holds several taps
and images are copied into a room with their padding. Units or rows of tiles are cut into parts, so
that two cores have equal halves; images, or rows of one, are taken a few at a time, so that what
all tiles read stays in a near cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fml.engine.kernels.blocking import Tile, broadcast_tile, vector_of
from fml.engine.kernels.contracting import AtIndices, Contracting, Finish
from fml.engine.kernels.contraction import (
    Axis,
    Contraction,
    Schedule,
    Steps,
    Window,
    joined,
)
from fml.engine.kernels.expr import Buffer, Expr, Var, index, wide
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import For, Kernel, Statement
from fml.engine.kernels.packing import COPY, copied, zeroed
from fml.engine.kernels.slides import Convolution, forward_slide

_CHUNK = 1024  # products that are added up before they meet the others
_NEAR = 32 << 10  # bytes of both that the first cache has room for
_CACHED = 1 << 18  # bytes of images and gradients that are read again and again


def weight_gradient(
    conv: Convolution, name: str, host: Host, finish: AtIndices | None = None
) -> Kernel:
    """A kernel of (x, g, sums, scratch...): the gradient of the kernel from that of the result.

    `finish` is given indices [u, v, channel, unit].
    """
    x, g = Buffer("x", conv.element), Buffer("g", conv.element)
    out = Buffer("out", wide(conv.element))
    begin, end = Var("begin"), Var("end")
    vector = vector_of(conv.element, host)
    plan = min(_plans(conv, vector, host), key=lambda plan: plan.cycles)
    writer = _Written(conv, plan, x, g, out, vector, finish, (begin, end))
    body, scratch = writer.in_rooms() if plan.in_rooms else writer.by_taps()
    buffers = (x, g, out, *(buffer for buffer, _ in scratch))
    sizes = tuple(size for _, size in scratch)
    return Kernel(name, buffers, tuple(body), (begin, end), scratch=sizes, parts=plan.parts)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How it is done.

    Attributes:
        in_rooms: images are copied with their padding, and a tile may hold several taps.
        tile: rows and vectors of sums.
        first: the outermost loop, whose steps are the parts of the work.
        block: images, or rows of one in a room, whose products are added up before they meet
            the others.
    """

    in_rooms: bool
    tile: Tile
    first: tuple[str, int]
    parts: int
    block: int
    cycles: float


def _plans(conv: Convolution, vector: int, host: Host) -> Iterator[_Plan]:
    """Ways to cut the work into parts, by units or by rows of tiles, and what they cost."""
    units = conv.groups if _is_by_channel(conv) else conv.units // conv.groups
    ways = (True,) if _is_padded(conv, vector) else (False, True)
    for in_rooms in ways if conv.batch else (False,):
        rows = _rows(conv, in_rooms)
        name, size = rows[-1]
        half = -(-size // 2)
        for beside in range(1, min(6, -(-units // vector)) + 1):
            across = beside * vector
            block = _block(conv, in_rooms, across)
            shape = (conv, in_rooms, block, beside, vector, host)
            tile, cycles = _cost(rows, units, *shape)
            yield _plan(in_rooms, tile, (_lanes(conv), across), units, block, cycles)
            tile, cycles = _cost((*rows[:-1], (name, half)), units, *shape)
            step = -(-half // tile.axes[name]) * tile.axes[name]
            yield _plan(in_rooms, tile, (name, step), size, block, 2 * cycles)


def _plan(
    in_rooms: bool, tile: Tile, first: tuple[str, int], size: int, block: int, cycles: float
) -> _Plan:
    step = first[1]
    parts = max(1, -(-size // step))
    longer = max(parts // 2 * step, size - parts // 2 * step)
    return _Plan(in_rooms, tile, first, parts, block, cycles * max(1.0, longer / (size / 2)) ** 0.5)


def _cost(
    rows: Sequence[tuple[str, int]], units: int, conv: Convolution, in_rooms: bool, block: int,
    beside: int, vector: int, host: Host,
) -> tuple[Tile, float]:  # fmt: skip
    """The best tile so wide, and the cycles of all tiles of these rows."""
    places = conv.places[0] * conv.places[1]
    depth = max(1, conv.batch * places)
    if in_rooms:
        passes = conv.batch * -(-conv.places[0] // block)
        tile = broadcast_tile(rows, units, depth, vector, host, (beside,), passes)
        copies = conv.batch * conv.size[0] * conv.size[1] * conv.channels * COPY
        return tile, tile.cycles * conv.groups ** (not _is_by_channel(conv)) + copies
    met = forward_slide(conv, 0).met * forward_slide(conv, 1).met
    passes = -(-conv.batch // block) if block else 1
    tile = broadcast_tile(rows, units, max(1, round(met * depth)), vector, host, (beside,), passes)
    taps = conv.window[0] * conv.window[1]
    return tile, tile.cycles * taps * conv.groups ** (not _is_by_channel(conv))


def _block(conv: Convolution, in_rooms: bool, across: int) -> int:
    """How many images, or rows of one, are read again and again before others are; 0: all."""
    height, width = conv.places
    if in_rooms:
        line = 4 * (_row(conv) * conv.stride[0] + width * min(across, conv.units))
        return max(1, min(height, _NEAR // line, _CHUNK // max(1, width)))
    image = 4 * (conv.size[0] * conv.size[1] * conv.channels + height * width * conv.units)
    block = max(1, min(_CACHED // image, _CHUNK // (height * width)))
    return 0 if block >= conv.batch else block


def _row(conv: Convolution) -> int:
    """Entries of a row of an image with its padding."""
    return conv.padded[1] * conv.channels


def _is_by_channel(conv: Convolution) -> bool:
    return conv.groups > 1 and conv.channels == conv.units == conv.groups


def _lanes(conv: Convolution) -> str:
    return "g" if _is_by_channel(conv) else "f"


def _rows(conv: Convolution, in_rooms: bool) -> tuple[tuple[str, int], ...]:
    """The axes of a tile's rows; the last one may be cut into parts of the work."""
    c = conv.channels // conv.groups
    if not in_rooms:
        return (("c", c),)
    if _is_joined(conv):
        return ("u", conv.window[0]), ("vc", conv.window[1] * c)
    return ("u", conv.window[0]), ("v", conv.window[1]), ("c", c)


def _is_padded(conv: Convolution, vector: int) -> bool:
    """Whether gradients are copied too, so that their units fill vectors."""
    return conv.groups == 1 and conv.units > vector and conv.units % vector > 0


def _is_joined(conv: Convolution) -> bool:
    """Whether the taps of a row lie one behind the other, with all their channels."""
    return conv.groups == 1 and conv.dilation[1] == 1


@dataclass(frozen=True, slots=True)
class _Written:
    """Writes the statements."""

    conv: Convolution
    plan: _Plan
    x: Buffer
    g: Buffer
    out: Buffer
    vector: int
    finish: AtIndices | None
    part: tuple[Var, Var]

    def by_taps(self) -> "_Result":
        """Tap after tap, each with those places that it meets."""
        conv, plan = self.conv, self.plan
        what = self._contraction(
            conv.size[0] * conv.size[1] * conv.channels,
            conv.size[1] * conv.channels,
            (0, 0),
            (conv.places[0] * conv.places[1] * conv.units, conv.units),
        )
        cut: Steps = (("n", plan.block),) if plan.block else ()
        outer = (*cut, ("u", 1), ("v", 1), *self._columns(), ("c", plan.tile.axes["c"]))
        return self._statements(what, outer, self.x, ("n", "i", "j"), {}), []

    def in_rooms(self) -> "_Result":
        """Image after image, copied into a room with its padding."""
        conv, plan = self.conv, self.plan
        (top, bottom), (left, _) = conv.padding
        n = Var("n")
        height, width, channels = *conv.size, conv.channels
        row = _row(conv)
        room = Buffer("room", wide(conv.element))
        size = (top + height + bottom) * row
        copy = copied(
            self.x, n * (height * width * channels), room, index(top * row + left * channels),
            (height, width * channels), (width * channels, 1), (row, 1),
        )  # fmt: skip
        before, copies, scratch = [zeroed(room, size)], [copy], [(room, size)]
        places = conv.places[0] * conv.places[1]
        writer, step = self, (places * conv.units, conv.units)
        if _is_padded(conv, self.vector):
            g = Buffer("padded", room.element)
            units = -(-conv.units // self.vector) * self.vector
            scratch.append((g, places * units))
            before.append(zeroed(g, places * units))
            copies.append(
                copied(self.g, n * (places * conv.units), g, index(0), (places, conv.units),
                       (conv.units, 1), (units, 1))
            )  # fmt: skip
            writer, step = replace(self, g=g), (0, units)
        what = self._contraction(0, row, (top, left), step)
        if _is_joined(conv):
            what = joined(what, "v", "c")
        what = replace(what, windows=())
        cut: Steps = (("i", plan.block),) if plan.block < conv.places[0] else ()
        outer = (*cut, *self._columns(), *plan.tile.axes.items())
        sums = writer._statements(what, outer, room, ("i", "j"), {"n": n}, writer is not self)
        return [*before, For(n, index(0), index(conv.batch), (*copies, *sums))], scratch

    def _columns(self) -> Steps:
        across = self.plan.tile.vectors * self.vector
        return ((_lanes(self.conv), across),) + (() if _is_by_channel(self.conv) else (("g", 1),))

    def _statements(
        self, what: Contraction, outer: Steps, x: Buffer, inner: tuple[str, ...],
        within: Mapping[str, Expr], is_padded: bool = False,
    ) -> list[Statement]:  # fmt: skip
        plan = self.plan
        loops = (plan.first, *(loop for loop in outer if loop != plan.first))
        schedule = Schedule(
            loops,
            plan.tile.axes,
            _lanes(self.conv),
            self.vector,
            plan.tile.vectors,
            inner,
            is_padded=is_padded,
        )
        writer = Contracting(
            what, schedule, x, self.g, self.out, self._finished, within, self.part
        )  # fmt: skip
        return list(writer.statements())

    @property
    def _finished(self) -> Finish | None:
        given = self.finish
        if given is None:
            return None
        c, f = self.conv.channels // self.conv.groups, self.conv.units // self.conv.groups

        def finish(total: Expr, at: Mapping[str, Expr]) -> Sequence[Statement]:
            is_joined = "v" not in at
            v, channel = (at["vc"] // c, at["vc"] % c) if is_joined else (at["v"], at["c"])
            return given(total, (at["u"], v, channel, at["g"] * f + at["f"]))

        return finish

    def _contraction(
        self, image: int, row: int, start: tuple[int, int], gradient: tuple[int, int]
    ) -> Contraction:
        """Given the steps of `x` from image to image and row to row, and those of `g` from image to
        image and place to place.
        """
        conv = self.conv
        i, j = forward_slide(conv, 0), forward_slide(conv, 1)
        c, f = conv.channels // conv.groups, conv.units // conv.groups
        tap = c * conv.units
        axes = (
            Axis("u", i.taps, i.spread * row, 0, conv.window[1] * tap),
            Axis("v", j.taps, j.spread * conv.channels, 0, tap),
            Axis("c", c, 1, 0, conv.units),
            Axis("f", f, 0, 1, 1),
            Axis("g", conv.groups, c, f, f),
            Axis("n", conv.batch, image, gradient[0]),
            Axis("i", i.places, i.step * row, j.places * gradient[1]),
            Axis("j", j.places, j.step * conv.channels, gradient[1]),
        )
        windows = (
            Window("i", "u", i.step, i.spread, i.offset, i.limit),
            Window("j", "v", j.step, j.spread, j.offset, j.limit),
        )
        begin = (start[0] + i.offset) * row + (start[1] + j.offset) * conv.channels
        return Contraction(axes, windows, (begin, 0, 0))


_Result = tuple[list[Statement], list[tuple[Buffer, int]]]
