"""Nests -> kernels: which loops there are, in which order, and which of them runs in lanes.

Axes that lie one behind the other in every buffer become one. A nest without a fold, or whose
folded axes are not the innermost in memory, has its lanes along the last axis of the result;
otherwise along the last folded one. Sums are taken in chunks, so that the error of a long one
grows with the root of its length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from fml.engine.ir.types import Element
from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import (
    INDEX,
    Apply,
    Buffer,
    Expr,
    Load,
    Local,
    Var,
    constant,
    index,
    minimum,
)
from fml.engine.kernels.loops import (
    Declare,
    Fold,
    For,
    Kernel,
    Statement,
    Store,
    identity,
)
from fml.engine.kernels.nest import Axis, Nest, Read, Total, parts_of, rewritten, row_major

# Terms that one lane adds up before it begins a new chunk.
_CHUNK = 256
# A loop with more operations than this keeps fewer vectors in flight: registers run out.
_MANY = 16


@dataclass(frozen=True, slots=True)
class _Loops:
    """A nest whose reads are loads, with the place in memory of every access."""

    buffers: tuple[Buffer, ...]
    axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    out: Expr
    value: Expr

    def loads(self) -> list[Load]:
        return [part for part in parts_of(self.value) if isinstance(part, Load)]


def schedule(nest: Nest, name: str, vector_bytes: int) -> Kernel:
    """Turn a nest into a kernel called with the inputs, in order, and the result.

    Buffers are called `in0`, `in1`, ... and `out`; lanes are chosen for vectors of so many bytes.
    """
    loops = _collapsed(_lowered(nest))
    lanes = _lanes(loops.value, vector_bytes)
    if not nest.over:
        store = Store(loops.buffers[-1], loops.out, loops.value)
        return Kernel(name, loops.buffers, _around(loops.axes, (store,), lanes))
    fold = _Folding(nest, loops, lanes)
    return Kernel(name, loops.buffers, fold.rows() if _is_along_rows(loops) else fold.columns())


def buffers_of(nest: Nest) -> tuple[Buffer, ...]:
    """The buffers of a nest's kernel: the inputs, then the result."""
    inputs = (Buffer(f"in{n}", given.element) for n, given in enumerate(nest.inputs))
    return (*inputs, Buffer("out", nest.element))


# --- places in memory ----------------------------------------------------------------------------


def _lowered(nest: Nest) -> _Loops:
    buffers = buffers_of(nest)
    value = loads_for_reads(nest.value, nest, buffers)
    out = row_major([axis.var for axis in nest.axes], nest.sizes)
    return _Loops(buffers, nest.axes, nest.over, out, value)


def loads_for_reads(e: Expr, nest: Nest, buffers: Sequence[Buffer]) -> Expr:
    """An expression over entries of buffers instead of inputs."""

    def lower(part: Expr) -> Expr | None:
        if not isinstance(part, Read):
            return None
        at = part.flat or row_major(part.indices, nest.inputs[part.place].sizes)
        guard = None if part.guard is None else rewritten(part.guard, lower)
        return Load(buffers[part.place], rewritten(at, lower), guard, part.otherwise)

    return rewritten(e, lower)


def _collapsed(loops: _Loops) -> _Loops:
    """Put axes together that lie one behind the other in every buffer."""
    loops = _without_ones(loops)
    for family in ("axes", "over"):
        place = 1
        while place < len(getattr(loops, family)):
            joined = _joined(loops, family, place)
            if joined is None:
                place += 1
            else:
                loops = joined
    return loops


def _without_ones(loops: _Loops) -> _Loops:
    """Leave out loops that run once."""
    ones: dict[Expr, Expr] = {
        axis.var: index(0) for axis in (*loops.axes, *loops.over) if axis.size == 1
    }
    if not ones:
        return loops

    def strike(e: Expr) -> Expr:
        return rewritten(e, ones.get)

    axes, over = (
        tuple(axis for axis in family if axis.size != 1) for family in (loops.axes, loops.over)
    )
    return _Loops(loops.buffers, axes, over, strike(loops.out), strike(loops.value))


def _joined(loops: _Loops, family: str, place: int) -> _Loops | None:
    """The loops with an axis and the one outside of it made one; None if that cannot be."""
    axes: tuple[Axis, ...] = getattr(loops, family)
    outer, inner = axes[place - 1 : place + 1]
    both = (outer.var, inner.var)
    places = _places(loops)
    if places is None or _stand_alone(loops, both):
        return None
    if any(at.stride(outer.var) != inner.size * at.stride(inner.var) for at in places.values()):
        return None
    new = Axis(Var(inner.var.name), outer.size * inner.size)

    def place_of(at: Affine) -> Expr:
        return at.renamed(both, new.var, at.stride(inner.var)).expression

    def replaced(part: Expr) -> Expr | None:
        if not isinstance(part, Load):
            return None
        return Load(part.buffer, place_of(places[id(part)]), part.guard, part.otherwise)

    kept = (*axes[: place - 1], new, *axes[place + 1 :])
    return _Loops(
        loops.buffers,
        kept if family == "axes" else loops.axes,
        kept if family == "over" else loops.over,
        place_of(places[id(loops.out)]),
        rewritten(loops.value, replaced),
    )


