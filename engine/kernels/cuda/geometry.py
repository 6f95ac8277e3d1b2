"""Who does what on a GPU: a kernel as phases, one launch each, and their loops as threads.

A phase is a nest of loops of which those that are independent are taken apart into entries. An
entry is done by one thread or, where loops within it can be shared, by a team of threads, which
all do what stands outside of these loops, and meet behind them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod

from fml.engine.kernels.affine import affine
from fml.engine.kernels.expr import Expr, Load, Local, Var
from fml.engine.kernels.independence import (
    Known,
    all_of,
    expressions,
    is_independent,
    size_of,
)
from fml.engine.kernels.loops import Declare, For, If, Kernel, Let, Statement, Store
from fml.engine.kernels.nest import parts_of

WARP = 32
BLOCK = 256
# What stands for the width of a vector where nests are scheduled: a number for each of a warp.
VECTOR_BYTES = 4 * WARP
# Threads that share the entries of one column; those of a warp have columns beside each other.
COLUMN = 16

# An entry with shorter loops than this is left to one thread, with longer ones than that to a
# whole block.
_SHORT, _LONG = 2 * WARP, 8 * BLOCK
# So many threads keep a GPU busy: their loops need not be shared.
_MANY = 1 << 14


class Team(Enum):
    """The threads that do one entry together."""

    THREAD = "thread"
    WARP = "warp"
    BLOCK = "block"
    COLUMN = "column"

    @property
    def size(self) -> int:
        """How many they are."""
        return {"thread": 1, "warp": WARP, "block": BLOCK, "column": COLUMN}[self.value]


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch of a `__global__` function, with the arguments of the kernel in their order.

    Attributes:
        function: its name.
        grid: blocks, in one dimension.
        block: threads of a block, as x and y.
    """

    function: str
    grid: int
    block: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Phase:
    """Statements that need nothing of each other's but what the phases before have written.

    Attributes:
        lets: names given before the loops.
        axes: the independent loops around the body, outermost first.
        body: what is done for every entry.
        shared: by identity, loops of the body whose iterations a team shares, each with the loops
            right within it that are shared with it.
    """

    lets: tuple[Let, ...]
    axes: tuple[For, ...]
    body: tuple[Statement, ...]
    team: Team
    shared: Mapping[int, tuple[For, ...]]

    @property
    def count(self) -> int:
        """Entries."""
        return prod(size_of(axis) or 0 for axis in self.axes)

    def launch(self, function: str) -> Launch:
        """How it is launched."""
        block = {
            Team.THREAD: (BLOCK, 1), Team.WARP: (WARP, BLOCK // WARP), Team.BLOCK: (BLOCK, 1),
            Team.COLUMN: (WARP, COLUMN),
        }[self.team]  # fmt: skip
        beside = {Team.THREAD: BLOCK, Team.WARP: BLOCK // WARP, Team.BLOCK: 1, Team.COLUMN: WARP}
        return Launch(function, -(-self.count // beside[self.team]), block)


def phases(kernel: Kernel) -> Iterator[Phase]:
    """The phases of a kernel, in order; those without entries are left out."""
    known = Known(memory=memory_of(kernel))
    for lets, body in _parts(kernel.body, known):
        within = known
        for let in lets:
            within = within.behind(let)
        phase = _phase(lets, body, within)
        if phase.count:
            yield phase


def memory_of(kernel: Kernel) -> Mapping[str, str]:
    """For buffers that may be the memory of another one, the name of that."""
    names = [buffer.name for buffer in kernel.buffers]
    return {names[second]: names[first] for first, second in kernel.shared}


def _parts(
    body: Sequence[Statement], known: Known
) -> Iterator[tuple[tuple[Let, ...], tuple[Statement, ...]]]:
    """Loops each on their own, and what stands between them; all in one if it shares locals."""
    if any(isinstance(s, Declare) for s in body) or _reads_what_changes(body, known):
        yield (), tuple(body)
        return
    lets: list[Let] = []
    between: list[Statement] = []
    for statement in body:
        match statement:
            case Let():
                lets.append(statement)
            case For():
                if between:
                    yield tuple(lets), tuple(between)
                    between = []
                yield _needed(lets, statement), (statement,)
            case _:
                between.append(statement)
    if between:
        yield tuple(lets), tuple(between)


def _reads_what_changes(body: Sequence[Statement], known: Known) -> bool:
    """Whether a name is given to what may be another value in a later phase."""
    stored = {known.same_memory(s.buffer.name) for s in all_of(body) if isinstance(s, Store)}
    parts = (part for s in body if isinstance(s, Let) for part in parts_of(s.value))
    return any(isinstance(p, Load) and known.same_memory(p.buffer.name) in stored for p in parts)


def _needed(lets: Sequence[Let], statement: Statement) -> tuple[Let, ...]:
    """Those names that a statement uses."""
    used = {part for s in all_of([statement]) for e in expressions(s) for part in parts_of(e)}
    kept: list[Let] = []
    for let in reversed(lets):
        if let.var in used:
            kept.append(let)
            used.update(parts_of(let.value))
    return tuple(reversed(kept))


# --- entries -------------------------------------------------------------------------------------


def _phase(lets: tuple[Let, ...], body: tuple[Statement, ...], known: Known) -> Phase:
    axes, body = _taken_apart(body, known)
    for axis in axes:
        known = known.inside(axis)
    shared = _shared(body, known)
    team = _team(axes, body, shared)
    return Phase(lets, axes, body, team, {} if team is Team.THREAD else shared)


def _chain(body: Sequence[Statement]) -> list[For]:
    """Loops that stand in each other with nothing between, as long as their sizes are numbers."""
    found: list[For] = []
    while len(body) == 1 and isinstance(body[0], For) and size_of(body[0]) is not None:
        found.append(body[0])
        body = body[0].body
    return found


def _taken_apart(
    body: tuple[Statement, ...], known: Known
) -> tuple[tuple[For, ...], tuple[Statement, ...]]:
    """The loops around a body that are independent, and the rest.

    Entries are all combinations of the former's variables. So one of them must be independent
    whatever the loops do that are not, those outside of it too.
    """
    chain = _chain(body)
    axes: list[For] = []
    others: list[For] = []
    for place, loop in enumerate(chain):
        alone = replace(loop, body=_nested([*others, *chain[place + 1 :]], chain[-1].body))
        if (loop.lanes > 1 and not others) or is_independent(alone, known):
            axes.append(alone)
            known = known.inside(loop)
        else:
            others.append(loop)
    return tuple(axes), _nested(others, chain[-1].body if chain else body)


def _nested(loops: Sequence[For], body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


# --- teams ---------------------------------------------------------------------------------------


def _shared(body: Sequence[Statement], known: Known) -> dict[int, tuple[For, ...]]:
    """The loops of a body that a team can share, outermost first.

    What only goes in chunks over a loop that has lanes, or in few chunks, is left to all of them.
    """
    found: dict[int, tuple[For, ...]] = {}
    for statement in body:
        match statement:
            case Let():
                known = known.behind(statement)
            case If(body=inner):
                found |= _shared(inner, known)
            case For(body=inner):
                chain = _shared_chain(statement, known)
                within = {} if chain and not _is_chunked(chain) else _shared(
                    inner, known.inside(statement)
                )  # fmt: skip
                found |= within or ({id(statement): chain} if chain else {})
            case _:
                pass
    return found


def _shared_chain(loop: For, known: Known) -> tuple[For, ...]:
    """A loop that can be shared, and those right within it that can be shared with it."""
    if loop.lanes == 1 and not is_independent(loop, known, folds=True):
        return ()
    if loop.lanes > 1 or size_of(loop) is None:
        return (loop,)
    further = _chain(loop.body)[:1]
    return (loop, *(_shared_chain(further[0], known.inside(loop)) if further else ()))


def _is_chunked(chain: Sequence[For]) -> bool:
    """Whether it is rather the loops within that should be shared."""
    inner = [statement for statement in chain[-1].body if isinstance(statement, For)]
    few = prod(size_of(loop) or 0 for loop in chain) < COLUMN
    return any(loop.lanes > 1 or few for loop in inner)


def _team(
    axes: Sequence[For], body: Sequence[Statement], shared: Mapping[int, tuple[For, ...]]
) -> Team:
    """Who does an entry: threads beside each other should read what lies beside each other."""
    count = prod(size_of(axis) or 0 for axis in axes)
    loops = [statement for statement in all_of(body) if id(statement) in shared]
    reach = _reach(loops)
    if _is_by_columns(axes, loops):
        worth = reach >= _SHORT and count < _MANY and _is_uniform(body, shared)
        return Team.COLUMN if worth else Team.THREAD
    if reach < _SHORT and (reach < WARP or count >= _MANY):
        return Team.THREAD
    return Team.WARP if reach < _LONG and count > 1 else Team.BLOCK


def _reach(statements: Sequence[Statement]) -> int:
    """How often the longest loop runs, with those in it."""
    longest = 0
    for statement in statements:
        match statement:
            case For(body=inner):
                size = size_of(statement)
                longest = max(longest, (_SHORT if size is None else size) * max(1, _reach(inner)))
            case If(body=inner):
                longest = max(longest, _reach(inner))
            case _:
                pass
    return longest


def _is_by_columns(axes: Sequence[For], loops: Sequence[Statement]) -> bool:
    """Whether what is read lies in memory along the last axis rather than along the loops."""
    if not axes:
        return False
    statements = list(all_of(loops))
    inner = [statement.var for statement in statements if isinstance(statement, For)]
    loads = {part for s in statements for e in expressions(s) for part in parts_of(e)
             if isinstance(part, Load)}  # fmt: skip
    places = [affine(load.index) for load in loads]
    columns = sum(place.stride(axes[-1].var) == 1 for place in places)
    rows = sum(any(place.stride(var) == 1 for var in inner) for place in places)
    return columns > 0 and columns >= rows


def _is_uniform(body: Sequence[Statement], shared: Mapping[int, tuple[For, ...]]) -> bool:
    """Whether all entries go through the same loops, so that their threads can wait for each other:
    bounds are numbers, or told by loops of which that is true.
    """

    def visit(statements: Sequence[Statement], known: frozenset[Expr]) -> bool:
        for statement in statements:
            if isinstance(statement, If):
                return False
            if not isinstance(statement, For) or id(statement) in shared:
                continue
            bounds = [part for e in expressions(statement) for part in parts_of(e)]
            named = (part for part in bounds if isinstance(part, Load | Local | Var))
            if not known.issuperset(named) or not visit(statement.body, known | {statement.var}):
                return False
        return True

    return visit(body, frozenset())
