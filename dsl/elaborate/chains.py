"""Chains of optimizers, `clip_norm(1) |> adam(rate)`: links without any effect are refused."""

from collections.abc import Callable, Sequence

from fml.dsl import ast
from fml.dsl.elaborate import names
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.elaborate.syntax import assigns
from fml.dsl.scope import Scope
from fml.dsl.values import (
    Builtin,
    FunctionValue,
    LayerFactory,
    OptimizerChain,
    OptimizerValue,
    Poison,
    describe,
)


def require_effects(s: Session, links: Sequence[OptimizerValue]) -> None:
    """Refuse chains without an update, and gradients changed behind the last update (E0611).

    Links that do neither, but keep states of their own, may stand anywhere.
    """
    if any(id(link.factory.declaration) in s.broken for link in links):
        raise Failed
    updating = [n for n, link in enumerate(links) if _assigns(link, lambda each: each.parameter)]
    changing = [n for n, link in enumerate(links) if _assigns(link, lambda each: each.gradient)]
    if not updating:
        written = _written(links)
        raise s.report(
            "E0611", f"`{_name(links[-1])}` updates no parameter, and nothing behind it does",
            [links[-1].written], help=f"put an optimizer behind it: `{written} |> sgd(0.1)`",
        )  # fmt: skip
    late = [n for n in changing if n > updating[-1]]
    if late:
        order = [n for n in range(len(links)) if n not in late]
        order[updating[0] : updating[0]] = late
        written = _written([links[n] for n in order])
        raise s.report(
            "E0611", f"`{_name(links[late[0]])}` changes gradients that nothing behind it uses",
            [links[n].written for n in late], help=f"it goes before the update: `{written}`",
        )  # fmt: skip


def require_optimizer(
    s: Session, value: OptimizerValue | OptimizerChain, into: ast.Expression, scope: Scope
) -> None:
    """Refuse `sgd(0.1) |> cosine(5 epochs)`: a schedule belongs on the rate (E0404)."""
    function = into.function if isinstance(into, ast.Call) else into
    callee = names.called(s, function, scope)
    if isinstance(callee, Poison):
        raise Failed
    if not isinstance(callee, FunctionValue | Builtin | LayerFactory):
        return
    link = value.links[-1] if isinstance(value, OptimizerChain) else value
    help = "only optimizers go behind optimizers"
    written = link.written
    if isinstance(callee, FunctionValue) and isinstance(written, ast.Call) and written.arguments:
        rate, *rest = (argument.span.text for argument in written.arguments)
        listed = ", ".join([f"{rate} |> {into.span.text}", *rest])
        help = f"a schedule changes the rate: `{written.function.span.text}({listed})`"
    raise s.report(
        "E0404", f"an optimizer cannot be piped into {describe(callee)}", [into], help=help
    )


def _name(link: OptimizerValue) -> str:
    return link.factory.declaration.name


def _written(links: Sequence[OptimizerValue]) -> str:
    return " |> ".join(" ".join(link.written.span.text.split()) for link in links)


def _assigns(link: OptimizerValue, of: Callable[[ast.Each], ast.Name]) -> bool:
    """Whether an `each` of an optimizer assigns to its parameter or to its gradient."""
    body = link.factory.declaration.body
    return any(isinstance(each, ast.Each) and assigns(each.body, of(each).name) for each in body)
