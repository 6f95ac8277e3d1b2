"""Nests -> kernels: which loops there are, in which order, and which of them runs in lanes.

Axes that lie one behind the other in every buffer become one. A nest without a fold, or whose
folded axes are not the innermost in memory, has its lanes along the last axis of the result;
otherwise along the last folded one. Sums are taken in chunks, so that the error of a long one
grows with the root of its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import (
    Buffer,
    Expr,
    Load,
    Local,
    Var,
    index,
)
from fml.engine.kernels.folding import Folded, folding
from fml.engine.kernels.lanes import lanes_for
from fml.engine.kernels.loops import (
    For,
    Kernel,
    Statement,
    Store,
)
from fml.engine.kernels.nest import (
    Axis,
    Nest,
    Total,
    loads_for_reads,
    parts_of,
    rewritten,
    row_major,
)


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
    lanes = lanes_for((), [loops.value], vector_bytes)
    body, along_rows = _innermost(nest, loops, lanes)
    return Kernel(name, loops.buffers, around(loops.axes, body, 1 if along_rows else lanes))


def _innermost(nest: Nest, loops: _Loops, lanes: int) -> tuple[tuple[Statement, ...], bool]:
    """What is done for every entry of the result, and whether its own loop has the lanes."""
    out = loops.buffers[-1]
    if not nest.over:
        return (Store(out, loops.out, loops.value),), False
    along_rows = _is_along_rows(loops)
    total = Folded(Local("total", loops.value.type), nest.combine, loops.value)
    body = folding(loops.over, (), (total,), lanes if along_rows else 1)
    made: Expr = total.local
    if nest.finish is not None:
        finish = loads_for_reads(nest.finish, nest.inputs, loops.buffers)
        made = rewritten(finish, lambda part: total.local if isinstance(part, Total) else None)
    return (*body, Store(out, loops.out, made)), along_rows


def buffers_of(nest: Nest) -> tuple[Buffer, ...]:
    """The buffers of a nest's kernel: the inputs, then the result."""
    inputs = (Buffer(f"in{n}", given.element) for n, given in enumerate(nest.inputs))
    return (*inputs, Buffer("out", nest.element))


# --- places in memory ----------------------------------------------------------------------------


def _lowered(nest: Nest) -> _Loops:
    buffers = buffers_of(nest)
    value = loads_for_reads(nest.value, nest.inputs, buffers)
    out = row_major([axis.var for axis in nest.axes], nest.sizes)
    return _Loops(buffers, nest.axes, nest.over, out, value)


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
    accesses = [(id(loops.out), loops.out), *((id(p), p.index) for p in loops.loads())]
    found = {key: affine(at) for key, at in accesses}
    return found if all(place.is_plain for place in found.values()) else None


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


def _is_along_rows(loops: _Loops) -> bool:
    """Whether the last folded axis is the innermost in memory of what is read."""
    if not loops.axes:
        return True
    if not loops.over:
        return False
    last, beside = loops.over[-1].var, loops.axes[-1].var
    steps = [(a.stride(last), a.stride(beside)) for a in map(affine, _indices(loops))]
    return sum(row == 1 for row, _ in steps) > sum(column == 1 for _, column in steps)


def _indices(loops: _Loops) -> list[Expr]:
    return [load.index for load in loops.loads()]


def around(axes: Sequence[Axis], body: tuple[Statement, ...], lanes: int) -> tuple[Statement, ...]:
    """Loops around a body; the innermost has lanes."""
    for axis in reversed(axes):
        body = (For(axis.var, index(0), index(axis.size), body, lanes=lanes),)
        lanes = 1
    return body
