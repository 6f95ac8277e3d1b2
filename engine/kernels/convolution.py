"""Convolutions of images (channels last) and the gradients of their images as contractions.

There are four ways, and the one that should take the fewest cycles is chosen. Either the tile goes
along a row of an image that was copied into a room with its padding, or, where images are small and
padding would be much of the work, over samples, all at one place, and taps that lie outside are
left out. And vectors lie along the channels of the result, or, where these are few, along those
that are summed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fml.engine.kernels.blocking import Tile, broadcast_tile, folded_tile, vector_of
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
from fml.engine.kernels.packing import COPY, TURN, copied, turned, zeroed
from fml.engine.kernels.slides import Convolution, Slide, backward_slides, forward_slide

_WAYS, _PAGE = 8, 4096  # lines so far apart share a few places in the first cache
_PANEL = 24 << 10  # bytes of weights that are read again for every tile
_CACHED = 1 << 18  # bytes of images that are read again for every few channels
_FAR = 1.35  # times as long where they do not fit
_CHUNK = 1024  # products that are added up before they meet the others


@dataclass(frozen=True, slots=True)
class _Weights:
    """Steps through a kernel, as it is or turned round: [kh, kw, units, c], the taps of a row last
    to first.
    """

    row: int
    tap: int
    summed: int
    made: int
    group: int
    start: int


@dataclass(frozen=True, slots=True)
class _Sliding:
    """What forward and back have in common: a source that a window slides over, and a result.

    Attributes:
        slides: one pair for each phase, along height and width.
        summed, made: channels of a group in the source and in the result.
    """

    conv: Convolution
    source: tuple[int, int]
    result: tuple[int, int]
    summed: int
    made: int
    slides: tuple[tuple[Slide, Slide], ...]
    is_back: bool

    @property
    def turned_is_broadcast(self) -> bool:
        """Whether lanes along the result's channels need the kernel turned round."""
        return self.is_back

    @property
    def is_by_channel(self) -> bool:
        """Every channel makes one channel."""
        return self.summed == self.made == 1 and self.conv.groups > 1

    def weights(self, turned: bool) -> _Weights:
        conv = self.conv
        c, f = conv.channels // conv.groups, conv.units // conv.groups
        tap = c * conv.units
        if turned:
            of_c, of_f, group = 1, c, f * c
        else:
            of_c, of_f, group = conv.units, 1, f
        summed, made = (of_f, of_c) if self.is_back else (of_c, of_f)
        row = tap * conv.window[1]
        if turned:
            return _Weights(row, -tap, summed, made, group, row - tap)
        return _Weights(row, tap, summed, made, group, 0)


@dataclass(frozen=True, slots=True)
class _Way:
    """How it is done."""

    in_room: bool
    folds: bool
    tiles: tuple[Tile, ...]
    cycles: float


def forward(conv: Convolution, name: str, host: Host, finish: AtIndices | None = None) -> Kernel:
    """A kernel of (x, w, out, scratch...): out = conv(x, w)."""
    slides = ((forward_slide(conv, 0), forward_slide(conv, 1)),)
    c, f = conv.channels // conv.groups, conv.units // conv.groups
    return _kernel(
        _Sliding(conv, conv.size, conv.places, c, f, slides, False), name, ("x", "w"), host, finish
    )


def input_gradient(
    conv: Convolution, name: str, host: Host, finish: AtIndices | None = None
) -> Kernel:
    """A kernel of (g, w, out, scratch...): the gradient of the images from that of the result."""
    slides = tuple(
        (rows, columns)
        for rows in backward_slides(conv, 0) for columns in backward_slides(conv, 1)
    )  # fmt: skip
    c, f = conv.channels // conv.groups, conv.units // conv.groups
    return _kernel(
        _Sliding(conv, conv.places, conv.size, f, c, slides, True), name, ("g", "w"), host, finish
    )


def _kernel(
    what: _Sliding, name: str, names: tuple[str, str], host: Host, finish: AtIndices | None
) -> Kernel:
    conv = what.conv
    vector = vector_of(conv.element, host)
    way = min(
        (_way(what, in_room, folds, vector, host) for in_room in (True, False)
         for folds in ((False,) if what.is_by_channel else (False, True))),
        key=lambda way: way.cycles,
    )  # fmt: skip
    source, kernel = (Buffer(n, conv.element) for n in names)
    out = Buffer("out", conv.element)
    begin, end = Var("begin"), Var("end")
    made = _Made(what, way, source, kernel, out, vector, finish, (begin, end))
    body, scratch = made.statements()
    return Kernel(
        name, (source, kernel, out, *(b for b, _ in scratch)), tuple(body), (begin, end),
        scratch=tuple(size for _, size in scratch), parts=made.parts,
    )  # fmt: skip


# --- choosing ------------------------------------------------------------------------------------


def _is_turned(what: _Sliding, folds: bool) -> bool:
    return not what.is_by_channel and folds != what.is_back


def _way(what: _Sliding, in_room: bool, folds: bool, vector: int, host: Host) -> _Way:
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
    if in_room and _room(what) != ((0, 0), (0, 0)):
        cycles += conv.batch * what.source[0] * what.source[1] * _channels(what)[0] * COPY
    if _is_turned(what, folds):
        cycles += _entries(conv) * TURN
    return _Way(in_room, folds, tuple(tiles), cycles)


def _beside(what: _Sliding) -> int:
    """Samples that a tile may hold: those whose rows a cache of few ways can keep."""
    return min(what.conv.batch, _WAYS) if _image(what) % _PAGE == 0 else what.conv.batch


def _image(what: _Sliding) -> int:
    """Bytes of an image of the source."""
    return what.source[0] * what.source[1] * _channels(what)[0] * 4


def _channels(what: _Sliding) -> tuple[int, int]:
    return what.summed * what.conv.groups, what.made * what.conv.groups


def _entries(conv: Convolution) -> int:
    return conv.window[0] * conv.window[1] * conv.channels // conv.groups * conv.units


def _room(what: _Sliding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after, along height and width, that serve every phase."""
    rooms = [
        [pair[k].room for pair in what.slides if pair[0].taps and pair[1].taps] for k in (0, 1)
    ]
    before, after = ([max((r[side] for r in room), default=0) for room in rooms] for side in (0, 1))
    return (before[0], after[0]), (before[1], after[1])


# --- statements ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    """Writes the statements of one way."""

    what: _Sliding
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
        scratch.append((to, _entries(conv)))
        kernel, self.kernel = self.kernel, to
        tap = c * f
        outer = ((kh, kw * tap, kw * tap), (kw, tap, -tap))
        return turned(kernel, to, c, f, f, c, self.vector, outer, to_at=index((kw - 1) * tap))

    def _in_rooms(self, scratch: list[tuple[Buffer, int]]) -> list[Statement]:
        """Image after image is copied into a room with its padding."""
        what, conv = self.what, self.what.conv
        channels = _channels(what)[0]
        (top, bottom), (left, right) = _room(what)
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
        channels = _channels(what)[0]
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
        if self.what.summed < 2 * step or self.out.element is not wide(self.out.element):
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
        channels, made = _channels(what)
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
