"""The gradient of a convolution for its kernel, as contractions.

Either taps are loops and what lies outside of the images is left out, or, where channels are few,
a tile holds several taps and images are copied into a room with their padding.
"""

from collections.abc import Mapping, Sequence
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
_CACHED = 1 << 18  # bytes of images and gradients that are read again and again


def weight_gradient(
    conv: Convolution, name: str, host: Host, finish: AtIndices | None = None
) -> Kernel:
    """A kernel of (x, g, out, scratch...): the gradient of the kernel from that of the result.

    `finish` is given indices [u, v, channel, unit].
    """
    x, g, out = Buffer("x", conv.element), Buffer("g", conv.element), Buffer("out", conv.element)
    begin, end = Var("begin"), Var("end")
    vector = vector_of(conv.element, host)
    by_taps = _tile(conv, ("c",), vector, host)
    by_rows = _tile(conv, ("u", "v", "c"), vector, host)
    writer = _Written(conv, x, g, out, vector, finish, (begin, end))
    taps = conv.window[0] * conv.window[1]
    met = forward_slide(conv, 0).met * forward_slide(conv, 1).met
    copies = conv.batch * conv.size[0] * conv.size[1] * conv.channels * COPY
    is_narrow = wide(conv.element) is not conv.element  # sums must not meet in memory
    if is_narrow or not conv.batch or by_taps.cycles * taps * met <= by_rows.cycles + copies:
        body, scratch, parts = writer.by_taps(by_taps)
    else:
        body, scratch, parts = writer.in_rooms(by_rows)
    buffers = (x, g, out, *(buffer for buffer, _ in scratch))
    sizes = tuple(size for _, size in scratch)
    return Kernel(name, buffers, tuple(body), (begin, end), scratch=sizes, parts=parts)


def _is_by_channel(conv: Convolution) -> bool:
    return conv.groups > 1 and conv.channels == conv.units == conv.groups


def _tile(conv: Convolution, rows: Sequence[str], vector: int, host: Host) -> Tile:
    c, f = conv.channels // conv.groups, conv.units // conv.groups
    width = conv.groups if _is_by_channel(conv) else f
    sizes = {"c": c, "u": conv.window[0], "v": conv.window[1]}
    axes = [(name, sizes[name]) for name in rows]
    depth = max(1, conv.batch * conv.places[0] * conv.places[1])
    if "v" in sizes and _is_joined(conv) and "v" in rows:
        axes = [("u", sizes["u"]), ("vc", sizes["v"] * c)]
    return broadcast_tile(axes, width, depth, vector, host)


def _is_joined(conv: Convolution) -> bool:
    """Whether the taps of a row lie one behind the other, with all their channels."""
    return conv.groups == 1 and conv.dilation[1] == 1


@dataclass(frozen=True, slots=True)
class _Written:
    """Writes the statements."""

    conv: Convolution
    x: Buffer
    g: Buffer
    out: Buffer
    vector: int
    finish: AtIndices | None
    part: tuple[Var, Var]

    def by_taps(self, tile: Tile) -> "_Result":
        """Tap after tap, each with those places that it meets."""
        conv = self.conv
        image = conv.size[0] * conv.size[1] * conv.channels
        what = self._contraction(image, conv.size[1] * conv.channels, (0, 0))
        bytes_ = 4 * (image + conv.places[0] * conv.places[1] * conv.units)
        block = max(1, min(_CACHED // bytes_, _CHUNK // (conv.places[0] * conv.places[1])))
        cut: Steps = (("n", block),)
        if block >= conv.batch or self.out.element is not wide(self.out.element):
            cut = ()
        outer = (("u", 1), *cut, ("v", 1), *self._columns(tile), ("c", tile.axes["c"]))
        body = self._statements(what, outer, tile, self.x, ("n", "i", "j"), {}, self.part)
        return body, [], conv.window[0]

    def in_rooms(self, tile: Tile) -> "_Result":
        """Image after image, copied into a room with its padding."""
        conv = self.conv
        (top, bottom), (left, right) = conv.padding
        n = Var("n")
        height, width, channels = *conv.size, conv.channels
        row = (left + width + right) * channels
        room = Buffer("room", wide(conv.element))
        size = (top + height + bottom) * row
        copy = copied(
            self.x, n * (height * width * channels), room, index(top * row + left * channels),
            (height, width * channels), (width * channels, 1), (row, 1),
        )  # fmt: skip
        what = self._contraction(0, row, (top, left))
        if _is_joined(conv):
            what = joined(what, "v", "c")
        what = replace(what, windows=())
        rows = tuple((name, step) for name, step in tile.axes.items())
        outer = (*self._columns(tile), *rows)
        part = self.part
        sums = self._statements(what, outer, tile, room, ("i", "j"), {"n": n}, part)
        body = [
            zeroed(room, size),
            For(n, index(0), index(conv.batch), (copy, *sums)),
        ]
        width = conv.groups if _is_by_channel(conv) else conv.units // conv.groups
        return body, [(room, size)], -(-width // (tile.vectors * self.vector))

    def _columns(self, tile: Tile) -> Steps:
        across = tile.vectors * self.vector
        if _is_by_channel(self.conv):
            return (("g", across),)
        return (("f", across), ("g", 1))

    def _statements(
        self, what: Contraction, outer: Steps, tile: Tile, x: Buffer, inner: tuple[str, ...],
        within: Mapping[str, Expr], part: tuple[Var, Var] | None,
    ) -> list[Statement]:  # fmt: skip
        lanes = "g" if _is_by_channel(self.conv) else "f"
        schedule = Schedule(outer, tile.axes, lanes, self.vector, tile.vectors, inner)
        writer = Contracting(what, schedule, x, self.g, self.out, self._finished, within, part)
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

    def _contraction(self, image: int, row: int, start: tuple[int, int]) -> Contraction:
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
            Axis("n", conv.batch, image, i.places * j.places * conv.units),
            Axis("i", i.places, i.step * row, j.places * conv.units),
            Axis("j", j.places, j.step * conv.channels, conv.units),
        )
        windows = (
            Window("i", "u", i.step, i.spread, i.offset, i.limit),
            Window("j", "v", j.step, j.spread, j.offset, j.limit),
        )
        begin = (start[0] + i.offset) * row + (start[1] + j.offset) * conv.channels
        return Contraction(axes, windows, (begin, 0, 0))


_Result = tuple[list[Statement], list[tuple[Buffer, int]], int]
