"""Products of matrices as contractions.

Vectors lie along the columns of the result, or, where there are few rows for a second operand that
is transposed, along the sum. A product may also go the way of convolutions, of images of one entry
(`panels.py`), which turns that operand round panel by panel. Rows or columns are cut into two
halves where that does not cost much.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fml.engine.ir.types import Element
from fml.engine.kernels.blocking import Tile, broadcast_tile, folded_tile, vector_of
from fml.engine.kernels.contracting import AtIndices, Contracting, Finish
from fml.engine.kernels.contraction import Axis, Contraction, Schedule, Steps
from fml.engine.kernels.expr import Buffer, Expr, Var, index, wide
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Statement
from fml.engine.kernels.packing import FAR, FROM_MEMORY, TURN, TURN_FAR, turned
from fml.engine.kernels.panels import Packed, blocks_of
from fml.engine.kernels.slides import Convolution, backward_sweep, forward_sweep

_CHUNK = 256  # products that are added up before they meet the others
_CACHED = 1 << 18  # bytes of rows that are read for every few columns
_SHALLOW = 32  # products of a sum, below which writing takes longer
_WHOLE = 1.25  # what work is thought to take that cannot be halved
_BLOCK = 512  # columns whose entries of a chunk are read for every few rows
_FEW_ROWS = 64  # for which the second operand is read once
_STREAMED = 64  # rows of it that are read together then: pieces of as many pages
_INTERLEAVED = 1.1  # the result is most, and of each of its rows another core has the next lines


@dataclass(frozen=True, slots=True)
class Product:
    """Sizes of out[batch, rows, columns] = a[batch, rows, depth] b[batch, depth, columns].

    Attributes:
        a_shared, b_shared: there is one matrix for all of the batch.
        is_cut: those of the batch are parts of one sum: `a` is one matrix, whose columns are cut.
        a_turned, b_turned: the last two axes stand the other way round in memory.
    """

    element: Element
    rows: int
    depth: int
    columns: int
    batch: int = 1
    a_turned: bool = False
    b_turned: bool = False
    a_shared: bool = False
    b_shared: bool = False
    is_cut: bool = False


def matmul(product: Product, name: str, host: Host, finish: AtIndices | None = None) -> Kernel:
    """A kernel of (a, b, sums, scratch...); `finish` is given indices [batch, row, column]."""
    a, b = (Buffer(n, product.element) for n in ("a", "b"))
    out = Buffer("out", wide(product.element))
    writer = _Written(product, host, a, b, out, finish, (Var("begin"), Var("end")))
    if product.columns == 1 and product.rows > 1:
        writer = writer.exchanged()
    body, scratch, parts = writer.statements()
    buffers = (a, b, out, *(buffer for buffer, _ in scratch))
    sizes = tuple(size for _, size in scratch)
    return Kernel(name, buffers, tuple(body), writer.part, scratch=sizes, parts=parts)


@dataclass(frozen=True, slots=True)
class _Written:
    """Writes the statements."""

    product: Product
    host: Host
    a: Buffer
    b: Buffer
    out: Buffer
    finish: AtIndices | None
    part: tuple[Var, Var]

    def exchanged(self) -> "_Written":
        """A single column as a single row."""
        p = self.product

        given = self.finish

        def finish(total: Expr, at: tuple[Expr, ...]) -> Sequence[Statement]:
            assert given is not None
            return given(total, (at[0], at[2], at[1]))

        exchanged = Product(
            p.element, p.columns, p.depth, p.rows, p.batch, False, not p.a_turned,
            p.b_shared, p.a_shared,
        )  # fmt: skip
        wanted = None if given is None else finish
        return replace(self, product=exchanged, a=self.b, b=self.a, finish=wanted)

    def statements(self) -> tuple[list[Statement], list[tuple[Buffer, int]], int]:
        """The body, scratch with its sizes, and the number of parts."""
        p = self.product
        vector = vector_of(p.element, self.host)
        plan = min(_plans(p, vector, self.host), key=lambda plan: plan.cycles)
        packed = self._packed(vector)
        if packed is not None and packed.blocks.cycles < plan.cycles:
            return *packed.statements(), packed.parts
        scratch: list[tuple[Buffer, int]] = []
        body: list[Statement] = []
        writer = self
        if p.b_turned == (plan.lanes == "n"):
            writer = self._turned(body, scratch, vector)
        schedule = Schedule(
            writer._outer(plan, vector), plan.tile.axes, plan.lanes, vector, plan.tile.vectors,
            ("k",), ahead=writer._ahead(plan, vector),
            falling="n" if writer._streams and writer.product.b_turned else "",
        )  # fmt: skip
        contracting = Contracting(
            _contraction(writer.product), schedule, writer.a, writer.b, self.out, writer._finished,
            part=self.part,
        )  # fmt: skip
        return [*body, *contracting.statements()], scratch, plan.parts

    def _packed(self, vector: int) -> Packed | None:
        """The product as a convolution of images of one entry, if it can be one."""
        p = self.product
        if p.batch != 1 or p.a_turned or 0 in {p.rows, p.depth, p.columns}:
            return None
        given = self.finish

        def finish(total: Expr, at: tuple[Expr, ...]) -> Sequence[Statement]:
            assert given is not None
            return given(total, (index(0), at[0], at[3]))

        channels, units = (p.columns, p.depth) if p.b_turned else (p.depth, p.columns)
        conv = Convolution(p.element, p.rows, (1, 1), channels, (1, 1), units)
        sweep = backward_sweep(conv) if p.b_turned else forward_sweep(conv)
        return Packed(
            sweep, blocks_of(sweep, vector, self.host), self.a, self.b, self.out, vector,
            None if given is None else finish, self.part,
        )  # fmt: skip

    def _turned(
        self, body: list[Statement], scratch: list[tuple[Buffer, int]], vector: int
    ) -> "_Written":
        """Turn the matrices of `b` round first."""
        p = self.product
        to = Buffer("turned", wide(p.element))
        count = 1 if p.b_shared else p.batch
        size = p.depth * p.columns
        scratch.append((to, size * count))
        rows, columns = (p.columns, p.depth) if p.b_turned else (p.depth, p.columns)
        outer = ((count, size, size),)
        body += turned(self.b, to, rows, columns, columns, rows, vector, outer)
        return replace(self, b=to, product=replace(p, b_turned=not p.b_turned))

    @property
    def _streams(self) -> bool:
        """Whether the second operand comes from memory and serves few rows."""
        p = self.product
        is_far = 4 * p.batch * p.depth * p.columns > FAR
        return p.rows <= _FEW_ROWS and is_far and self.b.name == "b"

    def _ahead(self, plan: "_Plan", vector: int) -> int:
        """How far the entries of `b` are that are fetched; with few rows, nothing else hides it."""
        if not self._streams:
            return 0
        p = self.product
        return -_across(plan, vector) * p.depth if p.b_turned else _STREAMED * p.columns

    def _streaming(self, plan: "_Plan", vector: int) -> Steps:
        """Loops that read `b` once, as it lies in memory: all rows are done with what is there.

        One that is turned, as weights are by the gradient behind their product, is read from its
        end to its beginning: what the product has read last, and what the weights' own gradient
        will read first, is in the second cache then.
        """
        p, across, high = self.product, _across(plan, vector), plan.tile.axes["m"]
        if p.b_turned:
            return (("n", across), ("k", _CHUNK), ("m", high))
        return (("k", _STREAMED), ("n", across), ("m", high))

    def _outer(self, plan: "_Plan", vector: int) -> Steps:
        if self._streams:
            return (plan.first, *self._streaming(plan, vector))
        p = self.product
        high = plan.tile.axes["m"]
        across = _across(plan, vector)
        rows = _rows_cached(p) // high * high
        columns = max(1, _BLOCK // across) * across
        if p.depth < _SHALLOW:
            rows, columns = high, across  # the result is most of what moves: row after row
        blocks: Steps = (("n", columns), ("k", _CHUNK), ("n", across), ("m", high))
        if p.rows > rows > 0:
            blocks = (("m", rows), *blocks)
        if p.depth <= _CHUNK:
            blocks = tuple(block for block in blocks if block[0] != "k")
        return (plan.first, *blocks)

    @property
    def _finished(self) -> Finish | None:
        given = self.finish
        if given is None:
            return None
        return lambda total, at: given(total, (at["s"], at["m"], at["n"]))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How it is done.

    Attributes:
        lanes: the axis along which vectors lie.
        tile: rows and columns in registers.
        first: the outermost loop, whose steps are the parts of the work.
    """

    lanes: str
    tile: Tile
    first: tuple[str, int]
    parts: int
    cycles: float


