"""Convolutions whose operands are copied into the order in which they are read.

Images, some at a time, go into a room, by blocks of channels and with their padding. The weights
of a block of channels, for as many units as a tile is wide, go into a panel that stays in the first
cache, turned round on the way if they must be. So no lines that are needed at once share a place in
a cache because sizes are powers of two, and large weights are read once, as they are needed. A part
of the work is some images and the units of one panel.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fml.engine.kernels.blocking import Tile, broadcast_tile, unevenness
from fml.engine.kernels.contracting import AtIndices, Contracting, Finish
from fml.engine.kernels.contraction import Axis, Contraction, Schedule, Steps, Window, joined
from fml.engine.kernels.expr import Buffer, Expr, Var, compare, index, wide
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import For, If, Let, Statement
from fml.engine.kernels.packing import COPY, FAR, FROM_MEMORY, TURN, copied, turned, zeroed
from fml.engine.kernels.slides import Slide, Sweep

_PANEL = 36 << 10  # bytes of weights that are read again for every tile
_ROOM = 1 << 20  # bytes of images, or of what is made of them, that every panel goes through


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is copied and done at once, and what it costs.

    Attributes:
        padded: images are copied with their padding and tiles go along their rows; else tiles go
            over samples, at one place, and taps that lie outside are left out.
        images: of a part.
        step: summed channels of a block.
        tiles: one for each phase, all as wide.
    """

    padded: bool
    images: int
    step: int
    tiles: tuple[Tile, ...]
    cycles: float


def blocks_of(what: Sweep, vector: int, host: Host) -> Blocks:
    """The blocks that should take the fewest cycles."""
    return min(_candidates(what, vector, host), key=lambda blocks: blocks.cycles)


