"""The block `learners`, its one-line form, and strategies put in place by `use`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import allowed, calls, expressions, places
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.syntax import names_in, walk
from fml.dsl.scope import Scope
from fml.dsl.values import Closure, Poison, StrategyFactory, Tensor, describe
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Learners, Role

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork

    Statements = Callable[[Session, PlanWork, tuple[ast.Statement, ...], Scope], None]


def mentions_learners(written: ast.Syntax) -> bool:
    """Whether `learners` stands anywhere in it."""
    return any(isinstance(n, ast.Name) and n.name == "learners" for n in walk(written))


# --- the block -----------------------------------------------------------------------------------


def block(
    s: Session, work: "PlanWork", written: ast.Learners, scope: Scope, statements: "Statements"
) -> None:
    """Take the statements of the block once: they are every learner's."""
    if work.learners is not None:
        first = work.learners.span
        s.report(
            "E0606",
            "a plan has at most one block `learners`",
            [written, *([first] if first else [])],
        )
    count, staleness = None, 0
    with Attempts():
        count = _count(s, written, scope)
    with Attempts():
        staleness = _staleness(s, written, scope)
    devices = written.on.span.text if written.on is not None else None
    work.learners = Learners(count, devices, staleness, written.span)
    inner = scope.inner()
    s.plan.learners = inner
    with s.marked(mapped=True):
        statements(s, work, written.body or (), inner)


def _count(s: Session, written: ast.Learners, scope: Scope) -> int | None:
    if isinstance(written.count, ast.Name) and written.count.name == "auto":
        return None
    value = expressions.evaluate_static(s, written.count, scope, "a number of learners")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise s.report(
            "E0606", f"there is at least one learner, found {describe(value)}", [written.count]
        )
    return value


def _staleness(s: Session, written: ast.Learners, scope: Scope) -> int | None:
    """The one setting: 0 by default, None for `unbounded`."""
    staleness: int | None = 0
    for setting in written.settings:
        if setting.name != "staleness":
            near = did_you_mean(setting.name or "", ["staleness"])
            s.report("E0205", f"the block `learners` has no `{setting.name}`", [setting], help=near)
            continue
        if isinstance(setting.value, ast.Name) and setting.value.name == "unbounded":
            staleness = None
            continue
        value = expressions.evaluate_static(s, setting.value, scope, "a number of steps")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise s.report(
                "E0401", "the staleness is a whole number of steps, or `unbounded`", [setting]
            )
        staleness = value
    return staleness


# --- the one-line form ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moved:
    """What of a plain plan goes into the block, and the layer values that it replicates."""

    inside: tuple[ast.Statement, ...]
    outside: tuple[ast.Statement, ...]
    replicated: tuple[str, ...]


def expanded(s: Session, plan: ast.Train) -> tuple[ast.Statement, ...]:
    """Write out `learners m per device by strategy()`; any other plan is as it was written."""
    short = next((b for b in plan.body if isinstance(b, ast.Learners) and b.body is None), None)
    if short is None or short.by is None:
        return plan.body
    moved = _moved(plan.body)
    if not moved.replicated:
        s.report("E0606", "there is no model in this plan that the learners could train", [short])
        return tuple(b for b in plan.body if b is not short)
    replicas = tuple(
        ast.Bind(
            name,
            ast.Call(
                ast.Name("replica", span=short.span),
                (ast.Argument(None, ast.Name(name, span=short.span), span=short.span),),
                span=short.span,
            ),
            span=short.span,
            name_span=short.span,
        )
        for name in moved.replicated
    )
    full = ast.Learners(
        short.count, short.on, short.settings, None, (*replicas, *moved.inside), span=short.span
    )
    uses = tuple(_use_of(short.by, name) for name in moved.replicated)
    at = [i for i, b in enumerate(moved.outside) if isinstance(b, ast.Learners)]
    before = moved.outside[: at[0]]
    behind = moved.outside[at[0] + 1 :]
    return (*before, full, *uses, *behind)


