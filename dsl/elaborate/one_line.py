"""`learners m per device by strategy()` in a plain plan, written out.

What a strategy is handed follows from what its parameters are called: `w`, `z` are the learners'
replica and the model; `loss` is what is minimised, and `optimizer` what stands behind `using`. With
`w` the learners have replicas, else they apply the model itself. One that takes the loss does what
`using` would: with `w` each learner for itself, in the block, else for all of them, behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar, cast

from fml.dsl import ast
from fml.dsl.elaborate import expressions
from fml.dsl.elaborate.session import Session
from fml.dsl.elaborate.syntax import names_in, walk
from fml.dsl.scope import Scope
from fml.dsl.values import StrategyFactory

Node = TypeVar("Node")


@dataclass(frozen=True, slots=True)
class _Form:
    """The one-line form: its statement, its strategy, and what that is handed by name."""

    written: ast.Learners
    strategy: ast.Expression
    takes: frozenset[str]

    @property
    def has_replicas(self) -> bool:
        return "w" in self.takes or not self.takes_loss

    @property
    def takes_loss(self) -> bool:
        return "loss" in self.takes

    def use(self, handed: Mapping[str, ast.Expression]) -> ast.Use:
        """`use easgd(w = learners.net, z = net, ...)`: by name, or by place where none fits."""
        e, span = self.strategy, self.strategy.span
        by_name = bool(self.takes)
        given = tuple(
            ast.Argument(name if by_name else None, value, span=span)
            for name, value in handed.items()
            if not by_name or name in self.takes
        )
        function = e.function if isinstance(e, ast.Call) else e
        rest = e.arguments if isinstance(e, ast.Call) else ()
        return ast.Use(ast.Call(function, (*given, *rest), span=span), span=span)


@dataclass(frozen=True, slots=True)
class _Moved:
    """What of a plain plan goes into the block, and the layer values that it replicates."""

    inside: tuple[ast.Statement, ...]
    outside: tuple[ast.Statement, ...]
    applied: tuple[str, ...]
    bound: frozenset[str]


def expanded(s: Session, plan: ast.Train, scope: Scope) -> tuple[ast.Statement, ...]:
    """Write out `learners m per device by strategy()`; any other plan is as it was written."""
    short = next((b for b in plan.body if isinstance(b, ast.Learners) and b.body is None), None)
    if short is None or short.by is None:
        return plan.body
    form = _Form(short, short.by, _takes(s, short.by, scope))
    moved = _moved(plan.body)
    if not moved.applied:
        s.report("E0606", "there is no model in this plan that the learners could train", [short])
        return tuple(b for b in plan.body if b is not short)
    inside, uses = _with_strategy(s, form, moved)
    made = [_bind(n, _call("replica", n, short), short) for n in moved.applied]
    kept = [_bind(_central(n), _name(n, short), short) for n in moved.applied]
    whole = ast.Learners(
        short.count, short.on, short.settings, None,
        (*(made if form.has_replicas else ()), *inside), span=short.span,
    )  # fmt: skip
    at = next(i for i, b in enumerate(moved.outside) if isinstance(b, ast.Learners))
    behind = tuple(_of_learners(b, moved.bound) for b in moved.outside[at + 1 :])
    return (*moved.outside[:at], *kept, whole, *uses, *behind)


def _takes(s: Session, strategy: ast.Expression, scope: Scope) -> frozenset[str]:
    """Which of the names that mean something the parameters of the strategy have."""
    function = strategy.function if isinstance(strategy, ast.Call) else strategy
    before = len(s.diagnostics)
    factory = expressions.evaluate(s, function, scope)
    del s.diagnostics[before:]  # `use` says it
    if not isinstance(factory, StrategyFactory):
        return frozenset()
    names = {p.name for p in factory.declaration.parameters}
    return frozenset(names & {"w", "z", "loss", "optimizer"})


def _with_strategy(
    s: Session, form: _Form, moved: _Moved
) -> tuple[tuple[ast.Statement, ...], tuple[ast.Use, ...]]:
    """The statements of the block, and the strategy's uses behind it."""
    at = form.written
    if not form.takes_loss:
        handed = [{"w": _of(n, at), "z": _name(n, at)} for n in moved.applied]
        return moved.inside, tuple(map(form.use, handed))
    inside: list[ast.Statement] = []
    uses: list[ast.Use] = []
    for number, statement in enumerate(moved.inside):
        if isinstance(statement, ast.Minimize):
            named = _named(statement, moved.bound)
            optimizer = _optimizer(s, form, statement, moved.inside[number + 1 : number + 2])
            if optimizer is None:
                continue
            if form.has_replicas:
                inside += [named, *_each_for_itself(form, moved, named, optimizer)]
            else:
                inside += _loss_of(s, named)
                handed = {"loss": _of(named.name or "", at), "optimizer": optimizer}
                uses.append(form.use(handed))
        elif not isinstance(statement, ast.Using):
            inside.append(statement)
    return tuple(inside), tuple(uses)


