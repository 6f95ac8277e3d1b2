"""Sums of a fusion taken earlier, so that fewer passes go over the memory.

A sum behind another sum would need a pass of its own. Two kinds do not: what is multiplied by
numbers that are known once for a row or column, as in the gradients of a normalisation, and the
squared deviations from a mean, which `deviations.py` adds up in the pass of the mean itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fml.engine.kernels.affine import Affine, affine
from fml.engine.kernels.expr import Apply, Const, Expr, Var, constant, index
from fml.engine.kernels.fusion import Fusion, Member
from fml.engine.kernels.nest import (
    DEVIATIONS,
    Input,
    Nest,
    Read,
    axes_of,
    flat_place,
    is_by_columns,
    parts_of,
    rewritten,
    row_major,
    substituted,
    unflattened,
)

# Rows of so many entries stay in the first cache between two passes over them.
_SHORT = 4096


@dataclass(frozen=True, slots=True)
class _Entry:
    """A value at a flat place, over the variables of a sum."""

    value: int
    place: Expr


@dataclass(frozen=True, slots=True)
class _Term:
    """`sign` times the factors, which do not depend on the summed axes, times the entry."""

    sign: float
    factors: tuple[_Entry, ...]
    entry: _Entry


def fewer_passes(fusion: Fusion) -> Fusion:
    """The fusion with sums that need not wait for other sums."""
    if sum(bool(member.nest.over) for member in fusion.members) < 2:
        return fusion
    return _Regrouping(fusion).result()


class _Regrouping:
    """Takes the members of a fusion in order; numbers of values are the new ones."""

    def __init__(self, fusion: Fusion) -> None:
        self._old = fusion
        self._new = replace(fusion, members=())
        self._levels: dict[int, int] = {}
        self._sums: dict[object, int] = {}  # what is summed -> its sum

    def result(self) -> Fusion:
        """The new fusion."""
        numbers = {n: n for n in range(len(self._old.inputs))}
        for value in self._old.values:
            reads = tuple(numbers[v] for v in self._old.reads(value))
            numbers[value] = self._taken(self._old.nest(value), reads)
        return replace(self._new, results=tuple(numbers[v] for v in self._old.results))

    def _taken(self, nest: Nest, reads: tuple[int, ...]) -> int:
        read = nest.value
        if not nest.over or nest.combine != "add" or nest.finish or not isinstance(read, Read):
            return self._add(nest, reads)
        if read.guard is not None:
            return self._add(nest, reads)
        sums = _Sums(self._new, nest)
        whole = sums.origin(_Entry(reads[read.place], flat_place(read, nest)))
        terms = [_Term(1.0, (), whole)]
        if self._level(whole.value):
            found = self._deviations(sums, nest, whole)
            if found is not None:
                return found
            terms = self._worthwhile(sums.terms(whole)) or terms
        if terms[0].entry is whole and self._key(nest, whole) not in self._sums:
            self._sums[self._key(nest, whole)] = made = self._add(nest, reads)
            return made
        return self._combined(nest, terms)

    def _worthwhile(self, terms: list[_Term]) -> list[_Term] | None:
        """The terms, if their sums come earlier than that of the whole and are as exact.

        Several terms must be rounded products: their differences would have been no more exact.
        """
        if len(terms) > 1 and not all(term.factors for term in terms):
            return None
        return None if any(self._level(term.entry.value) for term in terms) else terms

    def _combined(self, nest: Nest, terms: Sequence[_Term]) -> int:
        """A value of the sums of terms and of their factors."""
        parts = [
            (t.sign, [self._once(nest, f) for f in t.factors], self._sum(nest, t.entry))
            for t in terms
        ]
        reads = tuple(dict.fromkeys(v for _, factors, s in parts for v in (*factors, s)))
        axes = axes_of(nest.sizes)
        at = [axis.var for axis in axes]
        inputs = tuple(Input(n, self._new.nest(v).element, nest.sizes) for n, v in enumerate(reads))
        total: Expr | None = None
        for sign, factors, summed in parts:
            part: Expr = inputs[reads.index(summed)](*at)
            for factor in factors:
                part = part * inputs[reads.index(factor)](*at)
            if sign < 0:
                part = -part
            total = part if total is None else total + part
        assert total is not None
        return self._add(Nest(inputs, nest.element, axes, total), reads)

    def _once(self, nest: Nest, factor: _Entry) -> int:
        """A factor, for each entry of the sum."""
        first = substituted(factor.place, {axis.var: index(0) for axis in nest.over})
        given = self._given(factor)
        once = Nest((given,), nest.element, nest.axes, given.flat(first))
        return self._add(once, (factor.value,))

    def _sum(self, nest: Nest, entry: _Entry, combine: str = "add") -> int:
        key = self._key(nest, entry, combine)
        if key not in self._sums:
            given = self._given(entry)
            value = given.flat(entry.place)
            summed = replace(nest, inputs=(given,), value=value, combine=combine)
            self._sums[key] = self._add(summed, (entry.value,))
        return self._sums[key]

    def _deviations(self, sums: "_Sums", nest: Nest, whole: _Entry) -> int | None:
        """The sum of (x - mean of x)^2, where it is worth it."""
        count = prod(axis.size for axis in nest.over)
        if not is_by_columns(nest) and count <= _SHORT:
            return None
        pair = sums.deviation(whole)
        if pair is None:
            return None
        x, centre = pair
        mean = sums.quotient(centre)
        if mean is None or mean[1] != count or self._level(x.value):
            return None
        if self._sums.get(self._key(nest, x)) != mean[0].value:
            return None
        if affine(mean[0].place, sums.ranges) != affine(sums.own_place, sums.ranges):
            return None
        return self._sum(nest, x, DEVIATIONS)

    # --- small things ---------------------------------------------------------------------------

    def _given(self, entry: _Entry) -> Input:
        if self._new.is_input(entry.value):
            return replace(self._new.inputs[entry.value], place=0)
        nest = self._new.nest(entry.value)
        return Input(0, nest.element, nest.sizes)

    def _key(self, nest: Nest, entry: _Entry, combine: str = "add") -> object:
        """What two sums of the same have in common."""
        axes = (*nest.axes, *nest.over)
        at = affine(entry.place, {axis.var: axis.size for axis in axes})
        if not at.is_plain:
            return object()
        strides = tuple((axis.size, at.stride(axis.var)) for axis in axes if axis.size > 1)
        return entry.value, combine, at.offset, strides, prod(nest.sizes)

    def _level(self, value: int) -> int:
        """How many sums stand before a value."""
        return self._levels.get(value, 0)

    def _add(self, nest: Nest, reads: tuple[int, ...]) -> int:
        number = len(self._new.inputs) + len(self._new.members)
        self._new = replace(self._new, members=(*self._new.members, Member(nest, reads)))
        self._levels[number] = max(map(self._level, reads), default=0) + bool(nest.over)
        return number


class _Sums:
    """Takes what one sum adds up apart."""

    def __init__(self, fusion: Fusion, nest: Nest) -> None:
        self._fusion = fusion
        self._over = {axis.var for axis in nest.over}
        self.ranges = {axis.var: axis.size for axis in (*nest.axes, *nest.over)}
        at = [index(0) if axis.size == 1 else axis.var for axis in nest.axes]
        self.own_place = row_major(at, nest.sizes)

    def terms(
        self, entry: _Entry, sign: float = 1.0, factors: tuple[_Entry, ...] = ()
    ) -> list[_Term]:
        """An entry as a sum of terms, as far as it is one."""
        match self._operation(entry):
            case "read", (a,):
                return self.terms(a, sign, factors)
            case "negate", (a,):
                return self.terms(a, -sign, factors)
            case "add", (a, b):
                return [*self.terms(a, sign, factors), *self.terms(b, sign, factors)]
            case "subtract", (a, b):
                return [*self.terms(a, sign, factors), *self.terms(b, -sign, factors)]
            case "multiply", (a, b) if not self._varies(a):
                return self.terms(b, sign, (*factors, a))
            case "multiply", (a, b) if not self._varies(b):
                return self.terms(a, sign, (*factors, b))
            case _:
                return [_Term(sign, factors, entry)]

    def deviation(self, entry: _Entry) -> tuple[_Entry, _Entry] | None:
        """x and c, where an entry is (x - c)^2 and c does not depend on the summed axes."""
        match self._operation(entry):
            case "read", (a,):
                return self.deviation(a)
            case "multiply", (a, b) if a.value == b.value and self._at(a) == self._at(b):
                return self._difference(a)
            case _:
                return None

    def quotient(self, entry: _Entry) -> tuple[_Entry, float] | None:
        """What is divided, and the constant that it is divided by."""
        match self._operation(entry):
            case "read", (a,):
                return self.quotient(a)
            case "divide", (a, b):
                by = None if self._fusion.is_input(b.value) else self._fusion.nest(b.value).value
                return (self.origin(a), by.value) if isinstance(by, Const) else None
            case _:
                return None

    def _difference(self, entry: _Entry) -> tuple[_Entry, _Entry] | None:
        match self._operation(entry):
            case "read", (a,):
                return self._difference(a)
            case "subtract", (a, b) if not self._varies(b):
                return self.origin(a), b
            case _:
                return None

    def origin(self, entry: _Entry) -> _Entry:
        """What an entry is read from, through moves."""
        match self._operation(entry):
            case "read", (a,):
                return self.origin(a)
            case _:
                return entry

    def _operation(self, entry: _Entry) -> tuple[str, tuple[_Entry, ...]] | None:
        """What makes an entry of others: a primitive, or `read`."""
        if self._fusion.is_input(entry.value) or self._fusion.nest(entry.value).over:
            return None
        match self._fusion.nest(entry.value).value:
            case Read() as read:
                found = ("read", self._read(entry, (read,)))
            case Apply(function, operands) if all(isinstance(o, Read) for o in operands):
                found = (function, self._read(entry, operands))
            case _:
                return None
        return found if len(found[1]) else None

    def _read(self, entry: _Entry, parts: Sequence[Expr]) -> tuple[_Entry, ...]:
        """The entries that parts of an entry's expression read; none if one is guarded."""
        nest, sources = self._fusion.nest(entry.value), self._fusion.reads(entry.value)
        indices = (self._simple(i) for i in unflattened(entry.place, nest.sizes))
        where = {axis.var: i for axis, i in zip(nest.axes, indices, strict=True)}
        made: list[_Entry] = []
        for part in parts:
            if not isinstance(part, Read) or part.guard is not None:
                return ()
            place = substituted(flat_place(part, nest), where)
            made.append(_Entry(sources[part.place], self._simple(place)))
        return tuple(made)

    def _simple(self, place: Expr) -> Expr:
        return affine(place, self.ranges).expression

    def _varies(self, entry: _Entry) -> bool:
        """Whether an entry may depend on the summed axes."""
        if not self._over & set(parts_of(self._simple(entry.place))):
            return False
        if self._fusion.is_input(entry.value) or self._fusion.nest(entry.value).over:
            return True
        reads: list[Read] = []

        def struck(part: Expr) -> Expr | None:
            if not isinstance(part, Read):
                return None
            reads.append(part)
            return constant(0, part.type)

        bare = rewritten(self._fusion.nest(entry.value).value, struck)
        if any(isinstance(part, Var) for part in parts_of(bare)):
            return True
        entries = self._read(entry, reads)
        return len(entries) != len(reads) or any(map(self._varies, entries))

    def _at(self, entry: _Entry) -> Affine:
        return affine(entry.place, self.ranges)
