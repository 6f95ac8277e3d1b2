"""Gradients in the language become `gradient` nodes; `fml.engine.autodiff` expands them."""

from collections.abc import Iterable
from dataclasses import replace

from fml.dsl import ast
from fml.dsl.elaborate import masters
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Session
from fml.dsl.values import (
    Any_,
    Cell,
    Instance,
    LayerFactory,
    Master,
    Place,
    PlaceTree,
    Selection,
    Tensor,
    Tree,
    describe,
)
from fml.engine.ir.graph import Phase
from fml.engine.ops.build import Value
from fml.engine.ops.table import OPS


def scalar_loss(s: Session, value: Any_, at: ast.Syntax) -> Value:
    """Return what is to be differentiated: a floating-point scalar."""
    loss = as_tensor(s, value, at).value
    if loss.type.rank or not loss.type.is_float:
        raise s.report(
            "E0328",
            f"a scalar is needed here, found {loss.type}",
            [at],
            notes=s.origin_notes(loss),
            help="reduce it with `mean(...)` or `sum(...)`",
        )
    return loss


def reached(s: Session, loss: Value) -> list[Place]:
    """The trained parameters that a loss depends on, in the order in which they were made."""
    found = s.builder.nodes.ancestors([loss.id])
    nodes = s.builder.nodes
    names = {nodes[n].attributes["name"] for n in found if nodes[n].op in {"variable", "assign"}}
    return [
        place for place in s.plan.places.values() if place.variable.trained and place.name in names
    ]


def of_places(s: Session, loss: Value, places: Iterable[Place]) -> dict[str, Tensor]:
    """The gradient for each place, taken at the values of it that were used."""
    found = s.builder.nodes.ancestors([loss.id])
    return {place.name: _of_place(s, loss, place, found) for place in places}


def _of_place(s: Session, loss: Value, place: Place, found: set[int]) -> Tensor:
    start = s.at_start(place).value
    used = [n for n in (start.id, *s.region.versions.get(place.name, [])) if n in found]
    total: Value | None = None
    for number in used or [start.id]:
        made = _gradient(s, loss, s.builder.value(number), place.name.rpartition(".")[0])
        total = made if total is None else total + made
    assert total is not None
    return Tensor(total)


def _gradient(s: Session, loss: Value, by: Value, scope: str) -> Value:
    if loss.node.mapped:
        _require_own(s, loss, by)
    context = replace(s.builder.context, phase=Phase.BACKWARD, scope=scope)
    with s.builder.under(replace(context, mapped=by.node.mapped)):
        return s.builder.call("gradient", loss, by)


def _require_own(s: Session, loss: Value, by: Value) -> None:
    """Refuse the gradient of each learner's own loss through what they have in common (E0606)."""
    nodes = s.builder.nodes
    if loss.id not in s.region.joins:
        behind = nodes.ancestors([loss.id])
        s.region.joins[loss.id] = [n for n in behind if OPS[nodes[n].op].across_learners]
    if any(by.id in nodes.ancestors([number]) for number in s.region.joins[loss.id]):
        span = s.builder.span
        raise s.report(
            "E0606", "the gradient of a learner's own loss would go through other learners",
            [span] if span else [],
            help="reduce the loss first: `mean(learners.loss, over = learners)`",
        )  # fmt: skip


def at_shifted(
    s: Session, loss: Value, places: list[Place], shifted: dict[str, Value]
) -> dict[str, Tensor]:
    """Gradients of the loss with every parameter replaced, the rest of it computed again."""
    renamed: dict[int, Value] = {}
    for place in places:
        for number in (s.at_start(place).value.id, *s.region.versions.get(place.name, [])):
            renamed[number] = shifted[place.name]
    copied = _copy(s, loss, renamed)
    return {
        place.name: Tensor(_gradient(s, copied, shifted[place.name], place.name.rpartition(".")[0]))
        for place in places
    }


def _copy(s: Session, root: Value, renamed: dict[int, Value]) -> Value:
    """Copy what depends on the renamed nodes; random draws keep their keys and stay the same.

    The copy is computed for its gradient alone, so it is no part of the forward pass.
    """
    nodes = s.builder.nodes
    needed = sorted(s.builder.nodes.ancestors([root.id]))
    for number in needed:
        node = nodes[number]
        if number in renamed or not any(i in renamed for i in node.inputs):
            continue
        inputs = tuple(renamed[i].id if i in renamed else i for i in node.inputs)
        phase = Phase.BACKWARD if node.phase is Phase.FORWARD else node.phase
        copied = replace(node, inputs=inputs, phase=phase)
        renamed[number] = s.builder.value(nodes.keep(copied))
    return renamed.get(root.id, root)


def grad(s: Session, value: Any_, by: Any_, at: tuple[ast.Syntax, ast.Syntax]) -> Any_:
    """`grad(e, w)`: of the form of `w`, a tensor, a parameter, or all those of a layer value."""
    loss = scalar_loss(s, value, at[0])
    match by:
        case Place():
            return of_places(s, loss, [by])[by.name]
        case Instance():
            found = of_places(s, loss, by.trained())
            return Tree({by.below(name): gradient for name, gradient in found.items()})
        case Selection(instance):
            found = of_places(s, loss, by.places())
            return Tree({instance.below(name): gradient for name, gradient in found.items()})
        case Tree(items):
            return Tree({k: Tensor(_gradient(s, loss, t.value, "")) for k, t in items.items()})
        case Tensor(tensor):
            if not tensor.type.is_float:
                raise s.report("E0328", f"there is no gradient for {tensor.type}", [at[1]])
            return Tensor(_gradient(s, loss, tensor, s.builder.context.scope))
        case Master(place=place):
            return masters.widened(of_places(s, loss, [place])[place.name])
        case PlaceTree():
            return grad(s, value, read(s, by), at)
        case Cell():
            return grad(s, value, by.value, at)
        case _:
            raise s.report(
                "E0402", f"`grad` takes a tensor or a layer value, found {describe(by)}", [at[1]],
                help=by.way_out if isinstance(by, LayerFactory) else "",
            )  # fmt: skip