def _places(loops: _Loops) -> dict[int, Affine] | None:
    """Every access as a sum of strides, by identity; None if one is none."""
    found: dict[int, Affine] = {}
    for key, at in [(id(loops.out), loops.out), *((id(p), p.index) for p in loops.loads())]:
        place = affine(at)
        if place is None:
            return None
        found[key] = place
    return found


def _stand_alone(loops: _Loops, vars: tuple[Var, ...]) -> bool:
    """Whether a variable is used as a number, and not only to say where an entry is."""
    inside: set[int] = set()
    for load in loops.loads():
        inside.update(id(part) for part in parts_of(load.index))
    found: list[Expr] = []

    def note(part: Expr) -> Expr | None:
        if isinstance(part, Load):
            if part.guard is not None:
                found.extend(parts_of(part.guard))
            return part
        found.append(part)
        return None

    rewritten(loops.value, note)
    return any(part in vars for part in found if isinstance(part, Var))


# --- lanes ---------------------------------------------------------------------------------------


def _lanes(value: Expr, vector_bytes: int) -> int:
    """How many entries are computed at once: some vectors of the widest element."""
    parts = [p for p in parts_of(value) if isinstance(p, Apply | Load)]
    numbers = [p for p in parts if p.type is not INDEX and p.type is not Element.BOOL]
    widest = max((8 if p.type is Element.F64 else 4 for p in numbers), default=4)
    vectors = 4 if sum(isinstance(p, Apply) for p in numbers) <= _MANY else 2
    return max(1, vectors * vector_bytes // widest)


def _is_along_rows(loops: _Loops) -> bool:
    """Whether the last folded axis is the innermost in memory of what is read."""
    if not loops.axes:
        return True
    if not loops.over:
        return False
    last, beside = loops.over[-1].var, loops.axes[-1].var
    steps = [(a.stride(last), a.stride(beside)) for a in map(affine, _indices(loops)) if a]
    return sum(row == 1 for row, _ in steps) > sum(column == 1 for _, column in steps)


def _indices(loops: _Loops) -> list[Expr]:
    return [load.index for load in loops.loads()]


def _around(axes: Sequence[Axis], body: tuple[Statement, ...], lanes: int) -> tuple[Statement, ...]:
    """Loops around a body; the innermost has lanes."""
    for axis in reversed(axes):
        body = (For(axis.var, index(0), index(axis.size), body, lanes=lanes),)
        lanes = 1
    return body


# --- folds ---------------------------------------------------------------------------------------


class _Folding:
    """The two shapes of a nest with a fold."""

    def __init__(self, nest: Nest, loops: _Loops, lanes: int) -> None:
        self.nest, self.loops, self.lanes = nest, loops, lanes
        self._names = 0

    def rows(self) -> tuple[Statement, ...]:
        """Lanes along the last folded axis, which meet at its end."""
        total = self._local()
        *outer, last = self.loops.over or (Axis(Var("once"), 1),)
        body = self._in_chunks(last, total, self.lanes)
        inner = (self._begun(total), *_around(outer, body, 1), self._stored(total))
        return _around(self.loops.axes, inner, 1)

    def columns(self) -> tuple[Statement, ...]:
        """Lanes along the last axis of the result, each with its own total."""
        total = self._local()
        *outer, last = self.loops.over or (Axis(Var("once"), 1),)
        body = self._in_chunks(last, total, 1)
        inner = (self._begun(total), *_around(outer, body, 1), self._stored(total))
        return _around(self.loops.axes, inner, self.lanes)

    def _in_chunks(self, axis: Axis, total: Local, lanes: int) -> tuple[Statement, ...]:
        """Fold along an axis; long sums in chunks of their own."""
        reach = _CHUNK * lanes
        inner = prod(a.size for a in self.loops.over)
        if self.nest.combine != "add" or axis.size <= reach or inner <= reach:
            fold = Fold(total, self.nest.combine, self.loops.value)
            return (For(axis.var, index(0), index(axis.size), (fold,), lanes=lanes),)
        part, chunk = self._local(), Var("chunk")
        stop = minimum(chunk * reach + reach, index(axis.size))
        fold = Fold(part, "add", self.loops.value)
        body = (
            self._begun(part),
            For(axis.var, chunk * reach, stop, (fold,), lanes=lanes),
            Fold(total, "add", part),
        )
        return (For(chunk, index(0), index(-(-axis.size // reach)), body),)

    def _local(self) -> Local:
        self._names += 1
        return Local(f"total{self._names}", self.loops.value.type)

    def _begun(self, local: Local) -> Declare:
        none = identity(self.nest.combine, local.element)
        return Declare(local, constant(none, local.element))

    def _stored(self, total: Local) -> Store:
        value: Expr = total
        if self.nest.finish is not None:
            finish = loads_for_reads(self.nest.finish, self.nest, self.loops.buffers)
            value = rewritten(finish, _settled(total))
        return Store(self.loops.buffers[-1], self.loops.out, value)


def _settled(total: Local) -> Callable[[Expr], Expr | None]:
    return lambda part: total if isinstance(part, Total) else None
