"""Names and what they stand for while an expression is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fml.dsl import ast
from fml.dsl.modules import Module
from fml.dsl.values import Any_, Closure, Instance, Place, PlaceTree
from fml.engine.ir.source import Span


@dataclass(frozen=True, slots=True)
class FedField:
    """A name bound by `feed`: the field of the batch, or of the split that is measured."""

    data: str
    field: str


@dataclass(slots=True, eq=False)
class Bound:
    """A name bound by `=` in a plan: its value, and how to read it again at another time.

    `moment` is when the value was made; read at another moment (a measurement, or after the
    step), what does not depend on the batch is evaluated anew there.
    """

    closure: Closure
    value: Any_
    moment: int


@dataclass(slots=True, eq=False)
class ParamEntry:
    """A `param` or `state` of a layer, or of a plan: comes to be when it is first read."""

    statement: ast.Param | ast.State
    scope: "Scope"
    make: "Callable[[ParamEntry], Place | PlaceTree]"
    made: Place | PlaceTree | None = None
    in_making: bool = False

    def place(self) -> Place | PlaceTree:
        """Return the variable, made now if this is the first time."""
        if self.made is None:
            self.in_making = True
            try:
                self.made = self.make(self)
            finally:
                self.in_making = False
        return self.made


Entry: TypeAlias = Any_ | FedField | Bound | Closure | ParamEntry


@dataclass(slots=True, eq=False)
class Scope:
    """A chain of names; `owner` owns the layer values made here (None: nothing may, as in `fn`).

    `path` is what the states declared here are called by: the block `learners`, a strategy.
    """

    module: Module
    owner: Instance | None
    parent: "Scope | None" = None
    names: dict[str, Entry] = field(default_factory=dict[str, Entry])
    places: dict[str, Span] = field(default_factory=dict[str, Span])
    path: str = ""

    def inner(self, names: dict[str, Entry] | None = None) -> "Scope":
        """Return a scope inside this one."""
        return Scope(self.module, self.owner, self, dict(names or {}), path=self.path)

    def path_of(self, name: str) -> str:
        """What something declared here is called by everywhere: `learners.v`, `diloco.m`."""
        return f"{self.path}.{name}" if self.path else name

    def find(self, name: str) -> "tuple[Scope, Entry] | None":
        """Return the nearest entry of a name and the scope that holds it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope, scope.names[name]
            scope = scope.parent
        return None

    def visible(self) -> Iterator[str]:
        """All names that can be seen from here, but for the module's."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent


def declared(expression: ast.Expression) -> str:
    """Return the plain name that an expression is, or nothing."""
    return expression.name if isinstance(expression, ast.Name) else ""
