"""Short rows: their loops written out, so that lanes can hold as many rows.

What is read or computed twice, as the exponentials of a softmax are, is then one register.
"""

from collections.abc import Sequence

from fml.engine.kernels.affine import affine
from fml.engine.kernels.expr import INDEX, Apply, Buffer, Const, Expr, Load, Local, Var, index
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Let, Statement, Store, Turn
from fml.engine.kernels.nest import parts_of, rewritten

# Entries of a row that, with what is made of them, fit the registers.
SHORT = 16


def written_out(statements: Sequence[Statement], constant: Sequence[Buffer]) -> list[Statement]:
    """Statements without loops, whose bounds must be numbers; some buffers are not written to."""
    writing = _Writing(frozenset(constant))
    for statement in statements:
        writing.take(statement)
    return writing.made


class _Writing:
    """Writes statements one after another; `_where` has what variables stand for now."""

    def __init__(self, constant: frozenset[Buffer]) -> None:
        self.made: list[Statement] = []
        self._constant = constant
        self._where: dict[Expr, Expr] = {}
        self._known: dict[object, Var] = {}

    def take(self, statement: Statement) -> None:
        """Write a statement."""
        match statement:
            case For(var, Const(start), Const(stop), body, step):
                for i in range(int(start), int(stop), step):
                    self._where[var] = index(i)
                    for inner in body:
                        self.take(inner)
            case Let(var, value):
                self._where[var] = self._named(value)
            case Declare(local, value):
                self.made.append(Declare(local, self._now(value)))
            case Assign(local, value):
                self.made.append(Assign(local, self._now(value)))
            case Fold(local, combine, value):
                self.made.append(Fold(local, combine, self._named(value)))
            case Store(buffer, at, value):
                self.made.append(Store(buffer, self._now(at), self._named(value)))
            case For() | If() | Turn():
                raise TypeError(f"not to be written out: {statement!r}")

    def _now(self, e: Expr) -> Expr:
        """An expression with what its variables stand for; what it reads has a name."""

        def put_in(part: Expr) -> Expr | None:
            if part in self._where:
                return self._where[part]
            if not isinstance(part, Load) or part.buffer not in self._constant:
                return None
            guard = None if part.guard is None else self._now(part.guard)
            return self._let(Load(part.buffer, self._now(part.index), guard, part.otherwise))

        return rewritten(e, put_in)

    def _named(self, e: Expr) -> Expr:
        made = self._now(e)
        return made if isinstance(made, Const | Var) else self._let(made)

    def _let(self, e: Expr) -> Var:
        key = object() if self._changes(e) else _key(e)
        if key not in self._known:
            self._known[key] = var = Var(f"w{len(self._known)}", e.type)
            self.made.append(Let(var, e))
        return self._known[key]

    def _changes(self, e: Expr) -> bool:
        """Whether an expression may have another value later."""
        return any(
            isinstance(part, Local)
            or (isinstance(part, Load) and part.buffer not in self._constant)
            for part in parts_of(e)
        )


def _key(e: Expr) -> object:
    """What two expressions of the same value have in common, if they were built alike."""
    if e.type is INDEX:
        at = affine(e)
        if at.is_plain:
            return at.offset, frozenset((id(part), stride) for part, stride in at.strides.items())
    match e:
        case Const(value, element):
            return value, element
        case Apply(function, operands, element):
            return function, element, *map(_key, operands)
        case Load(buffer, at, guard, otherwise):
            return buffer, _key(at), None if guard is None else _key(guard), otherwise
        case _:
            return id(e)
