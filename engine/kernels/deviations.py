"""Sums of squared deviations from a mean, in one pass over the memory.

Chunks are joined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances" (1979). Within one, entries are taken relative to the mean of all chunks
before it, so that with t = sum(x), q = sum(x^2) and n of N + n entries, what a chunk adds is

    q - t^2 / n + (t / n)^2 n N / (N + n) = q - t^2 / (N + n)

Nothing is lost in it: from the second chunk of a size on, N >= n, and q is at most twice as much.
So that the first is no exception, and a mean is as good as an entry even where all entries are
large, everything is relative to the mean of the first chunk, which is looked at twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fml.engine.kernels.expr import Expr, Local, Var, constant, convert, index
from fml.engine.kernels.loops import Assign, Declare, Fold, For, Let, Statement
from fml.engine.kernels.nest import Axis, parts_of, rewritten


@dataclass(frozen=True, slots=True)
class Deviations:
    """total = the sum of (value - mean of all values)^2.

    Attributes:
        lets: what the value needs, in order.
        mean, count: those of the chunks that are joined already, the mean relative to `base`.
        first: the sum of the first chunk, and `base` its mean.
        part, squares: sums of a chunk: of entries relative to the mean, and of their squares.
    """

    total: Local
    value: Expr
    lets: tuple[Let, ...]
    mean: Local
    count: Local
    first: Local
    base: Var
    part: Local
    squares: Local

    @staticmethod
    def of(total: Local, value: Expr, body: Sequence[Statement]) -> "Deviations":
        """Add up in `total`; the value may need lets of a body."""

        def local(name: str) -> Local:
            return Local(total.name + name, total.element)

        return Deviations(
            total, value, _needed(body, value), local("mean"), local("count"), local("first"),
            Var(f"{total.name}base", total.element), local("p"), local("q"),
        )  # fmt: skip

    def begun(self, axes: Sequence[Axis], reach: int, lanes: int) -> list[Statement]:
        """What stands before all loops; the first chunk has so many entries along the last axis."""
        none, (*outer, last) = constant(0, self.total.element), axes
        known: dict[Expr, Expr] = {axis.var: index(0) for axis in outer}
        body: list[Statement] = []
        for let in self.lets:
            first = Var(f"{let.var.name}first", let.var.element)
            body.append(Let(first, rewritten(let.value, known.get)))
            known[let.var] = first
        body.append(Fold(self.first, "add", rewritten(self.value, known.get)))
        size = min(reach, last.size)
        return [
            Declare(self.first, none),
            For(last.var, index(0), index(size), tuple(body), lanes=lanes),
            Let(self.base, self.first / float(size)),
            *(Declare(local, none) for local in (self.total, self.mean, self.count)),
        ]

    @property
    def part_begun(self) -> list[Statement]:
        """Begin a chunk."""
        none = constant(0, self.total.element)
        return [Declare(self.part, none), Declare(self.squares, none)]

    @property
    def folds(self) -> list[Statement]:
        """Add an entry to the sums of its chunk."""
        deviation = Var(f"{self.total.name}d", self.total.element)
        return [
            Let(deviation, (self.value - self.base) - self.mean),
            Fold(self.part, "add", deviation),
            Fold(self.squares, "add", deviation * deviation),
        ]

    def joined(self, size: Expr) -> list[Statement]:
        """Join a chunk of so many entries with those before it."""
        count = Var(f"{self.total.name}n", self.total.element)
        step = Var(f"{self.total.name}step", self.total.element)
        return [
            Let(count, self.count + convert(size, self.total.element)),
            Let(step, self.part / count),
            Assign(self.total, self.total + (self.squares - self.part * step)),
            Assign(self.mean, self.mean + step),
            Assign(self.count, count),
        ]


def _needed(body: Sequence[Statement], value: Expr) -> tuple[Let, ...]:
    """The lets of a body that a value needs, in order."""
    wanted = set(parts_of(value))
    found: list[Let] = []
    for statement in reversed(body):
        if isinstance(statement, Let) and statement.var in wanted:
            found.append(statement)
            wanted |= set(parts_of(statement.value))
    return tuple(reversed(found))
