"""How many iterations of a loop are done at once."""

from collections.abc import Iterator, Sequence

from fml.engine.ir.types import BOOL, Element
from fml.engine.kernels.expr import INDEX, Apply, Expr, Load
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Let, Statement, Store, Turn
from fml.engine.kernels.nest import parts_of

# A loop with more operations than this keeps fewer vectors in flight: registers run out.
_MANY = 16
# Vectors of totals that stay in registers, of which there are twice as many of the widest.
_TOTALS, _WIDEST = 8, 64


def lanes_for(statements: Sequence[Statement], values: Sequence[Expr], vector_bytes: int) -> int:
    """Lanes for a body and further values: some vectors of its widest element."""
    parts = [p for e in (*values, *_expressions(statements)) for p in parts_of(e)]
    numbers = [
        p for p in parts
        if isinstance(p, Apply | Load) and p.type is not INDEX and p.type is not BOOL
    ]  # fmt: skip
    widest = 8 if any(p.type is Element.F64 for p in numbers) else 4
    vectors = 4 if sum(isinstance(p, Apply) for p in numbers) <= _MANY else 2
    return max(1, vectors * vector_bytes // widest)


def lanes_across(columns: int, body: Sequence[Statement], vector_bytes: int) -> int:
    """Lanes for columns whose body goes along all rows: as many as there are, if totals fit.

    Neighbours in memory are then read together, and not in one go along the rows after another.
    """
    totals = max(1, _most_totals(body))
    room = 2 * _TOTALS if vector_bytes == _WIDEST else _TOTALS
    most = max(1, room // totals) * vector_bytes // 4
    lanes = vector_bytes // 4
    while lanes < columns and 2 * lanes <= most:
        lanes *= 2
    return lanes


def _most_totals(body: Sequence[Statement]) -> int:
    """How many folds one loop has at most."""
    inside = [_most_totals(s.body) for s in body if isinstance(s, For)]
    return max(sum(isinstance(s, Fold) for s in body), *inside, 0)


def _expressions(statements: Sequence[Statement]) -> Iterator[Expr]:
    for statement in statements:
        match statement:
            case Let(value=value) | Declare(value=value) | Assign(value=value):
                yield value
            case Fold(value=value) | Store(value=value):
                yield value
            case For(body=body) | If(body=body):
                yield from _expressions(body)
            case Turn(source_at=read, to_at=write):
                yield from (read, write)
