"""`minimize`, `using` and `descend`: what is made smaller, and the updates that do it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import expressions, gradients, layers, names, optimizers
from fml.dsl.elaborate.arithmetic import as_tensor, no_parameters, read
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Bound, Scope
from fml.dsl.values import (
    Any_,
    Closure,
    Instance,
    OptimizerChain,
    OptimizerFactory,
    OptimizerValue,
    Place,
    Poison,
    Selection,
    Tensor,
    Tree,
    Unknown,
    describe,
)
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork


@dataclass(slots=True, eq=False)
class Minimized:
    """A `minimize`, waiting for the `using` below it."""

    written: ast.Minimize
    name: str
    loss: Value | None
    closure: Closure
    trained: list[Place]
    used: bool = False


def minimize(s: Session, work: "PlanWork", written: ast.Minimize, scope: Scope) -> None:
    """Take `minimize NAME = e over net.head`."""
    value = expressions.evaluate(s, written.value, scope)
    name = written.name or _argument_of(written.value, scope) or "loss"
    made = Minimized(written, name, None, Closure(written.value, scope), [])
    try:
        _name(s, work, made, value, scope)
        wanted = expressions.evaluate(s, written.over, scope) if written.over else None
        if isinstance(value, Poison | Unknown):
            raise Failed
        made.loss = gradients.scalar_loss(s, value, written.value)
        if made.loss.node.mapped and not s.builder.context.mapped:
            made.loss = None
            raise s.report(
                "E0606", "every learner has its own loss", [written.value],
                help="minimize their mean: `mean(..., over = learners)`, "
                "or write the `minimize` into the block",
            )  # fmt: skip
        made.trained = _trained(s, made.loss, written, wanted)
    except Failed:
        made.used = True  # an error was reported: its `using` is not to blame
    work.minimized.append(made)


def _argument_of(value: ast.Expression, scope: Scope) -> str:
    """What a strategy's loss is called where the strategy is used, if it is an argument."""
    for name in (n.name for n in walk(value) if isinstance(n, ast.Name)):
        found = scope.find(name)
        entry = found[1] if found else None
        given = entry.expression if isinstance(entry, Closure) else None
        if isinstance(given, ast.Name | ast.Attribute):
            return given.name
    return ""


def _name(s: Session, work: "PlanWork", made: Minimized, value: Any_, scope: Scope) -> None:
    if made.written.name is not None:
        layers.claim(s, made.written, scope)
        scope.names[made.name] = Bound(made.closure, value, s.region.moment)
    if any(m.name == made.name for m in work.minimized):
        raise s.report(
            "E0202", f"two `minimize` are called `{made.name}`", [made.written],
            help="name one of them, `minimize other = ...`; what a strategy is to minimise is only "
            "computed before, `loss = ...`",
        )  # fmt: skip


def _trained(s: Session, loss: Value, written: ast.Minimize, wanted: Any_ | None) -> list[Place]:
    """The parameters that the loss reaches, or those of them that `over` names."""
    trained = gradients.reached(s, loss)
    if written.over is not None and wanted is not None:
        trained = _only(s, wanted, trained, written.over)
    if not trained:
        raise s.report(
            "E0603", "this does not depend on any trained parameter", [written.value],
            help="apply a model in it, or check `where frozen` and `stop_gradient`",
        )  # fmt: skip
    return trained


def _only(s: Session, wanted: Any_, trained: list[Place], at: ast.Syntax) -> list[Place]:
    match wanted:
        case Poison():
            raise Failed
        case Place():
            names = {wanted.name}
        case Instance():
            names = {p.name for p in wanted.trained()}
        case Selection():
            names = {p.name for p in wanted.places()}
        case _:
            raise s.report("E0603", f"`over` names parameters, found {describe(wanted)}", [at])
    return [place for place in trained if place.name in names]


def using(s: Session, work: "PlanWork", written: ast.Using, scope: Scope) -> None:
    """Take `using OPT`, for the `minimize` above it."""
    open_ = [m for m in work.minimized if not m.used]
    optimizer = _optimizer(s, written.optimizer, scope)
    if not work.minimized:
        raise s.report(
            "E0603", "`using` belongs to the `minimize` above it, and there is none", [written]
        )
    if not open_:
        if work.minimized[-1].trained:
            raise s.report("E0603", "this `minimize` has its `using` already", [written])
        raise Failed
    last = open_[-1]
    last.used = True
    if last.loss is None:
        raise Failed
    update_with(s, optimizer, written.optimizer, last.loss, last.trained, None, written)


def _optimizer(s: Session, written: ast.Expression, scope: Scope) -> Any_:
    """Evaluate what stands behind `using`, its arguments also where its name has a fault."""
    with Attempts():
        names.require_optimizer(s, written, scope)
    return expressions.evaluate(s, written, scope)


def update_with(
    s: Session, optimizer: Any_, at: ast.Expression, loss: Value, trained: list[Place],
    given: dict[str, Tensor] | None, written: ast.Using | ast.Descend,
) -> None:  # fmt: skip
    """Apply what stands behind `using`."""
    if isinstance(optimizer, OptimizerFactory):
        optimizer = optimizers.make(s, optimizer, [], at)
    if isinstance(optimizer, Poison):
        raise Failed
    if not isinstance(optimizer, OptimizerValue | OptimizerChain):
        raise s.report("E0404", f"`using` takes an optimizer, found {describe(optimizer)}", [at])
    optimizers.update(s, optimizer, loss, trained, given, written)


def must_be_used(s: Session, work: "PlanWork", waiting: Minimized) -> None:
    """A `minimize` without `using` is fine where the plan updates the parameters itself."""
    if waiting.used or work.has_lost_update:
        return
    names = {p.name for p in waiting.trained}
    replicas = {p.variable.replica_of for p in waiting.trained}
    if not any(v in s.region.versions for v in names | replicas):
        s.report(
            "E0603", f"nothing updates the parameters of `{waiting.name}`", [waiting.written],
            help="add `using sgd(0.1)`, or assign to the parameters with `<-`",
        )  # fmt: skip


def descend(s: Session, work: "PlanWork", written: ast.Descend, scope: Scope) -> None:
    """Take `descend P along T using OPT`."""
    target = expressions.evaluate(s, written.place, scope)
    along = read(s, expressions.evaluate(s, written.along, scope))
    optimizer = _optimizer(s, written.optimizer, scope)
    if isinstance(target, Poison) or isinstance(along, Poison):
        raise Failed
    if isinstance(target, Place):
        found = {target.name: as_tensor(s, along, written.along, target.variable.type.element)}
        trained = [target]
    elif isinstance(target, Instance | Selection) and isinstance(along, Tree):
        whole = target.instance if isinstance(target, Selection) else target
        trained = list(target.places() if isinstance(target, Selection) else target.trained())
        if not trained:
            raise no_parameters(s, written.place)
        if {whole.below(p.name) for p in trained} != set(along.items):
            raise s.report(
                "E0327",
                "these two are trees of different parameters",
                [written.place, written.along],
            )
        found = {p.name: along.items[whole.below(p.name)] for p in trained}
    else:
        raise s.report("E0407", "`descend` takes a place and a tree of its form", [written])
    first = next(iter(found.values())).value
    update_with(s, optimizer, written.optimizer, first, trained, found, written)
