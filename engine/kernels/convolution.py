"""Convolutions of images (channels last) and the gradients of their images as contractions.

Vectors lie along the channels of the result (`panels.py`), or, where these are few or there is
little work for large weights, along those that are summed, or, where every channel is a group,
along the groups. In the last two ways the tile goes along a row of an image that was copied into a
room with its padding, or, where images are small and padding would be much of the work, over
samples, all at one place, and taps that lie outside are left out. The way that should take the
fewest cycles is chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fml.engine.kernels.blocking import Tile, broadcast_tile, folded_tile, unevenness, vector_of
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
from fml.engine.kernels.packing import (
    COPY,
    FAR,
    FROM_MEMORY,
    TURN,
    TURN_FAR,
    copied,
    turned,
    zeroed,
)
from fml.engine.kernels.panels import Packed, blocks_of
from fml.engine.kernels.slides import (
    Convolution,
    Slide,
    Sweep,
    backward_sweep,
    forward_sweep,
)

_WAYS, _PAGE = 8, 4096  # lines so far apart share a few places in the first cache
_PANEL = 24 << 10  # bytes of weights that are read again for every tile
_CACHED = 1 << 18  # bytes of images that are read again for every few channels
_FAR = 1.35  # times as long where they do not fit
_CHUNK = 1024  # products that are added up before they meet the others


@dataclass(frozen=True, slots=True)
class _Way:
    """How it is done."""

    in_room: bool
    folds: bool
    tiles: tuple[Tile, ...]
    cycles: float


def forward(conv: Convolution, name: str, host: Host, finish: AtIndices | None = None) -> Kernel:
    """A kernel of (x, w, sums, scratch...): sums = conv(x, w)."""
    return _kernel(forward_sweep(conv), name, ("x", "w"), host, finish)


def input_gradient(
    conv: Convolution, name: str, host: Host, finish: AtIndices | None = None
) -> Kernel:
    """A kernel of (g, w, sums, scratch...): the gradient of the images from that of the result."""
    return _kernel(backward_sweep(conv), name, ("g", "w"), host, finish)


def _kernel(
    what: Sweep, name: str, names: tuple[str, str], host: Host, finish: AtIndices | None
) -> Kernel:
    conv = what.conv
    vector = vector_of(conv.element, host)
    ways = [
        _way(what, in_room, not what.is_by_channel, vector, host) for in_room in (True, False)
    ]  # fmt: skip
    way = min(ways, key=lambda way: way.cycles)
    source, kernel = (Buffer(n, conv.element) for n in names)
    out = Buffer("out", wide(conv.element))
    part = (Var("begin"), Var("end"))
    made: _Made | Packed = _Made(what, way, source, kernel, out, vector, finish, part)
    if not what.is_by_channel:
        blocks = blocks_of(what, vector, host)
        if blocks.cycles < way.cycles:
            made = Packed(what, blocks, source, kernel, out, vector, finish, part)
    body, scratch = made.statements()
    return Kernel(
        name, (source, kernel, out, *(b for b, _ in scratch)), tuple(body), part,
        scratch=tuple(size for _, size in scratch), parts=made.parts,
    )  # fmt: skip


# --- choosing ------------------------------------------------------------------------------------


def _is_turned(what: Sweep, folds: bool) -> bool:
    return not what.is_by_channel and folds != what.is_back


def _way(what: Sweep, in_room: bool, folds: bool, vector: int, host: Host) -> _Way:
    conv, cycles = what.conv, 0.0
    tiles: list[Tile] = []
    for rows, columns in what.slides:
        if in_room:
            axes = [("i", rows.places), ("j", columns.places)]
            met, often = 1.0, conv.batch
        else:
            axes = [("n", _beside(what))]
            met, often = rows.met * columns.met, rows.places * columns.places
            often *= conv.batch / max(1, _beside(what))
            if conv.batch * _image(what) > _CACHED:
                often *= _FAR
        depth = max(1, round(met * rows.taps * columns.taps * what.summed))
        if folds:
            tile = folded_tile(axes, [("m", what.made)], depth, vector, host)
        else:
            width = conv.groups if what.is_by_channel else what.made
            tile = broadcast_tile(axes, width, depth, vector, host)
        tiles.append(tile)
        cycles += often * tile.cycles * (1 if what.is_by_channel else conv.groups)
    if in_room and what.room != ((0, 0), (0, 0)):
        cycles += conv.batch * what.source[0] * what.source[1] * what.channels[0] * COPY
    if 4 * what.entries > FAR:
        cycles += what.entries * FROM_MEMORY
    if _is_turned(what, folds):
        cycles += what.entries * (TURN if 4 * what.entries <= FAR else TURN_FAR)
    if in_room:
        parts, times = [1], conv.batch
    else:
        across = tiles[0].axes["m"] if folds else tiles[0].vectors * vector
        width = what.made if folds else conv.groups
        parts, times = [min(across, width - at) for at in range(0, width, across)], 1
    return _Way(in_room, folds, tuple(tiles), cycles * unevenness(parts, times))


def _beside(what: Sweep) -> int:
    """Samples that a tile may hold: those whose rows a cache of few ways can keep."""
    return min(what.conv.batch, _WAYS) if _image(what) % _PAGE == 0 else what.conv.batch


def _image(what: Sweep) -> int:
    """Bytes of an image of the source."""
    return what.source[0] * what.source[1] * what.channels[0] * 4


# --- statements ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    """Writes the statements of one way."""

    what: Sweep
    way: _Way
    source: Buffer
    kernel: Buffer
    out: Buffer
    vector: int
    finish: AtIndices | None
    part: tuple[Var, Var]
    parts: int = 0

    def statements(self) -> tuple[list[Statement], list[tuple[Buffer, int]]]:
        """The body, and scratch with its sizes."""
        body: list[Statement] = []
        scratch: list[tuple[Buffer, int]] = []
        if _is_turned(self.what, self.way.folds):
            body += self._turned(scratch)
        if self.way.in_room:
            body += self._in_rooms(scratch)
        else:
            body += self._by_samples()
        return body, scratch

    def _turned(self, scratch: list[tuple[Buffer, int]]) -> list[Statement]:
        """Turn the kernel round: what was made is summed."""
        conv = self.what.conv
        to = Buffer("turned", wide(conv.element))
        c, f = conv.channels // conv.groups, conv.units
        kh, kw = conv.window
        scratch.append((to, self.what.entries))
        kernel, self.kernel = self.kernel, to
        tap = c * f
        outer = ((kh, kw * tap, kw * tap), (kw, tap, -tap))
        return turned(kernel, to, c, f, f, c, self.vector, outer, to_at=index((kw - 1) * tap))

    def _in_rooms(self, scratch: list[tuple[Buffer, int]]) -> list[Statement]:
        """Image after image is copied into a room with its padding."""
        what, conv = self.what, self.what.conv
        channels = what.channels[0]
        (top, bottom), (left, right) = what.room
        height, width = what.source
        n, before, inside = Var("n"), [], []
        source, step, row = self.source, height * width * channels, width * channels
        start = 0
        if (top, bottom, left, right) != (0, 0, 0, 0):
            row, step = (left + width + right) * channels, 0
            start = top * row + left * channels
            room = Buffer("room", wide(conv.element))
            scratch.append((room, (top + height + bottom) * row))
            before = [zeroed(room, scratch[-1][1])]
            inside = [
                copied(
                    source, n * (height * width * channels), room, index(start),
                    (height, width * channels), (width * channels, 1), (row, 1),
                )
            ]  # fmt: skip
            source = room
        for slides, tile in zip(what.slides, self.way.tiles, strict=True):
            contraction = self._contraction(slides, step, row, start)
            contraction = replace(contraction, windows=())
            if not self._cut(tile):
                contraction = joined(contraction, "v", "k")
            outer = (*self._columns(tile), ("i", tile.axes["i"]), ("j", tile.axes["j"]))
            inside += self._written(contraction, slides, tile, outer, source, {"n": n}, None)
        self.parts = conv.batch
        return [*before, For(n, self.part[0], self.part[1], tuple(inside))]

    def _by_samples(self) -> list[Statement]:
        """Place after place, for a few samples at once."""
        what = self.what
        channels = what.channels[0]
        height, width = what.source
        made: list[Statement] = []
        for slides, tile in zip(what.slides, self.way.tiles, strict=True):
            step, row = height * width * channels, width * channels
            contraction = self._contraction(slides, step, row, 0)
            beside = tile.axes["n"]
            outer: Steps = (*self._columns(tile), ("i", 1), ("j", 1), ("n", beside))
            block = max(1, _CACHED // (beside * _image(what))) * beside
            if block < what.conv.batch:
                outer = (("n", block), *outer)
            made += self._written(contraction, slides, tile, outer, self.source, {}, self.part)
            # As many for each phase: their tiles differ, and some are longer.
            name, step = outer[0]
            self.parts = max(self.parts, -(-contraction.axis(name).size // step))
        return made

    def _across(self, tile: Tile) -> int:
        return tile.axes["m"] if self.way.folds else tile.vectors * self.vector

    def _columns(self, tile: Tile) -> Steps:
        """Loops over what lies beside each other in the result, outside of its places."""
        name = "g" if self.what.is_by_channel else "m"
        groups = () if self.what.is_by_channel or self.what.conv.groups == 1 else (("g", 1),)
        return ((name, self._across(tile)), *groups, *self._cut(tile))

    def _cut(self, tile: Tile) -> Steps:
        """Cut sums along the channels, so that the weights of a part stay in the first cache."""
        taps = self.what.conv.window[0] * self.what.conv.window[1]
        room = min(_CHUNK, _PANEL // (4 * self._across(tile))) // taps
        step = max(1, room // self.vector) * self.vector
        if self.what.summed < 2 * step:
            return ()
        return (("k", step),)

    def _written(
        self, contraction: Contraction, slides: tuple[Slide, Slide], tile: Tile, outer: Steps,
        source: Buffer, within: Mapping[str, Expr], part: tuple[Var, Var] | None,
    ) -> Sequence[Statement]:  # fmt: skip
        names = {axis.name for axis in contraction.axes}
        lanes = "k" if self.way.folds else "g" if self.what.is_by_channel else "m"
        schedule = Schedule(
            outer, tile.axes, lanes if lanes in names else "vk", self.vector, tile.vectors,
            tuple(name for name in ("u", "v", "vk", "k") if name in names),
        )  # fmt: skip
        writer = Contracting(
            contraction, schedule, source, self.kernel, self.out, self._finished(slides),
            within, part,
        )  # fmt: skip
        return writer.statements()

    def _finished(self, slides: tuple[Slide, Slide]) -> Finish | None:
        given, made = self.finish, self.what.made
        if given is None:
            return None
        i, j = slides
        return lambda total, at: given(
            total,
            (
                at["n"],
                at["i"] * i.out_step + i.out,
                at["j"] * j.out_step + j.out,
                at["g"] * made + at["m"],
            ),
        )

    def _contraction(
        self, slides: tuple[Slide, Slide], image: int, row: int, start: int
    ) -> Contraction:
        """The sums of one phase, given the steps of the source from image to image, row to row."""
        what, conv = self.what, self.what.conv
        channels, made = what.channels
        w = what.weights(_is_turned(what, self.way.folds))
        (i, j), (height, width) = slides, what.result
        axes = (
            Axis("n", conv.batch, image, 0, height * width * made),
            Axis("i", i.places, i.step * row, 0, i.out_step * width * made),
            Axis("j", j.places, j.step * channels, 0, j.out_step * made),
            Axis("g", conv.groups, what.summed, w.group, what.made),
            Axis("m", what.made, 0, w.made, 1),
            Axis("u", i.taps, i.spread * row, i.tap_step * w.row),
            Axis("v", j.taps, j.spread * channels, j.tap_step * w.tap),
            Axis("k", what.summed, 1, w.summed),
        )
        windows = (
            Window("i", "u", i.step, i.spread, i.offset, i.limit),
            Window("j", "v", j.step, j.spread, j.offset, j.limit),
        )
        starts = (
            start + i.offset * row + j.offset * channels,
            w.start + i.tap * w.row + j.tap * w.tap,
            i.out * width * made + j.out * made,
        )
        return Contraction(axes, windows, starts)