def _moved(body: tuple[ast.Statement, ...]) -> _Moved:
    """Move the feed, what depends on it, and the `using` of what is minimised there."""
    dependent: set[str] = set()
    inside: list[ast.Statement] = []
    outside: list[ast.Statement] = []
    bound: dict[str, ast.Bind] = {}
    for statement in body:
        match statement:
            case ast.FeedFrom():
                dependent |= {n.name for n in statement.names}
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
    used = names_in(tuple(inside))
    made = (name for name, b in bound.items() if name in used and isinstance(b.value, ast.Call))
    applied = {
        n.function.name
        for statement in inside
        for n in walk(statement)
        if isinstance(n, ast.Call) and isinstance(n.function, ast.Name)
    } | {
        n.into.name
        for statement in inside
        for n in walk(statement)
        if isinstance(n, ast.Pipe) and isinstance(n.into, ast.Name)
    }
    return _Moved(tuple(inside), tuple(outside), tuple(n for n in made if n in applied))


def _use_of(strategy: ast.Expression, name: str) -> ast.Use:
    """`by easgd(tau = t)` means `use easgd(learners.net, net, tau = t)`."""
    span = strategy.span
    places = (
        ast.Attribute(ast.Name("learners", span=span), name, span=span),
        ast.Name(name, span=span),
    )
    given = tuple(ast.Argument(None, place, span=span) for place in places)
    function = strategy.function if isinstance(strategy, ast.Call) else strategy
    rest = strategy.arguments if isinstance(strategy, ast.Call) else ()
    return ast.Use(ast.Call(function, (*given, *rest), span=span), span=span)


# --- strategies ----------------------------------------------------------------------------------


def use(
    s: Session, work: "PlanWork", written: ast.Use, scope: Scope, statements: "Statements"
) -> None:
    """Put a strategy's statements in place, its arguments by name."""
    e = written.strategy
    factory = expressions.evaluate(s, e.function if isinstance(e, ast.Call) else e, scope)
    if isinstance(factory, Poison):
        for argument in e.arguments if isinstance(e, ast.Call) else ():
            expressions.evaluate(s, argument.value, scope)
        raise Failed
    if not isinstance(factory, StrategyFactory):
        raise s.report("E0404", f"`use` takes a strategy, found {describe(factory)}", [e])
    declaration = factory.declaration
    inner = Scope(factory.module, s.plan.root)
    names = [p.name for p in declaration.parameters]
    free = list(names)
    declared = calls.signature_text(declaration.name, declaration.parameters)
    attempts = Attempts()
    for argument in e.arguments if isinstance(e, ast.Call) else ():
        key = argument.name or (free[0] if free else "")
        with attempts:
            if key not in free:
                raise s.report(
                    "E0205",
                    f"`{declaration.name}` does not take this argument",
                    [argument],
                    notes=[f"it is declared as {declared}"],
                    help=did_you_mean(key, names),
                )
            free.remove(key)
            inner.names[key] = Closure(argument.value, scope)
    attempts.settle()
    for parameter in declaration.parameters:
        if parameter.name in free:
            if parameter.default is None:
                raise s.report("E0205", f"`{declaration.name}` needs `{parameter.name}`", [e])
            inner.names[parameter.name] = Closure(parameter.default, inner)
    allowed.require_of_closures(s, declaration.parameters, inner, declaration.name)
    with calls.followed(s, declaration.name, factory.module, e):
        statements(s, work, declaration.body, inner)


# --- states of layers ----------------------------------------------------------------------------


def averaged_states(s: Session) -> Graph | None:
    """Return the graph that gives central models the mean of their replicas' layer states."""
    replicas = [
        place
        for place in s.plan.places.values()
        if place.variable.role is Role.STATE
        and place.variable.replica_of
        and place.variable.mapped
        and place.variable.type.is_float
    ]
    if not replicas:
        return None
    with s.within(s.new_region("averaged", read_only=False)):
        for place in replicas:
            central = s.plan.places[place.variable.replica_of or ""]
            mean = Tensor(s.read(place).value.call("learners_reduce", kind="mean"))
            at = place.variable.span
            assert at is not None
            places.store_in(s, central, mean, ast.Boolean(True, span=at))
        return s.builder.finish({})