def _optimizer(
    s: Session, form: _Form, written: ast.Minimize, following: tuple[ast.Statement, ...]
) -> ast.Expression | None:
    """What stands behind the `using` of a `minimize`, which the strategy takes (E0606)."""
    for statement in following:
        if isinstance(statement, ast.Using):
            return statement.optimizer
    s.report(
        "E0606", "this strategy takes the optimizer of a `using`, and there is none",
        [written, form.strategy], help="add `using sgd(0.1)` below the `minimize`",
    )  # fmt: skip
    return None


def _each_for_itself(
    form: _Form, moved: _Moved, minimized: ast.Minimize, optimizer: ast.Expression
) -> list[ast.Use]:
    """In the block: a use of the strategy for every replica."""
    at, loss = form.written, _name(minimized.name or "", form.written)
    handed: dict[str, ast.Expression] = {"loss": loss, "optimizer": optimizer}
    return [
        form.use({**handed, "w": _name(n, at), "z": _name(_central(n), at)}) for n in moved.applied
    ]


def _loss_of(s: Session, minimized: ast.Minimize) -> list[ast.Bind]:
    """In the block: the learner's loss, which is minimised behind it for all (E0606)."""
    name, value = minimized.name or "", minimized.value
    if minimized.over is not None:
        s.report(
            "E0606", "this strategy cannot train a part of the model", [minimized.over],
            help="write the block `learners { ... }`, and `minimize ... over` behind it",
        )  # fmt: skip
    is_bound = isinstance(value, ast.Name) and value.name == name
    return [] if is_bound else [_bind(name, value, minimized)]


def _named(written: ast.Minimize, taken: frozenset[str]) -> ast.Minimize:
    """A `minimize` with a name: its own, that of what it minimises, or `loss`."""
    name = written.name
    if name is None and isinstance(written.value, ast.Name):
        return ast.Minimize(written.value.name, written.value, written.over, span=written.span)
    if name is None:
        name = "loss" if "loss" not in taken else "minimized"
    return ast.Minimize(name, written.value, written.over, span=written.span)


def _moved(body: tuple[ast.Statement, ...]) -> _Moved:
    """Move the feed, what depends on it, and the `using` of what is minimised there."""
    dependent: set[str] = set()
    fed: set[str] = set()
    inside: list[ast.Statement] = []
    outside: list[ast.Statement] = []
    bound: dict[str, ast.Bind] = {}
    for statement in body:
        match statement:
            case ast.FeedFrom():
                fed |= {n.name for n in statement.names}
                dependent |= fed
                inside.append(statement)
            case ast.Bind() | ast.Minimize() if names_in(statement.value) & dependent:
                dependent |= {statement.name} if statement.name else set()
                inside.append(statement)
            case ast.Assign() if names_in(statement) & dependent:
                inside.append(statement)
            case ast.Using() if inside and isinstance(inside[-1], ast.Minimize):
                inside.append(statement)
            case ast.Bind():
                bound[statement.name] = statement
                outside.append(statement)
            case _:
                outside.append(statement)
    used, called = names_in(tuple(inside)), _called(inside)
    made = (name for name, b in bound.items() if name in used and isinstance(b.value, ast.Call))
    applied = tuple(name for name in made if name in called)
    return _Moved(tuple(inside), tuple(outside), applied, frozenset(dependent - fed))


def _called(statements: list[ast.Statement]) -> set[str]:
    """The names of what is applied."""
    found: set[str] = set()
    for node in walk(tuple(statements)):
        if isinstance(node, ast.Call) and isinstance(node.function, ast.Name):
            found.add(node.function.name)
        if isinstance(node, ast.Pipe) and isinstance(node.into, ast.Name):
            found.add(node.into.name)
    return found


def _of_learners(node: Node, moved: frozenset[str]) -> Node:
    """The same syntax, with `learners.logits` for `logits` where that has been moved."""
    if isinstance(node, ast.Name) and node.name in moved:
        return cast("Node", _of(node.name, node))
    if isinstance(node, tuple):
        parts = cast("tuple[object, ...]", node)
        return cast("Node", tuple(_of_learners(part, moved) for part in parts))
    if not isinstance(node, ast.Syntax) or not is_dataclass(node):
        return node
    changed = {
        field.name: made
        for field in fields(node)
        if (made := _of_learners(getattr(node, field.name), moved)) != getattr(node, field.name)
    }
    return replace(node, **changed) if changed else node


# --- pieces of syntax ----------------------------------------------------------------------------


def _name(name: str, at: ast.Syntax) -> ast.Name:
    return ast.Name(name, span=at.span)


def _of(name: str, at: ast.Syntax) -> ast.Attribute:
    return ast.Attribute(_name("learners", at), name, span=at.span)


def _call(function: str, name: str, at: ast.Syntax) -> ast.Call:
    argument = ast.Argument(None, _name(name, at), span=at.span)
    return ast.Call(_name(function, at), (argument,), span=at.span)


def _bind(name: str, value: ast.Expression, at: ast.Syntax) -> ast.Bind:
    return ast.Bind(name, value, span=at.span, name_span=at.span)


def _central(name: str) -> str:
    """The model of a replica that is called like it; no name of the text has a space."""
    return f"central {name}"
