"""Contractions and their schedules -> statements: loops around a tile of sums in registers.

This is the batch-reduce building block of Georganas et al., "High-Performance Deep Learning via a
Single Building Block" (2019), with steps general enough for windows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from fml.engine.ir.types import BOOL
from fml.engine.kernels.clipping import clipped
from fml.engine.kernels.contraction import Contraction, Schedule, Steps
from fml.engine.kernels.expr import (
    Apply,
    Buffer,
    Const,
    Expr,
    Load,
    Local,
    Var,
    compare,
    constant,
    every,
    index,
    maximum,
    minimum,
    wide,
)
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Let, Statement, Store

# What is done with a sum in place of storing it, given the sum and its place: by names of axes, or
# as the indices that an operation's result has.
Finish = Callable[[Expr, Mapping[str, Expr]], Sequence[Statement]]
AtIndices = Callable[[Expr, tuple[Expr, ...]], Sequence[Statement]]


@dataclass(frozen=True, slots=True)
class _State:
    """Where the loops around the tile stand: the range of every axis, and its part of the tile."""

    begin: Mapping[str, Expr]
    end: Mapping[str, Expr]
    tile: Mapping[str, int]
    vectors: int
    masked: int = 0  # entries of the last vector that count, if not all

    def over(self, name: str, begin: Expr, end: Expr) -> "_State":
        return replace(self, begin={**self.begin, name: begin}, end={**self.end, name: end})


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of an axis whose tiles are all alike."""

    begin: int
    end: int
    tile: int
    vectors: int = 0
    masked: int = 0


