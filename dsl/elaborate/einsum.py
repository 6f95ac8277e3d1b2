"""`einsum("bij,bjk->bik", a, b)`: Einstein's sums, made of products, sums and transpositions."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate.arithmetic import as_tensor
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.values import Any_, Tensor, Unknown, describe
from fml.engine.ir.dims import Dim
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

    Arguments = Mapping[str, Given]

OPERANDS = ("a", "b", "c", "d")
ONE = Dim.of(1)
_TERM = re.compile(r"([A-Za-z]*)(?:(\.\.\.)([A-Za-z]*))?")


@dataclass(frozen=True, slots=True)
class Factor:
    """A tensor, the index of each of its axes, and where it is written.

    The axes of `...` are called by their place from behind, `-1` the last of them.
    """

    value: Value
    indices: tuple[str, ...]
    at: ast.Expression

    def sizes(self, indices: Sequence[str]) -> tuple[Dim, ...]:
        """The sizes of axes by their indices."""
        return tuple(self.value.type.shape[self.indices.index(i)] for i in indices)

    def ordered(self, indices: Sequence[str]) -> "Factor":
        """The axes in another order."""
        order = tuple(self.indices.index(i) for i in indices)
        value = self.value.call("transpose", order=order) if order != tuple(sorted(order)) else None
        return Factor(value or self.value, tuple(indices), self.at)

    def reshaped(self, *groups: Sequence[str]) -> Value:
        """One axis for each group of indices, which are all of them."""
        ordered = self.ordered([i for group in groups for i in group])
        return ordered.value.call(
            "reshape", shape=tuple(prod(self.sizes(g), start=ONE) for g in groups)
        )


def einsum(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """An index pairs axes of the tensors; one that the result does not have is summed over."""
    given = [bound[name] for name in OPERANDS if name in bound]
    tensors = [as_tensor(s, g.value, g.at) for g in given]
    terms, result = _terms(s, bound["spec"], len(given))
    factors = [
        Factor(t.value, _indices(s, term, t, g), g.at)
        for term, t, g in zip(terms, tensors, given, strict=True)
    ]
    _require_equal_sizes(s, factors)
    known = {i for f in factors for i in f.indices}
    dots = sorted((i for i in known if i.startswith("-")), key=int)
    wanted = tuple(i for part in _parts(result, dots) for i in part)
    if len(set(wanted)) < len(wanted) or not known.issuperset(wanted):
        at = bound["spec"].at
        raise s.report(
            "E0401", "the result has each index once, and only those of the tensors", [at],
            help='for instance `einsum("ij,jk->ik", a, b)`',
        )  # fmt: skip
    total, *rest = map(_without_repeats, factors)
    for place, factor in enumerate(rest):
        later = {i for f in rest[place + 1 :] for i in f.indices}
        total = _product(s, total, factor, later.union(wanted))
    return Tensor(_summed(s, total, wanted).ordered(wanted).value)


def _terms(s: Session, spec: "Given", count: int) -> tuple[list[str], str]:
    """The letters of each tensor and of the result."""
    if isinstance(spec.value, Unknown):
        raise Failed
    problem = f"`einsum` takes its indices as a string, found {describe(spec.value)}"
    if isinstance(spec.value, str):
        terms, arrow, result = spec.value.replace(" ", "").partition("->")
        inputs = terms.split(",")
        problem = f'"{spec.value}" is not letters for axes, `->` and the letters of the result'
        if arrow and all(map(_TERM.fullmatch, (*inputs, result))):
            if len(inputs) == count:
                return inputs, result
            problem = f'"{spec.value}" is about {len(inputs)} tensors, found {count}'
    raise s.report(
        "E0401", problem, [spec.at], help='for instance `einsum("ij,jk->ik", a, b)`'
    )  # fmt: skip


def _parts(term: str, dots: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """The letters before `...`, the axes that it stands for, the letters behind it."""
    found = _TERM.fullmatch(term)
    assert found is not None
    before, run, behind = found.groups(default="")
    return before, dots if run else (), behind


def _indices(s: Session, term: str, tensor: Tensor, given: "Given") -> tuple[str, ...]:
    letters = len(term.replace("...", ""))
    run = tensor.type.rank - letters
    if run < 0 or (run and "..." not in term):
        raise s.report(
            "E0304", f'"{term}" has {letters} axes, found {s.type_text(tensor.value)}', [given.at],
            notes=s.origin_notes(tensor.value), help="one letter for each axis, `...` for others",
        )  # fmt: skip
    return tuple(i for part in _parts(term, [str(n) for n in range(-run, 0)]) for i in part)


def _require_equal_sizes(s: Session, factors: Sequence[Factor]) -> None:
    """Axes of one index have one size (E0308)."""
    seen: dict[str, tuple[Dim, Factor]] = {}
    for factor in factors:
        for index, dim in zip(factor.indices, factor.value.type.shape, strict=True):
            size, other = seen.setdefault(index, (dim, factor))
            if size != dim:
                types = [s.type_text(f.value) for f in (other, factor)]
                name = f"`{index}`" if index.isalpha() else "`...`"
                raise s.report(
                    "E0308", f"{name} is {size} in {types[0]} and {dim} in {types[1]}",
                    [other.at, factor.at], help="axes of one index have one size",
                )  # fmt: skip


def _without_repeats(factor: Factor) -> Factor:
    """Of an index that a tensor has more than once, the diagonal.

    The two axes of n entries become n rows of n + 1, whose first column is the diagonal.
    """
    repeated = next((i for i in factor.indices if factor.indices.count(i) > 1), None)
    if repeated is None:
        return factor
    x = factor.value
    first, second, *_ = (axis for axis, i in enumerate(factor.indices) if i == repeated)
    others = tuple(axis for axis in range(x.type.rank) if axis not in {first, second})
    outer, n = tuple(x.type.shape[axis] for axis in others), x.type.shape[first]
    none = (Dim.of(0),) * len(outer)
    x = x.call("transpose", order=(*others, first, second)).call("reshape", shape=(*outer, n * n))
    x = x.call("pad", before=(*none, Dim.of(0)), after=(*none, n), value=0)
    x = x.call("reshape", shape=(*outer, n, n + 1))
    x = x.call("slice", starts=(*none, Dim.of(0), Dim.of(0)), stops=(*outer, n, ONE))
    indices = (*(factor.indices[axis] for axis in others), repeated)
    diagonal = x.call("reshape", shape=(*outer, n))
    return _without_repeats(Factor(diagonal, indices, factor.at))


def _summed(s: Session, factor: Factor, kept: Collection[str]) -> Factor:
    """Sum over all indices but these."""
    axes = tuple(axis for axis, i in enumerate(factor.indices) if i not in kept)
    if not axes:
        return factor
    value = s.op("sum", (factor.value,), (factor.at,), axes=axes, keep=False).value
    return Factor(value, tuple(i for i in factor.indices if i in kept), factor.at)


def _product(s: Session, a: Factor, b: Factor, kept: Collection[str]) -> Factor:
    """Multiply two tensors and sum over what is not kept: as matrices where both have it."""
    a = _summed(s, a, {*b.indices, *kept})
    b = _summed(s, b, {*a.indices, *kept})
    shared = [i for i in a.indices if i in b.indices]
    batch = [i for i in shared if i in kept]
    inner = [i for i in shared if i not in kept]
    rows = [i for i in a.indices if i not in shared]
    columns = [i for i in b.indices if i not in shared]
    indices = (*batch, *rows, *columns)
    sizes = (*a.sizes((*batch, *rows)), *b.sizes(columns))
    at = (a.at, b.at)
    if inner:
        lead = [batch] if batch else []
        left, right = a.reshaped(*lead, rows, inner), b.reshaped(*lead, inner, columns)
        product = s.op("matmul", (left, right), at)
    else:
        left, right = a.reshaped(batch, rows, ()), b.reshaped(batch, (), columns)
        product = s.op("multiply", (left, right), at)
    return Factor(product.value.call("reshape", shape=sizes), indices, a.at)
