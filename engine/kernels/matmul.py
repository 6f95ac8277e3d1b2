"""Products of matrices as contractions.

Vectors lie along the columns of the result; a second operand that is transposed is turned round
first, or, where there are few rows, vectors lie along the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fml.engine.ir.types import Element
from fml.engine.kernels.blocking import Tile, broadcast_tile, folded_tile, vector_of
from fml.engine.kernels.contracting import AtIndices, Contracting, Finish
from fml.engine.kernels.contraction import Axis, Contraction, Schedule, Steps
from fml.engine.kernels.expr import Buffer, Expr, Var, wide
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Statement
from fml.engine.kernels.packing import TURN, turned

_CHUNK = 256  # products that are added up before they meet the others
_CACHED = 1 << 18  # bytes of rows that are read for every few columns
_SHALLOW = 32  # products of a sum, below which writing takes longer
_BLOCK = 512  # columns whose entries of a chunk are read for every few rows


@dataclass(frozen=True, slots=True)
class Product:
    """Sizes of out[batch, rows, columns] = a[batch, rows, depth] b[batch, depth, columns].

    Attributes:
        a_shared, b_shared: there is one matrix for all of the batch.
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


def matmul(product: Product, name: str, host: Host, finish: AtIndices | None = None) -> Kernel:
    """A kernel of (a, b, out, scratch...); `finish` is given indices [batch, row, column]."""
    a, b, out = (Buffer(n, product.element) for n in ("a", "b", "out"))
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
        rows, columns, depth = [("m", p.rows)], [("n", p.columns)], max(1, p.depth)
        turn = p.depth * p.columns * TURN
        tile = broadcast_tile(rows, p.columns, depth, vector, self.host)
        lanes, cycles = "n", tile.cycles + turn * p.b_turned
        if not p.a_turned:
            folded = folded_tile(rows, columns, depth, vector, self.host)
            if folded.cycles + turn * (not p.b_turned) < cycles:
                tile, lanes = folded, "k"
        scratch: list[tuple[Buffer, int]] = []
        body: list[Statement] = []
        writer = self
        if p.b_turned == (lanes == "n"):
            writer = self._turned(body, scratch, vector)
        outer = writer._outer(tile, lanes, vector)
        schedule = Schedule(outer, tile.axes, lanes, vector, tile.vectors, ("k",))
        contracting = Contracting(
            _contraction(writer.product), schedule, writer.a, writer.b, self.out, writer._finished,
            part=self.part,
        )  # fmt: skip
        first, step = outer[0]
        parts = -(-_contraction(p).axis(first).size // step)
        return [*body, *contracting.statements()], scratch, parts

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

    def _outer(self, tile: Tile, lanes: str, vector: int) -> Steps:
        p = self.product
        high = tile.axes["m"]
        across = tile.axes["n"] if lanes == "k" else tile.vectors * vector
        deep = _CHUNK if wide(p.element) is p.element else p.depth
        rows = max(1, _CACHED // (4 * min(deep, p.depth or 1))) // high * high
        columns = max(1, _BLOCK // across) * across
        if p.depth < _SHALLOW:
            rows, columns = high, across  # the result is most of what moves: row after row
        batch: Steps = (("s", 1),) if p.batch > 1 else ()
        blocks: Steps = (("n", columns), ("k", deep), ("n", across), ("m", high))
        if p.rows > rows > 0:
            blocks = (("m", rows), *blocks)
        if p.depth <= deep:
            blocks = tuple(block for block in blocks if block[0] != "k")
        return (*batch, *blocks)

    @property
    def _finished(self) -> Finish | None:
        given = self.finish
        if given is None:
            return None
        return lambda total, at: given(total, (at["s"], at["m"], at["n"]))


def _contraction(p: Product) -> Contraction:
    a_row, a_deep = (1, p.rows) if p.a_turned else (p.depth, 1)
    b_deep, b_column = (1, p.depth) if p.b_turned else (p.columns, 1)
    a_batch = 0 if p.a_shared else p.rows * p.depth
    b_batch = 0 if p.b_shared else p.depth * p.columns
    return Contraction(
        (
            Axis("s", p.batch, a_batch, b_batch, p.rows * p.columns),
            Axis("m", p.rows, a_row, 0, p.columns),
            Axis("n", p.columns, 0, b_column, 1),
            Axis("k", p.depth, a_deep, b_deep),
        )
    )
