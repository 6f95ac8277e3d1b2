"""`learners m per device by strategy()` in a plain plan, written out."""

from dataclasses import dataclass

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.elaborate.syntax import names_in, walk


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
