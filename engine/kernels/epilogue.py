"""What is done with each entry of a contraction before it goes to memory: bias, activation, masks,
and the update rule behind a weight gradient, whose sums then need not be stored at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fml.engine.kernels.composing import Composer, Scope
from fml.engine.kernels.expr import Expr, Var, wide
from fml.engine.kernels.fusion import Fusion, NotFusable
from fml.engine.kernels.loops import Let, Statement, Store
from fml.engine.kernels.narrow import narrowed
from fml.engine.kernels.nest import Total, axes_of, rewritten
from fml.engine.kernels.spaces import Space, place_of


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Statements over the variables of an entry's indices, with `Total` where its sum is read."""

    indices: tuple[Var, ...]
    statements: tuple[Statement, ...]

    def at(self, total: Expr, indices: Sequence[Expr]) -> list[Statement]:
        """The statements for a sum and its indices."""
        where: dict[Expr, Expr] = dict(zip(self.indices, indices, strict=True))

        def put_in(part: Expr) -> Expr | None:
            return total if isinstance(part, Total) else where.get(part)

        made: list[Statement] = []
        for statement in self.statements:
            match statement:
                case Let(var, value):
                    made.append(Let(var, rewritten(value, put_in)))
                case Store(buffer, index, value):
                    stored = rewritten(value, put_in)
                    made.append(Store(buffer, rewritten(index, put_in), stored))
                case _:
                    raise TypeError(f"not a statement of an epilogue: {statement!r}")
        return made


def epilogue_of(fusion: Fusion, summed: int, sizes: Sequence[int]) -> Epilogue:
    """What a fusion does with the entries of its input `summed`, which is a sum of these sizes.

    Raises:
        NotFusable: the sum is read at another place than the results are made for.
    """
    if any(fusion.nest(value).over for value in fusion.values):
        raise NotFusable("a fold is no part of an epilogue")
    if any(prod(fusion.nest(value).sizes) != prod(sizes) for value in fusion.results):
        raise NotFusable("the results are not of the size of the sum")
    axes = axes_of(sizes, "e")
    composer = _Behind(fusion, Space((), axes, place_of(axes), False), summed)
    return Epilogue(tuple(axis.var for axis in axes), composer.statements())


class _Behind(Composer):
    """Composes at the place of one entry, whose sum is at hand."""

    def __init__(self, fusion: Fusion, space: Space, summed: int) -> None:
        super().__init__(fusion, space, 64)
        self._summed = summed
        self._sum: Expr | None = None

    def statements(self) -> tuple[Statement, ...]:
        """Results stored, and before them what they share."""
        scope, place = Scope(), self.space.place
        made = [(value, self.settled(value, place, scope)) for value in self.fusion.results]
        at = self.simple(place)
        return (*scope.statements, *(Store(self.out(value), at, e) for value, e in made))

    def at(self, value: int, place: Expr, scope: Scope) -> Expr:
        if value != self._summed:
            return super().at(value, place, scope)
        if self.affine(place) != self.affine(self.space.place):
            raise NotFusable("the sum is read at another place")
        if self._sum is None:
            element = self.fusion.inputs[value].element
            whole = Total(wide(element))
            made = narrowed(whole, element)
            self._sum = whole if made is whole else self._let(made, scope)
        return self._sum