def _candidates(what: Sweep, vector: int, host: Host) -> Iterator[Blocks]:
    conv = what.conv
    for beside in range(1, min(6, max(1, -(-what.made // vector))) + 1):
        step = _step(what, beside * vector)
        for padded in (True, False):
            tiles: tuple[Tile, ...] = ()
            for images in _divisors(max(1, conv.batch)):
                if images > 1 and images * _moved(what, padded) > _ROOM:
                    break
                if not (padded and tiles):
                    tiles = _tiles(what, padded, images, step, beside, vector, host)
                yield _costed(what, padded, images, step, tiles, vector)


def _tiles(
    what: Sweep, padded: bool, images: int, step: int, beside: int, vector: int, host: Host
) -> tuple[Tile, ...]:
    """The best tile so wide of each phase."""
    found: list[Tile] = []
    for rows, columns in what.slides:
        axes, met = [("i", rows.places), ("j", columns.places)], 1.0
        if not padded:
            axes, met = [("n", images)], rows.met * columns.met
        depth = max(1, round(met * rows.taps * columns.taps * what.summed))
        passes = what.summed // step
        found.append(broadcast_tile(axes, what.made, depth, vector, host, (beside,), passes))
    return tuple(found)


def _costed(
    what: Sweep, padded: bool, images: int, step: int, tiles: tuple[Tile, ...], vector: int
) -> Blocks:
    conv, across = what.conv, tiles[0].vectors * vector
    blocks = max(1, conv.batch // images)
    cycles = sum(
        tile.cycles * (images if padded else rows.places * columns.places)
        for (rows, columns), tile in zip(what.slides, tiles, strict=True)
    )
    pack = TURN if what.is_back else COPY
    if 4 * what.entries > FAR:
        pack += FROM_MEMORY
    panels = -(-what.made // across)
    if what.is_back or panels > 1:
        cycles += what.entries / conv.groups * pack
    cycles = (cycles * blocks + conv.batch * _image(what, padded) / 4 * COPY) * conv.groups
    parts = [across] * (panels - 1) + [what.made - across * (panels - 1)]
    return Blocks(padded, images, step, tiles, cycles * unevenness(parts, blocks))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _step(what: Sweep, across: int) -> int:
    """Channels of a block, whose weights should stay in the first cache; a divisor of all."""
    taps = what.conv.window[0] * what.conv.window[1]
    room = max(4, _PANEL // (4 * across * taps))
    if what.summed <= room:
        return max(1, what.summed)
    found = max(d for d in _divisors(what.summed) if d <= room)
    return found if 3 * found >= room else what.summed


def _image(what: Sweep, padded: bool) -> int:
    """Bytes of a group's channels of an image in the room."""
    height, width = _size(what, padded)
    return 4 * height * width * what.summed


def _moved(what: Sweep, padded: bool) -> int:
    """Bytes of an image in the room or of what is made of it, which all panels go through."""
    return max(_image(what, padded), 4 * what.result[0] * what.result[1] * what.made)


def _size(what: Sweep, padded: bool) -> tuple[int, int]:
    if not padded:
        return what.source
    (top, bottom), (left, right) = what.room
    return top + what.source[0] + bottom, left + what.source[1] + right


@dataclass(frozen=True, slots=True)
class _Panel:
    """Panels of one width: the first one's number and how many there are."""

    width: int
    first: int
    count: int


@dataclass(slots=True)
class Packed:
    """Writes the statements."""

    what: Sweep
    blocks: Blocks
    source: Buffer
    kernel: Buffer
    out: Buffer
    vector: int
    finish: AtIndices | None
    part: tuple[Var, Var]

    def statements(self) -> tuple[list[Statement], list[tuple[Buffer, int]]]:
        """The body, and scratch with its sizes."""
        part, block, group, panel = Var("part"), Var("block"), Var("group"), Var("panel")
        body: list[Statement] = [
            Let(block, part // (self.what.conv.groups * self._panels)),
            Let(group, part // self._panels % self.what.conv.groups),
            Let(panel, part % self._panels),
        ]
        at = {"b": block, "g": group, "p": panel}
        before: list[Statement] = []
        scratch: list[tuple[Buffer, int]] = []
        source, weights = self.source, self.kernel
        if not self._is_in_place:
            source = Buffer("room", wide(self.out.element))
            scratch.append((source, self._room_entries))
            if self.blocks.padded and self.what.room != ((0, 0), (0, 0)):
                before.append(zeroed(source, self._room_entries))
            is_new = compare("equal", panel, 0) | compare("equal", part, self.part[0])
            body.append(If(is_new, tuple(self._copied(source, at))))
        if not self._is_packed_already:
            weights = Buffer("panel", wide(self.out.element))
            taps = self.what.conv.window[0] * self.what.conv.window[1]
            scratch.append((weights, taps * self.blocks.step * self._across))
            if self.what.made % self.vector:
                before.append(zeroed(weights, scratch[-1][1]))
        for piece in self._pieces():
            inside = tuple(self._of_panel(piece, source, weights, at))
            last = piece.first + piece.count
            wanted = compare("less", panel, last) & compare("greater_equal", panel, piece.first)
            body += [If(wanted, inside)] if piece.count < self._panels else inside
        return [*before, For(part, *self.part, tuple(body))], scratch

    @property
    def parts(self) -> int:
        """Of the work."""
        conv = self.what.conv
        return conv.batch // self.blocks.images * conv.groups * self._panels

    # --- sizes ----------------------------------------------------------------------------------

    @property
    def _across(self) -> int:
        return self.blocks.tiles[0].vectors * self.vector

    @property
    def _panels(self) -> int:
        return max(1, -(-self.what.made // self._across))

    @property
    def _cuts(self) -> int:
        return max(1, self.what.summed // self.blocks.step)

    @property
    def _is_in_place(self) -> bool:
        """Whether the images are read where they are."""
        return self._cuts == 1 and self.blocks.padded and self.what.room == ((0, 0), (0, 0))

    @property
    def _is_packed_already(self) -> bool:
        """Whether the kernel has the order of its only panel."""
        is_whole = self.what.made % self.vector == 0 or self.what.made < self.vector
        is_one = self._panels == self.what.conv.groups == 1
        return not self.what.is_back and is_one and is_whole

    @property
    def _room_entries(self) -> int:
        return self.blocks.images * _image(self.what, self.blocks.padded) // 4

    def _pieces(self) -> list[_Panel]:
        whole, left = divmod(self.what.made, self._across)
        found = [_Panel(self._across, 0, whole), _Panel(left, whole, 1)]
        return [piece for piece in found if piece.width and piece.count]

    def _steps(self) -> tuple[int, int, int, int]:
        """From block to block of channels, image to image, row to row and place to place."""
        step, images = self.blocks.step, self.blocks.images
        height, width = _size(self.what, self.blocks.padded)
        if self._is_in_place:
            channels = self.what.channels[0]
            return 0, height * width * channels, width * channels, channels
        if self.blocks.padded:
            image = height * width * step
            return images * image, image, width * step, step
        # Samples beside each other, so that those of a tile share no place in a cache.
        return images * height * width * step, step, width * images * step, images * step

    # --- copies ---------------------------------------------------------------------------------

    def _copied(self, room: Buffer, at: Mapping[str, Expr]) -> list[Statement]:
        """Images of a block into the room."""
        what, step = self.what, self.blocks.step
        height, width = what.source
        channels = what.channels[0]
        block, image, row, place = self._steps()
        (top, _), (left, _) = what.room if self.blocks.padded else ((0, 0), (0, 0))
        begin = at["b"] * (self.blocks.images * height * width * channels)
        return [
            copied(
                self.source, begin + at["g"] * what.summed, room,
                index(top * row + left * place),
                (self._cuts, self.blocks.images, height, width, step),
                (step, height * width * channels, width * channels, channels, 1),
                (block, image, row, place, 1),
            )
        ]  # fmt: skip

    def _packed(
        self, slides: tuple[Slide, Slide], panel: Buffer, start: int, width: int,
        at: Mapping[str, Expr],
    ) -> list[Statement]:  # fmt: skip
        """The weights of a phase into the panel: [taps, channels of the block, units]."""
        w, step, across = self.what.weights(turned=False), self.blocks.step, self._across
        i, j = slides
        first = index(w.start + i.tap * w.row + j.tap * w.tap)
        first = (
            first + at["g"] * w.group + at["p"] * (across * w.made) + at["k"] * (step * w.summed)
        )
        rows = (i.taps, i.tap_step * w.row, j.taps * step * across)
        taps = (j.taps, j.tap_step * w.tap, step * across)
        if self.what.is_back:
            return turned(
                self.kernel, panel, width, step, w.made, across, self.vector, (rows, taps), first,
                index(start),
            )  # fmt: skip
        return [
            copied(
                self.kernel, first, panel, index(start), (i.taps, j.taps, step, width),
                (rows[1], taps[1], w.summed, 1), (rows[2], taps[2], across, 1),
            )
        ]  # fmt: skip

    # --- sums -----------------------------------------------------------------------------------

    def _of_panel(
        self, piece: _Panel, source: Buffer, weights: Buffer, at: Mapping[str, Expr]
    ) -> list[Statement]:
        """All blocks of channels of one panel's units."""
        cut = Var("cut")
        where = {**at, "k": cut}
        if piece.count == 1:
            where["p"] = index(piece.first)
        inside: list[Statement] = []
        start = 0
        for slides, tile in zip(self.what.slides, self.blocks.tiles, strict=True):
            i, j = slides
            begin = 0
            if weights is not self.kernel:
                inside += self._packed(slides, weights, start, piece.width, where)
                begin, start = start, start + i.taps * j.taps * self.blocks.step * self._across
            inside += self._summed(slides, tile, piece, source, weights, begin, where)
        if self._cuts == 1:
            return [Let(cut, index(0)), *inside]
        return [For(cut, index(0), index(self._cuts), tuple(inside))]

    def _summed(
        self, slides: tuple[Slide, Slide], tile: Tile, piece: _Panel, source: Buffer,
        weights: Buffer, start: int, at: Mapping[str, Expr],
    ) -> tuple[Statement, ...]:  # fmt: skip
        contraction = self._contraction(slides, piece.width, weights is self.kernel, start)
        if self.blocks.padded:
            contraction = joined(replace(contraction, windows=()), "v", "k")
        names = {axis.name for axis in contraction.axes}
        loops: tuple[str, ...] = ("n", "i", "j") if self.blocks.padded else ("i", "j", "n")
        outer: Steps = (("m", self._across), *((n, tile.axes.get(n, 1)) for n in loops))
        within = {"b": at["b"], "g": at["g"], "p": at["p"], "c": at["k"]}
        schedule = Schedule(
            outer, tile.axes, "m", self.vector, tile.vectors,
            tuple(name for name in ("u", "v", "vk", "k") if name in names),
            is_padded=weights is not self.kernel,
        )  # fmt: skip
        writer = Contracting(
            contraction, schedule, source, weights, self.out, self._finished(slides), within
        )
        return writer.statements()

    def _finished(self, slides: tuple[Slide, Slide]) -> Finish | None:
        given = self.finish
        if given is None:
            return None
        i, j = slides
        images, across, made = self.blocks.images, self._across, self.what.made
        return lambda total, at: given(
            total,
            (
                at["b"] * images + at["n"],
                at["i"] * i.out_step + i.out,
                at["j"] * j.out_step + j.out,
                at["g"] * made + at["p"] * across + at["m"],
            ),
        )

    def _contraction(
        self, slides: tuple[Slide, Slide], width: int, is_kernel: bool, start: int
    ) -> Contraction:
        """The sums of one phase and panel; axes b, g, p and c are where the part and cut stand."""
        what, images, step = self.what, self.blocks.images, self.blocks.step
        block, image, row, place = self._steps()
        (i, j), (height, across) = slides, what.result
        (top, _), (left, _) = what.room if self.blocks.padded else ((0, 0), (0, 0))
        if self._is_in_place:
            top = left = 0
        made = what.channels[1]
        line, pixel = across * made, made
        w = what.weights(turned=False)
        in_place = self._is_in_place
        rows, taps, deep, cut = (j.taps * step * self._across, step * self._across, self._across, 0)
        if is_kernel:
            rows, taps, deep, cut = (
                i.tap_step * w.row, j.tap_step * w.tap, w.summed, step * w.summed
            )  # fmt: skip
            start = w.start + i.tap * w.row + j.tap * w.tap
        axes = (
            Axis("b", max(1, what.conv.batch // images), images * image if in_place else 0, 0,
                 images * height * line),
            Axis("g", what.conv.groups, what.summed if in_place else 0, 0, what.made),
            Axis("p", self._panels, 0, 0, self._across),
            Axis("c", self._cuts, block, cut, 0),
            Axis("n", images, image, 0, height * line),
            Axis("i", i.places, i.step * row, 0, i.out_step * line),
            Axis("j", j.places, j.step * place, 0, j.out_step * pixel),
            Axis("m", width, 0, 1, 1),
            Axis("u", i.taps, i.spread * row, rows),
            Axis("v", j.taps, j.spread * place, taps),
            Axis("k", step, 1, deep),
        )  # fmt: skip
        windows = (
            Window("i", "u", i.step, i.spread, i.offset, i.limit),
            Window("j", "v", j.step, j.spread, j.offset, j.limit),
        )
        starts = (
            (i.offset + top) * row + (j.offset + left) * place,
            start,
            i.out * line + j.out * pixel,
        )
        return Contraction(axes, windows, starts)
