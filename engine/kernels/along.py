"""Kernels that go along an axis in order: running sums, places of extremes.

Lines that lie side by side are gone along at once, in lanes; an extreme of a long row is looked for
by all lanes together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from fml.engine.ir.types import BOOL, Element, TensorType
from fml.engine.kernels.expr import (
    Buffer,
    Expr,
    Load,
    Local,
    Var,
    compare,
    constant,
    convert,
    index,
    select,
)
from fml.engine.kernels.loops import (
    Assign,
    Declare,
    Fold,
    For,
    Kernel,
    Let,
    Statement,
    Store,
    identity,
    loop,
)
from fml.engine.kernels.nest import buffers_for

# Lines at once; an emitter uses as many vectors as that takes.
LANES = 16
# Entries of a long row at once.
_IN_ROWS = 64
_PLACE = Element.I32
_EXTREMES = {"greater": "maximum", "less": "minimum"}


@dataclass(frozen=True, slots=True)
class Line:
    """Entries along an axis of a buffer; `place` is that of the first one."""

    buffer: Buffer
    place: Expr
    step: int

    def __getitem__(self, at: Expr) -> Load:
        return Load(self.buffer, self.place + at * self.step)

    def set(self, at: Expr, value: Expr) -> Store:
        """Write an entry."""
        return Store(self.buffer, self.place + at * self.step, value)


def _lines(
    name: str,
    x: TensorType,
    axis: int,
    result: TensorType,
    body: Callable[[Line, Line], Sequence[Statement]],
) -> Kernel:
    """For every line of x along an axis, `body` of it and of the result's line."""
    given, made = buffers_for([x], result)
    before, size, step = prod(x.sizes[:axis]), x.sizes[axis], prod(x.sizes[axis + 1 :])
    kept = prod(result.sizes) // max(before * step, 1)
    outer, inner = Var("outer"), Var("inner")
    lines = (
        Line(buffer, outer * (count * step) + inner, step)
        for buffer, count in ((given, size), (made, kept))
    )
    # The lines of the last axis lie one behind the other: lanes gather their entries.
    lanes = (LANES, 1) if step == 1 else (1, LANES)
    within = loop("inner", step, body(*lines), inner, lanes[1])
    return Kernel(name, (given, made), (loop("outer", before, [within], outer, lanes[0]),))


def running_sums(x: TensorType, axis: int, result: TensorType) -> Kernel:
    """Sums of the first 1, 2, ... entries of every line."""

    def body(line: Line, sums: Line) -> Sequence[Statement]:
        at = Var("at")
        total = Local("total", line[at].type)
        steps = (Assign(total, total + line[at]), sums.set(at, total))
        begun = Declare(total, constant(0, total.element))
        return begun, loop("at", x.sizes[axis], steps, at)

    return _lines("running_sums", x, axis, result, body)


def first(x: TensorType, axis: int, order: str, result: TensorType) -> Kernel:
    """The place of every line's first entry by an order, `greater` or `less`; NaN comes first."""
    if axis == len(x.sizes) - 1 and x.sizes[axis] > LANES:
        return _first_in_rows(x, order, result)

    def body(line: Line, places: Line) -> Sequence[Statement]:
        at, better, start = Var("at"), Var("better", BOOL), line[index(0)]
        best, place = Local("best", start.type), Local("place", _PLACE)
        steps = (
            Let(better, _beats(order, line[at], best)),
            Assign(place, select(better, convert(at, _PLACE), place)),
            Assign(best, select(better, line[at], best)),
        )
        begun = Declare(best, start), Declare(place, constant(0, _PLACE))
        further = For(at, index(1), index(x.sizes[axis]), steps)
        return *begun, further, places.set(index(0), place)

    return _lines("first", x, axis, result, body)


def _first_in_rows(x: TensorType, order: str, result: TensorType) -> Kernel:
    """Lanes along long rows: the extreme, then the least place that has it."""
    given, made = buffers_for([x], result)
    size, row, at = x.sizes[-1], Var("row"), Var("at")
    number, combine = Load(given, row * size + at), _EXTREMES[order]
    best, place = Local("best", number.type), Local("place", _PLACE)
    hit = number.equals(best)
    if number.type.is_float:
        hit = hit | (number.differs(number) & best.differs(best))
    here = select(hit, convert(at, _PLACE), size)
    body = (
        Declare(best, constant(identity(combine, best.element), best.element)),
        loop("at", size, [Fold(best, combine, number)], at, _IN_ROWS),
        Declare(place, constant(size, _PLACE)),
        loop("at", size, [Fold(place, "minimum", here)], at, _IN_ROWS),
        Store(made, row, place),
    )
    return Kernel("first", (given, made), (loop("row", prod(x.sizes[:-1]), body, row),))


def largest(x: TensorType, axis: int, count: int, result: TensorType) -> Kernel:
    """The places of every line's largest entries, from the largest on, equal ones in their order.

    Each is the largest of those that come behind the one before it, which takes no memory.
    """

    def body(line: Line, places: Line) -> Sequence[Statement]:
        rank, at, better = Var("rank"), Var("at"), Var("better", BOOL)
        number, here = line[at], convert(at, _PLACE)
        before, best = Local("before", number.type), Local("best", number.type)
        before_at, best_at = Local("before_at", _PLACE), Local("best_at", _PLACE)
        is_behind = _beats("greater", before, number) | (
            ~_beats("greater", number, before) & (here > before_at)
        )
        is_new = (before_at < 0) | is_behind
        steps = (
            Let(better, is_new & ((best_at < 0) | _beats("greater", number, best))),
            Assign(best_at, select(better, here, best_at)),
            Assign(best, select(better, number, best)),
        )
        none, nowhere = constant(0, number.type), constant(-1, _PLACE)
        search = (
            Declare(best, none),
            Declare(best_at, nowhere),
            loop("at", x.sizes[axis], steps, at),
            places.set(rank, best_at),
            Assign(before, best),
            Assign(before_at, best_at),
        )
        begun = Declare(before, none), Declare(before_at, nowhere)
        return *begun, loop("rank", count, search, rank)

    return _lines("largest", x, axis, result, body)


def _beats(order: str, a: Expr, b: Expr) -> Expr:
    """Whether a comes before b, which no equal one does; NaN comes before all numbers."""
    sooner = compare(order, a, b)
    return sooner | (a.differs(a) & b.equals(b)) if a.type.is_float else sooner