def _plans(p: Product, vector: int, host: Host) -> Iterator[_Plan]:
    """Ways to cut the work into parts, and what they cost."""
    far = 4 * p.depth * p.columns > FAR
    for lanes in ("n",) if p.a_turned else ("n", "k"):
        around = p.depth * p.columns * (FROM_MEMORY if far else 0.0)
        if p.b_turned == (lanes == "n"):
            around += p.depth * p.columns * (TURN_FAR if far else TURN)
        tile = _tile(p, lanes, p.rows, p.columns, vector, host)
        if p.batch > 1:
            yield _Plan(lanes, tile, ("s", 1), p.batch, tile.cycles + around)
            continue
        yield _Plan(lanes, tile, ("m", max(1, p.rows)), 1, (tile.cycles + around) * _WHOLE)
        for name, size in (("m", p.rows), ("n", p.columns)):
            half = -(-size // 2)
            rows, columns = (half, p.columns) if name == "m" else (p.rows, half)
            tile = _tile(p, lanes, rows, columns, vector, host)
            # Whoever does half of the rows reads all of the second operand.
            cycles = 2 * tile.cycles + around * (2 if name == "m" else 1)
            if name == "n" and p.rows > p.depth < p.columns:
                cycles *= _INTERLEAVED
            plan = _Plan(lanes, tile, (name, half), 2, cycles)
            step = -(-half // _along(plan, name, vector)) * _along(plan, name, vector)
            if step < size:
                uneven = step / (size / 2)
                yield replace(plan, first=(name, step), cycles=plan.cycles * uneven)


def _tile(p: Product, lanes: str, rows: int, columns: int, vector: int, host: Host) -> Tile:
    if lanes == "k":
        return folded_tile([("m", rows)], [("n", columns)], max(1, p.depth), vector, host)
    return broadcast_tile([("m", rows)], columns, max(1, p.depth), vector, host)


def _across(plan: _Plan, vector: int) -> int:
    return plan.tile.axes["n"] if plan.lanes == "k" else plan.tile.vectors * vector


def _along(plan: _Plan, name: str, vector: int) -> int:
    return plan.tile.axes["m"] if name == "m" else _across(plan, vector)


def _rows_cached(p: Product) -> int:
    return max(1, _CACHED // (4 * min(_CHUNK, p.depth or 1)))


def _contraction(p: Product) -> Contraction:
    whole = p.depth * p.batch if p.is_cut else p.depth
    a_row, a_deep = (1, p.rows) if p.a_turned else (whole, 1)
    b_deep, b_column = (1, p.depth) if p.b_turned else (p.columns, 1)
    a_batch = 0 if p.a_shared else p.depth if p.is_cut else p.rows * p.depth
    b_batch = 0 if p.b_shared else p.depth * p.columns
    return Contraction(
        (
            Axis("s", p.batch, a_batch, b_batch, p.rows * p.columns),
            Axis("m", p.rows, a_row, 0, p.columns),
            Axis("n", p.columns, 0, b_column, 1),
            Axis("k", p.depth, a_deep, b_deep),
        )
    )
