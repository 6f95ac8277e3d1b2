"""The kernel of a fusion: chains of maps, folds with what goes in and out of them, and stages
of folds and maps over the same rows or columns (softmax, normalisations).

A fusion is composed at places: a value that is needed at a place is the expression of its nest
there, with the values that it reads put in, down to the inputs. Loops run over the outer axes,
those of the folds' results, and within them once for each stage over the inner axes, those that
are folded; without folds there is one loop over all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod

from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import Buffer, Const, Expr, Load, Local, Var, select
from fml.engine.kernels.folding import Folded, folding
from fml.engine.kernels.fusion import Fusion, NotFusable, is_same_place
from fml.engine.kernels.keeping import kept_in_rows
from fml.engine.kernels.lanes import lanes_across, lanes_for
from fml.engine.kernels.loops import Kernel, Let, Statement, Store
from fml.engine.kernels.nest import (
    Nest,
    Read,
    Total,
    flat_place,
    parts_of,
    rewritten,
    unflattened,
)
from fml.engine.kernels.rows import SHORT, written_out
from fml.engine.kernels.spaces import Space, around, place_of, spaces_of_fold, spaces_of_map
from fml.engine.kernels.turning import turned

# An expression of more operations is kept in memory, if it is a result anyway, and read again by
# later stages rather than computed again.
_CHEAP = 4


def compose(fusion: Fusion, name: str, vector_bytes: int) -> Kernel:
    """Make one kernel of a fusion.

    Raises:
        NotFusable: it cannot be one.
    """
    attempts = list(spaces_of(fusion))
    for attempt in attempts:
        composed = Composer(fusion, attempt, vector_bytes)
        body = composed.body()
        if composed.is_plain or attempt is attempts[-1]:
            first = len(fusion.inputs)
            shared = tuple((given, first + made) for given, made in fusion.shared)
            return Kernel(name, fusion.buffers, body, shared=shared)
    raise AssertionError("there is always one space")


def spaces_of(fusion: Fusion) -> Iterator[Space]:
    """The ways to loop, from the fewest axes to the most."""
    folds = (fusion.nest(v) for v in fusion.values if fusion.nest(v).over)
    first = next(folds, None)
    if first is not None:
        return spaces_of_fold(first)
    results = (fusion.nest(v).sizes for v in fusion.results)
    whole = max(results, key=lambda sizes: (prod(sizes), len(sizes)))
    others = (m.nest.sizes for m in fusion.members if prod(m.nest.sizes) == prod(whole))
    return chain.from_iterable(map(spaces_of_map, dict.fromkeys((whole, *others))))


# --- composing -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Scope:
    """Statements, and the values that they have named already."""

    statements: list[Statement] = field(default_factory=list[Statement])
    named: dict[int, Expr] = field(default_factory=dict[int, Expr])


class Composer:
    """Writes the statements of one fusion in one space."""

    def __init__(self, fusion: Fusion, space: Space, vector_bytes: int) -> None:
        self.fusion, self.space, self.vector_bytes = fusion, space, vector_bytes
        self.is_plain = True
        self._outer = Scope()
        self._folded: dict[int, Expr] = {}
        self._levels: dict[int, int] = {}
        self._stored: dict[int, int] = {}  # value -> the level whose loop has written it
        self._rooms: dict[int, Buffer] = {}  # value -> where it is kept for later levels
        self._level = 0
        self._names = 0
        self._buffers, self._ranges, self._outer_place = (
            fusion.buffers, space.ranges, space.outer_place,
        )  # fmt: skip
        self._canonical = affine(space.place, self._ranges)
        self._outer_canonical = affine(self._outer_place, self._ranges)
        # Most values are needed at the same places: what was found out of these, by identity.
        self._affine: dict[int, tuple[Expr, Affine]] = {}
        self._taken_apart: dict[tuple[int, tuple[int, ...]], tuple[Expr, ...]] = {}

    def body(self) -> tuple[Statement, ...]:
        """All statements."""
        results, folds = self.fusion.results, [v for v in self.fusion.values if self._is_fold(v)]
        last = max((self._level_of(v) for v in (*results, *folds)), default=0)
        inner = [v for v in results if self._is_inner(v)]
        stages = max((self._level_of(v) - self._is_fold(v) for v in (*inner, *folds)), default=0)
        if not self._in_short_rows:
            kept = kept_in_rows(self.fusion, self.space, self._level_of)
            self._rooms = {value: self.out(room) for value, room in kept.items()}
        for level in range(last + 1):
            self._level = level
            self._stage(
                [v for v in inner if self._stored_at(v, stages) == level],
                [v for v in folds if self._level_of(v) == level + 1],
            )
        place = self._outer_place
        made = [(v, self.settled(v, place, self._outer)) for v in results if v not in inner]
        at = self.simple(place)
        self._outer.statements += [Store(self.out(v), at, e) for v, e in made]
        lanes, made = 1, self._outer.statements
        if self.space.by_columns:
            lanes = lanes_across(self.space.outer[-1].size, made, self.vector_bytes)
        elif self._in_short_rows:
            lanes, made = self.vector_bytes // 4, written_out(made, self._constant)
        return around(self.space.outer, tuple(made), lanes)

    def _stage(self, stores: Sequence[int], folds: Sequence[int]) -> None:
        """One loop over the inner axes: what is stored in it, and what is folded."""
        if not stores and not folds:
            return
        scope = Scope()
        for value in self._rooms:
            if self._stored.get(value, self._level) < self._level:
                self._named(value, self.space.place, scope)  # before its room is written anew
        over: list[Statement] = []  # what is read, until all has been read
        for value in stores:
            made = self.settled(value, self.space.place, scope)
            store = Store(self.out(value), self.simple(self.space.place), made)
            (over if value in self._overwriting else scope.statements).append(store)
        terms: list[Folded] = []
        for value in folds:
            nest = self.fusion.nest(value)
            term = self._term(value, nest, scope)
            term = self._let(term, scope) if over and not isinstance(term, Const | Var) else term
            local = Local(f"total{self._name()}", term.type)
            terms.append(Folded(local, nest.combine, term))
        scope.statements += over
        across = self.space.by_columns or self._in_short_rows
        lanes = 1 if across else self._lanes(scope.statements, terms)
        self._outer.statements += self._around(scope.statements, terms, lanes)
        for value, term in zip(folds, terms, strict=True):
            self._finish(value, term.local)
        self._stored.update(dict.fromkeys(stores, self._level))

    def _around(
        self, body: Sequence[Statement], terms: Sequence[Folded], lanes: int
    ) -> Sequence[Statement]:
        """The loops over the inner axes."""
        if not terms and not self.space.outer:
            loops = turned(self.space.inner, body, self.vector_bytes // 4)
            if loops is not None:
                return loops
        return folding(self.space.inner, body, terms, lanes)

    def settled(self, value: int, place: Expr, scope: Scope) -> Expr:
        """A value that does not change when something is stored."""
        made = self.at(value, place, scope)
        return made if isinstance(made, Const | Var) else self._let(made, scope)

    @property
    def _overwriting(self) -> set[int]:
        """Results whose memory is that of an input."""
        return {self.fusion.results[made] for _, made in self.fusion.shared}

    def _stored_at(self, value: int, last: int) -> int:
        """The stage that stores a result: the last one, where later ones may read what it was."""
        return last if value in self._overwriting else self._level_of(value)

    def _finish(self, value: int, local: Local) -> None:
        """Name what a fold came to."""
        nest = self.fusion.nest(value)
        made: Expr = local
        if nest.finish is not None:
            indices = self._indices(self._outer_place, nest.sizes)
            where = {a.var: i for a, i in zip(nest.axes, indices, strict=True)}
            resolved = self._resolved(value, nest.finish, where, self._outer)
            made = rewritten(resolved, lambda part: local if isinstance(part, Total) else None)
        self._folded[value] = self._let(made, self._outer)

    def _term(self, value: int, nest: Nest, scope: Scope) -> Expr:
        """What a fold adds up, at the place of the loops."""
        outer = self._indices(self._outer_place, nest.sizes)
        inner = self._indices(place_of(self.space.inner), [axis.size for axis in nest.over])
        where = {a.var: i for a, i in zip((*nest.axes, *nest.over), (*outer, *inner), strict=True)}
        return self._resolved(value, nest.value, where, scope)

    # --- values at places -----------------------------------------------------------------------

    def at(self, value: int, place: Expr, scope: Scope) -> Expr:
        """A value at a flat place."""
        if self.fusion.is_input(value):
            return Load(self._buffers[value], self._noted(place))
        if self._is_fold(value):
            if self.affine(place) != self._outer_canonical:
                raise NotFusable(f"value {value} is a fold, read at another place")
            return self._folded[value]
        here = self.affine(place)
        if here == self._canonical and scope is not self._outer:
            return self._named(value, place, scope)
        if here == self._outer_canonical:
            return self._named(value, place, self._outer)
        return self._computed(value, place, scope)

    def _named(self, value: int, place: Expr, scope: Scope) -> Expr:
        if value not in scope.named:
            again = self._stored.get(value, self._level) < self._level
            if again and self._size_of(value) > _CHEAP:
                made: Expr = Load(self._rooms.get(value) or self.out(value), self._noted(place))
            else:
                made = self._computed(value, place, scope)
            known = isinstance(made, Const | Var)
            scope.named[value] = made if known else self._let(made, scope)
            if value in self._rooms and value not in self._stored and scope is not self._outer:
                kept = Store(self._rooms[value], self.simple(place), scope.named[value])
                scope.statements.append(kept)
                self._stored[value] = self._level
        return scope.named[value]

    def _computed(self, value: int, place: Expr, scope: Scope) -> Expr:
        nest = self.fusion.nest(value)
        indices = self._indices(place, nest.sizes)
        where = {a.var: i for a, i in zip(nest.axes, indices, strict=True)}
        return self._resolved(value, nest.value, where, scope, place)

    def _resolved(
        self, value: int, e: Expr, where: dict[Var, Expr], scope: Scope, place: Expr | None = None
    ) -> Expr:
        """An expression of a value's nest at indices, with what it reads put in.

        `place` is where these indices are, counted in row-major order.
        """
        sources, nest = self.fusion.reads(value), self.fusion.nest(value)

        def put_in(part: Expr) -> Expr | None:
            if isinstance(part, Var):
                return where.get(part)
            if not isinstance(part, Read):
                return None
            if place is not None and is_same_place(part, nest):
                return self.at(sources[part.place], place, scope)
            at = rewritten(flat_place(part, nest), put_in)
            if part.guard is None:
                return self.at(sources[part.place], at, scope)
            return self._guarded(sources[part.place], at, rewritten(part.guard, put_in), part)

        return rewritten(e, put_in)

    def _guarded(self, value: int, place: Expr, guard: Expr, read: Read) -> Expr:
        if not self.fusion.is_input(value):
            everywhere = self.fusion.nest(value).value
            if isinstance(everywhere, Const):
                return select(guard, everywhere, read.otherwise)
            raise NotFusable("what is read under a guard is computed at other places")
        return Load(self._buffers[value], self._noted(place), guard, read.otherwise)

    # --- small things ---------------------------------------------------------------------------

    def _is_fold(self, value: int) -> bool:
        return not self.fusion.is_input(value) and bool(self.fusion.nest(value).over)

    def _is_inner(self, value: int) -> bool:
        """Whether a value has an entry for every place of the inner loops."""
        if self._is_fold(value):
            return False
        count = prod(self.fusion.nest(value).sizes)
        whole = self.space.outer_count * self.space.inner_count
        if count not in (whole, self.space.outer_count):
            raise NotFusable(f"{count} entries beside {whole}")
        return count == whole and (self.space.inner_count > 1 or not self.space.outer)

    def _level_of(self, value: int) -> int:
        """How many stages stand before a value."""
        if self.fusion.is_input(value):
            return 0
        if value not in self._levels:
            before = max(map(self._level_of, self.fusion.reads(value)), default=0)
            self._levels[value] = before + self._is_fold(value)
        return self._levels[value]

    @property
    def _in_short_rows(self) -> bool:
        """Whether there are too few entries in a row, but enough rows, to fill lanes."""
        outer, inner = self.space.outer, self.space.inner_count
        return 1 < inner <= SHORT and bool(outer) and outer[-1].size * 4 >= self.vector_bytes

    @property
    def _constant(self) -> list[Buffer]:
        """The buffers that are not written to."""
        shared = {given for given, _ in self.fusion.shared}
        given = self.fusion.buffers[: len(self.fusion.inputs)]
        return [buffer for n, buffer in enumerate(given) if n not in shared]

    def _size_of(self, value: int) -> int:
        return len(parts_of(self.fusion.nest(value).value))

    def out(self, value: int) -> Buffer:
        """The buffer of a result."""
        return self._buffers[len(self.fusion.inputs) + self.fusion.results.index(value)]

    def _indices(self, place: Expr, sizes: Sequence[int]) -> tuple[Expr, ...]:
        self.affine(place)  # keeps the place, and so its identity
        key = id(place), tuple(sizes)
        if key not in self._taken_apart:
            self._taken_apart[key] = tuple(self.simple(i) for i in unflattened(place, sizes))
        return self._taken_apart[key]

    def affine(self, place: Expr) -> Affine:
        """A place as a sum, found once."""
        if id(place) not in self._affine:
            self._affine[id(place)] = place, affine(place, self._ranges)
        return self._affine[id(place)][1]

    def simple(self, place: Expr) -> Expr:
        """A place as a sum of variables, as far as it is one."""
        return self.affine(place).expression

    def _noted(self, place: Expr) -> Expr:
        """A place in memory; whether all are sums decides about the space."""
        found = self.affine(place)
        self.is_plain = self.is_plain and found.is_plain
        return found.expression

    def _let(self, value: Expr, scope: Scope) -> Var:
        var = Var(f"v{self._name()}", value.type)
        scope.statements.append(Let(var, value))
        return var

    def _name(self) -> int:
        self._names += 1
        return self._names

    def _lanes(self, statements: Sequence[Statement], terms: Sequence[Folded] = ()) -> int:
        return lanes_for(statements, [term.value for term in terms], self.vector_bytes)