@dataclass(frozen=True, slots=True)
class Contracting:
    """Writes the statements of a contraction.

    Attributes:
        finish: what is done with a sum; it is stored if None.
        within: where the statements stand on axes that have a loop around them.
        part: the range of the outermost loop that is carried out, in its steps; all of it if None.
    """

    what: Contraction
    how: Schedule
    a: Buffer
    b: Buffer
    out: Buffer
    finish: Finish | None = None
    within: Mapping[str, Expr] = field(default_factory=dict[str, Expr])
    part: tuple[Var, Var] | None = None

    def statements(self) -> tuple[Statement, ...]:
        """All of them."""
        zeros = {axis.name: index(0) for axis in self.what.axes}
        sizes = {axis.name: index(axis.size) for axis in self.what.axes}
        ends = {name: at + 1 for name, at in self.within.items()}
        state = _State(
            {**zeros, **self.within}, {**sizes, **ends}, dict(self.how.tile), self.how.vectors
        )
        return tuple(self._around(self.how.outer, state, frozenset(), self.part))

    # --- loops around the tile ------------------------------------------------------------------

    def _around(
        self, loops: Steps, state: _State, seen: frozenset[str], part: tuple[Var, Var] | None
    ) -> list[Statement]:
        if not loops:
            return self._tile(state)
        (name, step), rest = loops[0], loops[1:]
        if name in seen:
            begin, end = state.begin[name], state.end[name]
            return self._loop(name, step, begin, end, rest, state, seen)
        made: list[Statement] = []
        for piece in self._pieces(name):
            inside = self._of_piece(name, piece, state)
            begin, end = index(piece.begin), index(piece.end)
            if part is not None:
                begin, end = maximum(part[0] * step, begin), minimum(part[1] * step, end)
            made += self._loop(name, step, begin, end, rest, inside, seen | {name})
        return made

    def _of_piece(self, name: str, piece: _Piece, state: _State) -> _State:
        if name == self.how.lanes:
            return replace(state, vectors=piece.vectors, masked=piece.masked)
        return replace(state, tile={**state.tile, name: piece.tile})

    def _loop(
        self, name: str, step: int, begin: Expr, end: Expr, rest: Steps, state: _State,
        seen: frozenset[str],
    ) -> list[Statement]:  # fmt: skip
        """A loop around the others, without one if there is a single step."""
        size = _difference(begin, end)
        if size is not None and size <= step:
            return self._inside(name, begin, end, rest, state, seen)
        at = Var(f"{name}_{len(rest)}")
        first: Expr = at
        lets: list[Statement] = []
        if name == self.how.falling and name not in dict(rest):
            first = Var(f"{name}_falling")
            lets.append(Let(first, begin + (end - begin - 1) // step * step - (at - begin)))
        whole = size is not None and not size % step
        stop = first + step if whole else minimum(first + step, end)
        inside = self._inside(name, first, stop, rest, state, seen)
        return [For(at, begin, end, (*lets, *inside), step)]

    def _inside(
        self, name: str, begin: Expr, end: Expr, rest: Steps, state: _State, seen: frozenset[str]
    ) -> list[Statement]:
        return self._around(rest, state.over(name, begin, end), seen, None)

    def _pieces(self, name: str) -> list[_Piece]:
        """Parts of an axis: whole tiles, then what is left."""
        size = self.what.axis(name).size
        if name != self.how.lanes:
            tile = min(self.how.tile.get(name, 1), size)
            whole = size // max(1, tile) * tile
            parts = [_Piece(0, whole, tile), _Piece(whole, size, size - whole)]
            return [part for part in parts if part.end > part.begin]
        vector = self.how.vector
        found: list[_Piece] = []
        done = 0
        left = 0 if self.how.is_padded else (size % (self.how.vectors * vector)) // vector
        for vectors in (self.how.vectors, left):
            whole = 0 if not vectors else (size - done) // (vectors * vector) * (vectors * vector)
            if whole:
                found.append(_Piece(done, done + whole, 1, vectors))
                done += whole
        if done < size:
            found.append(_Piece(done, size, 1, -(-(size - done) // vector), (size - done) % vector))
        return found

    # --- the tile -------------------------------------------------------------------------------

    def _tile(self, state: _State) -> list[Statement]:
        """The sums of a tile: begun, added to, stored."""
        if self.what.axis(self.how.lanes).out == 0:
            return self._folded_tile(state)
        lane = Var("lane")
        entries = self._entries(state)
        sums = [Local(f"sum{n}", wide(self.out.element)) for n, _ in enumerate(entries)]
        lets, places = self._bases(state)
        body: list[Statement] = [*lets]
        body += [Declare(total, constant(0, total.element)) for total in sums]
        body += self._summed(self._inner(state), state, places, sums, entries, lane)
        body += self._stored(state, sums, entries, places[2], lane)
        return [self._in_lanes(state, lane, body)]

    def _in_lanes(self, state: _State, lane: Var, body: list[Statement]) -> Statement:
        stop = index((not self.how.is_padded and state.masked) or self.how.vector)
        return For(lane, index(0), stop, tuple(body), lanes=self.how.vector)

    def _folded_tile(self, state: _State) -> list[Statement]:
        """A tile whose lanes are parts of the sums, which meet at the end."""
        name = self.how.lanes
        entries = self._entries(replace(state, vectors=1))
        totals = [Local(f"total{n}", wide(self.out.element)) for n, _ in enumerate(entries)]
        lets, places = self._bases(state)
        made: list[Statement] = [*lets]
        made += [Declare(total, constant(0, total.element)) for total in totals]
        is_around = any(loop == name for loop, _ in self.how.outer)
        pieces = [_Piece(0, 0, 1, 1, state.masked)] if is_around else self._pieces(name)
        for place, piece in enumerate(pieces):
            inside = replace(state, masked=piece.masked)
            if not is_around:
                inside = inside.over(name, index(piece.begin), index(piece.end))
            lane = Var("lane")
            sums = [Local(f"sum{place}_{n}", t.element) for n, t in enumerate(totals)]
            body: list[Statement] = [Declare(s, constant(0, s.element)) for s in sums]
            body += self._summed(self._inner(state), inside, places, sums, entries, lane)
            body += [Fold(t, "add", s) for t, s in zip(totals, sums, strict=True)]
            made.append(self._in_lanes(inside, lane, body))
        return [*made, *self._stored(state, totals, entries, places[2], None)]

    def _inner(self, state: _State) -> tuple[str, ...]:
        return tuple(
            name for name in self.how.inner
            if _difference(state.begin[name], state.end[name]) != 1 or self.what.windows_of(name)
        )  # fmt: skip

    def _bases(self, state: _State) -> tuple[list[Statement], tuple[Expr, Expr, Expr]]:
        """The entries of the operands where the tile begins."""
        lets: list[Statement] = []
        found: list[Expr] = []
        inner = {*self._inner(state)}
        for place, operand in enumerate(("a", "b", "out")):
            at: Expr = index(self.what.starts[place])
            for axis in self.what.axes:
                if axis.name not in inner:
                    at = at + state.begin[axis.name] * getattr(axis, operand)
            var = Var(f"{operand}_at")
            lets.append(Let(var, at))
            found.append(var)
        return lets, (found[0], found[1], found[2])

    def _entries(self, state: _State) -> list["_Entry"]:
        """Every vector of the tile: how far it is from the first one."""
        axes = [self.what.axis(name) for name in state.tile]
        lanes, vector = self.what.axis(self.how.lanes), self.how.vector
        found: list[_Entry] = []
        for steps in product(*(range(state.tile[axis.name]) for axis in axes)):
            for q in range(state.vectors):
                moved = {axis.name: step for axis, step in zip(axes, steps, strict=True)}
                moved[lanes.name] = q * vector
                found.append(
                    _Entry(
                        sum(self.what.axis(n).a * step for n, step in moved.items()),
                        sum(self.what.axis(n).b * step for n, step in moved.items()),
                        sum(self.what.axis(n).out * step for n, step in moved.items()),
                        moved,
                    )
                )
        return found

    def _stored(
        self, state: _State, sums: list[Local], entries: list["_Entry"], out: Expr,
        lane: Var | None,
    ) -> list[Statement]:  # fmt: skip
        """Put sums together with those of earlier parts, and store them."""
        around = dict.fromkeys((*self.within, *(name for name, _ in self.how.outer)))
        cut = [name for name in around if self.what.axis(name).out == 0]
        later = _any([compare("less", index(0), state.begin[name]) for name in cut])
        more = _any([compare("less", state.end[n], self.what.axis(n).size) for n in cut])
        joined: list[Statement] = []
        parts: list[Statement] = []
        whole: list[Statement] = []
        for total, entry in zip(sums, entries, strict=True):
            place = self._out_at(out, entry, lane)
            counts = self._counts(state, entry, lane)
            joined += _where(counts, [Assign(total, Load(self.out, place) + total)])
            stored = [Store(self.out, place, total)]
            parts += _where(counts, stored)
            if self.finish is not None:
                stored = self.finish(total, self._at(state, entry, lane))
            whole += _where(counts, stored)
        if isinstance(more, Const):
            return [*_where(later, joined), *(parts if more.value else whole)]
        return [*_where(later, joined), If(more, tuple(parts)), If(~more, tuple(whole))]

    def _counts(self, state: _State, entry: "_Entry", lane: Var | None) -> Expr:
        """Whether a lane of a vector that was read beyond its end is a result."""
        is_last = entry.moved[self.how.lanes] == (state.vectors - 1) * self.how.vector
        if lane is None or not (self.how.is_padded and state.masked and is_last):
            return constant(True, BOOL)
        return compare("less", lane, state.masked)

    def _at(self, state: _State, entry: "_Entry", lane: Var | None) -> Mapping[str, Expr]:
        """The place of an entry on every axis of the result."""
        at = {
            axis.name: state.begin[axis.name] + entry.moved.get(axis.name, 0)
            for axis in self.what.axes if axis.out
        }  # fmt: skip
        if lane is not None:
            at[self.how.lanes] = at[self.how.lanes] + lane
        return at

    def _out_at(self, out: Expr, entry: "_Entry", lane: Var | None) -> Expr:
        if lane is None:
            return out + entry.out
        return (out + lane * self.what.axis(self.how.lanes).out) + entry.out

    # --- sums -----------------------------------------------------------------------------------

    def _summed(
        self, loops: Sequence[str], state: _State, places: tuple[Expr, ...], sums: list[Local],
        entries: list["_Entry"], lane: Var,
    ) -> list[Statement]:  # fmt: skip
        """Loops over the summed axes, and the products inside of them."""
        if not loops:
            return self._products(places, sums, entries, lane)
        name, axis = loops[0], self.what.axis(loops[0])
        var = Var(f"{name}_sum")
        begin, end, before = clipped(self.what, name, state.begin, state.end)
        a, b = Var(f"a_{name}"), Var(f"b_{name}")
        body: list[Statement] = [
            Let(a, places[0] + var * axis.a),
            Let(b, places[1] + var * axis.b),
        ]
        inside = replace(state, begin={**state.begin, name: var})
        body += self._summed(loops[1:], inside, (a, b, places[2]), sums, entries, lane)
        step = self.how.vector if name == self.how.lanes else 1
        return [*before, For(var, begin, end, tuple(body), step)]

    def _products(
        self, places: tuple[Expr, ...], sums: list[Local], entries: list["_Entry"], lane: Var
    ) -> list[Statement]:
        """One product for every entry of the tile; what several need is read once."""
        lanes = self.what.axis(self.how.lanes)
        made: list[Statement] = []
        read: dict[tuple[str, int], Var] = {}

        def entry_of(buffer: Buffer, at: Expr, offset: int, step: int) -> Expr:
            key = (buffer.name, offset)
            if key not in read:
                read[key] = Var(f"{buffer.name}{len(read)}", wide(buffer.element))
                ahead = self.how.ahead if buffer is self.b else 0
                place = (at + lane * step) + offset
                made.append(Let(read[key], Load(buffer, place, ahead=ahead)))
            return read[key]

        for total, entry in zip(sums, entries, strict=True):
            a = entry_of(self.a, places[0], entry.a, lanes.a)
            b = entry_of(self.b, places[1], entry.b, lanes.b)
            made.append(Assign(total, _product_added(a, b, total)))
        return made


@dataclass(frozen=True, slots=True)
class _Entry:
    """A vector of a tile: its distance from the first one in every operand and on every axis."""

    a: int
    b: int
    out: int
    moved: Mapping[str, int]


def _difference(begin: Expr, end: Expr) -> int | None:
    """How far apart two places are, if that is known."""
    if isinstance(begin, Const) and isinstance(end, Const):
        return int(end.value - begin.value)
    match end:
        case Apply("add", (start, Const(value))) if start is begin:
            return int(value)
        case _:
            return None


def _any(conditions: Sequence[Expr]) -> Expr:
    """Whether one of the conditions holds."""
    no = every([~c if not isinstance(c, Const) else _not(c) for c in conditions])
    if no is None:
        return compare("less", index(0), index(0))
    return _not(no) if isinstance(no, Const) else ~no


def _not(known: Const) -> Const:
    return Const(not known.value, known.element)


def _where(condition: Expr, statements: Sequence[Statement]) -> list[Statement]:
    if isinstance(condition, Const):
        return list(statements) if condition.value else []
    return [If(condition, tuple(statements))]


def _product_added(a: Expr, b: Expr, total: Expr) -> Expr:
    if total.type.is_float:
        return Apply("multiply_add", (a, b, total), total.type)
    return a * b + total
