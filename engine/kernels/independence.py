"""Which loops of a kernel may be done by threads at once: those whose iterations neither write what
another one reads or writes, nor hand on a local.

Told from the places of all accesses as sums of variables times strides. Where two iterations of a
loop with n steps are s apart in memory, all that is added to that must be less than s, or go in
steps of n s: then no place of one is a place of the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import INDEX, Apply, Const, Expr, Load, Local, Var
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Let, Statement, Store, Turn
from fml.engine.kernels.nest import parts_of, substituted

# The least and the largest value of an index.
Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of variables at a place of a kernel.

    Attributes:
        intervals: of loops around it.
        lets: indices that have a name.
        memory: buffers that may be the same memory as another one, with the name of that.
    """

    intervals: Mapping[Var, Interval] = field(default_factory=dict[Var, Interval])
    lets: Mapping[Var, Expr] = field(default_factory=dict[Var, Expr])
    memory: Mapping[str, str] = field(default_factory=dict[str, str])

    def inside(self, loop: For) -> "Known":
        """What is known within a loop."""
        start, stop = (self.interval(e) for e in (loop.start, loop.stop))
        if start is None or stop is None:
            return self
        reach = start[0], max(start[0], stop[1] - 1)
        return replace(self, intervals={**self.intervals, loop.var: reach})

    def behind(self, let: Let) -> "Known":
        """What is known behind a name that is given to an index."""
        if let.var.type is not INDEX:
            return self
        return replace(self, lets={**self.lets, let.var: self.spelt_out(let.value)})

    def spelt_out(self, e: Expr) -> Expr:
        """An index without the names that were given to parts of it."""
        return substituted(e, dict(self.lets))

    def interval(self, e: Expr) -> Interval | None:
        """Between what an index lies, as far as can be told."""
        match e:
            case Const(value):
                return int(value), int(value)
            case Var():
                return self.intervals.get(e)
            case Apply("minimum" | "maximum" as function, (a, b)):
                return _of_extreme(function, self.interval(a), self.interval(b))
            case Apply("add" | "subtract" | "multiply" as function, (a, b)):
                return _of_ends(function, self.interval(a), self.interval(b))
            case Apply("quotient" | "remainder" as function, (a, Const(value))):
                within = self.interval(a)
                if within is None or within[0] < 0 or value <= 0:
                    return None
                by = int(value)
                if function == "quotient":
                    return within[0] // by, within[1] // by
                return 0, min(within[1], by - 1)
            case _:
                return None

    def same_memory(self, name: str) -> str:
        """One name for all buffers that may be the same memory."""
        return self.memory.get(name, name)


def _of_extreme(function: str, a: Interval | None, b: Interval | None) -> Interval | None:
    if a is None or b is None:
        return None
    choose = min if function == "minimum" else max
    return choose(a[0], b[0]), choose(a[1], b[1])


def _of_ends(function: str, a: Interval | None, b: Interval | None) -> Interval | None:
    if a is None or b is None:
        return None
    match function:
        case "add":
            return a[0] + b[0], a[1] + b[1]
        case "subtract":
            return a[0] - b[1], a[1] - b[0]
        case _:
            ends = [x * y for x in a for y in b]
            return min(ends), max(ends)


def size_of(loop: For) -> int | None:
    """How often a loop runs, if that is a number."""
    if isinstance(loop.start, Const) and isinstance(loop.stop, Const):
        return max(0, -(-int(loop.stop.value - loop.start.value) // loop.step))
    return None


def is_independent(loop: For, known: Known, folds: bool = False) -> bool:
    """Whether the iterations of a loop can be done in any order, and at once.

    With `folds` they may meet in a `Fold` of a local from outside.
    """
    if not _keeps_locals(loop.body, folds):
        return False
    size = size_of(loop)
    accesses = list(_accesses(loop.body, known.inside(loop)))
    stored = {access.memory for access in accesses if access.is_store}
    meeting = [access for access in accesses if access.memory in stored]
    if not meeting or (size is not None and size <= 1):
        return True
    return size is not None and all(
        _apart(a, b, loop, size)
        for a in meeting if a.is_store
        for b in meeting if b.memory == a.memory
    )  # fmt: skip


def _keeps_locals(body: Sequence[Statement], folds: bool) -> bool:
    """Whether nothing is handed on from one iteration to the next but what is folded."""
    statements = list(all_of(body))
    own = {s.local for s in statements if isinstance(s, Declare)}
    folded: set[Local] = set()
    for statement in statements:
        match statement:
            case Assign(local) if local not in own:
                return False
            case Fold(local) if local not in own:
                folded.add(local)
            case _:
                pass
    if folded and not folds:
        return False
    read = {part for s in statements for e in expressions(s) for part in parts_of(e)}
    return not any(local in read for local in folded)


def all_of(body: Sequence[Statement]) -> Iterator[Statement]:
    """Every statement, those within others too."""
    for statement in body:
        yield statement
        if isinstance(statement, For | If):
            yield from all_of(statement.body)


def expressions(statement: Statement) -> tuple[Expr, ...]:
    """Those of a statement itself."""
    match statement:
        case Let(_, value) | Declare(_, value) | Assign(_, value) | Fold(_, _, value):
            return (value,)
        case Store(_, index, value):
            return index, value
        case For(_, start, stop):
            return start, stop
        case If(condition):
            return (condition,)
        case Turn(source_at=read, to_at=write):
            return read, write


@dataclass(frozen=True, slots=True)
class _Access:
    """A read or a write; `around` has the intervals of the variables that it may depend on."""

    memory: str
    place: Affine
    is_store: bool
    around: Known


def _accesses(body: Sequence[Statement], known: Known) -> Iterator[_Access]:
    for statement in body:
        for e in expressions(statement):
            for part in parts_of(e):
                if isinstance(part, Load):
                    yield _access(part.buffer.name, part.index, False, known)
        match statement:
            case Store(buffer, index, _):
                yield _access(buffer.name, index, True, known)
            case Let():
                known = known.behind(statement)
            case For():
                yield from _accesses(statement.body, known.inside(statement))
            case If():
                yield from _accesses(statement.body, known)
            case _:
                pass


def _access(name: str, index: Expr, is_store: bool, known: Known) -> _Access:
    place = affine(known.spelt_out(index))
    return _Access(known.same_memory(name), place, is_store, known)


def _apart(a: _Access, b: _Access, loop: For, size: int) -> bool:
    """Whether two different iterations of a loop never meet in what these touch."""
    stride = a.place.stride(loop.var)
    if stride == 0 or b.place.stride(loop.var) != stride:
        return False
    apart = abs(stride) * loop.step
    low = high = b.place.offset - a.place.offset
    for access, sign in ((a, -1), (b, 1)):
        for part, factor in access.place.strides.items():
            if part is loop.var or factor % (apart * size) == 0:
                continue
            if _is_same_in_both(part, a, b, loop):
                continue
            interval = access.around.interval(part)
            if interval is None:
                return False
            ends = [sign * factor * end for end in interval]
            low, high = low + min(ends), high + max(ends)
    return max(abs(low), abs(high)) < apart


def _is_same_in_both(part: Expr, a: _Access, b: _Access, loop: For) -> bool:
    """Whether a part has one value in all iterations, and counts the same in both places."""
    if a.place.strides.get(part) != b.place.strides.get(part):
        return False
    bound = {loop.var}
    for statement in all_of(loop.body):
        if isinstance(statement, For | Let):
            bound.add(statement.var)
    return not any(
        isinstance(inner, Load | Local) or (isinstance(inner, Var) and inner in bound)
        for inner in parts_of(part)
    )
