"""Strategies, put in place by `use`: plan statements with arguments, hygienic."""

from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import allowed, calls, expressions
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.scope import Scope
from fml.dsl.values import Closure, Poison, StrategyFactory, describe
from fml.engine.ir.diagnostics import did_you_mean

if TYPE_CHECKING:
    from fml.dsl.elaborate.learners import Statements
    from fml.dsl.elaborate.plan import PlanWork


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
        raise s.report(
            "E0404", f"`use` takes a strategy, found {describe(factory)}", [e],
            help="such as `sma` or `local_sgd`: how learners come together; an optimizer stands "
            "behind `using`",
        )  # fmt: skip
    declaration = factory.declaration
    _require_inside(s, factory, e)
    path = scope.path_of(s.optimizer_path(declaration.name))
    inner = Scope(factory.module, s.plan.root, path=path)
    _bind(s, declaration, e, scope, inner)
    allowed.require_of_closures(s, declaration.parameters, inner, declaration.name)
    with calls.followed(s, declaration.name, factory.module, e):
        statements(s, work, declaration.body, inner)


def _bind(
    s: Session, declaration: ast.Strategy, e: ast.Expression, scope: Scope, inner: Scope
) -> None:
    """Give the parameters what is written for them, or their defaults, not evaluated yet."""
    names = [p.name for p in declaration.parameters]
    free = list(names)
    declared = calls.signature_text(declaration.name, declaration.parameters)
    attempts = Attempts()
    for argument in e.arguments if isinstance(e, ast.Call) else ():
        key = argument.name or (free[0] if free else "")
        with attempts:
            if key in names and key not in free:
                raise s.report(
                    "E0205", f"`{key}` is given twice to `{declaration.name}`", [argument],
                    notes=[f"it is declared as {declared}"],
                )  # fmt: skip
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
                raise s.report(
                    "E0205", f"`{declaration.name}` needs `{parameter.name}`", [e],
                    notes=[f"it is declared as {declared}"],
                )  # fmt: skip
            inner.names[parameter.name] = Closure(parameter.default, inner)


def _require_inside(s: Session, factory: StrategyFactory, e: ast.Expression) -> None:
    """Refuse below the block what each learner does with its own loss and replica (E0606)."""
    declaration = factory.declaration
    needed = [p.name for p in declaration.parameters if p.default is None]
    is_of_each = factory.module.source.is_std and {"loss", "w"} <= set(needed)
    if not is_of_each or s.plan.learners is None or s.builder.context.mapped:
        return
    given = e.arguments if isinstance(e, ast.Call) else ()
    call = f"{declaration.name}({', '.join(needed)})".replace("optimizer", "sgd(0.1)")
    if len(given) >= len(needed):
        call = e.span.text.replace("learners.", "")
    raise s.report(
        "E0606", f"`{declaration.name}` is what each learner does, in the block", [e],
        help=f"write `use {call}` into the block `learners`, in the place of `using`",
    )  # fmt: skip
