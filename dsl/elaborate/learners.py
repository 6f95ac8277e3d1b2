"""The block `learners`, its one-line form, and strategies put in place by `use`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import expressions, places
from fml.dsl.elaborate.session import Attempts, Session
from fml.dsl.elaborate.syntax import names_in, walk
from fml.dsl.scope import Bound, Scope
from fml.dsl.values import Closure, Tensor, describe
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Learners, Role

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork

    Statements = Callable[[Session, PlanWork, tuple[ast.Statement, ...], Scope], None]

# What may stand behind `on`.
DEVICES = ("cpu", "gpu")


def mentions_learners(written: ast.Syntax, scope: Scope) -> bool:
    """Whether `learners` stands anywhere in it, or in what a strategy's arguments stand for."""
    for name in (n for n in walk(written) if isinstance(n, ast.Name)):
        found = scope.find(name.name)
        entry = found[1] if found else None
        if found is None and name.name == "learners":
            return True
        closure = entry.closure if isinstance(entry, Bound) else entry
        if isinstance(closure, Closure) and mentions_learners(closure.expression, closure.scope):
            return True
    return False


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
    devices = None
    with Attempts():
        devices = _devices(s, written.on)
    work.learners = Learners(count, devices, staleness, written.span)
    inner = scope.inner()
    inner.path = "learners"
    s.plan.learners = inner
    with s.marked(mapped=True):
        statements(s, work, written.body or (), inner)
    _warn_of_shared_batches(s, work)
    if staleness != 0:
        _require_pulled(s, written)


def _warn_of_shared_batches(s: Session, work: "PlanWork") -> None:
    """Report W0602 where learners have no batches of their own, and all read that of the plan.

    A feed outside the block beside one inside is left alone: what all see is then meant.
    """
    if any(feed.is_of_learners for feed in work.feeds):
        return
    shared: set[int] = set()
    for node in s.builder.nodes.nodes:
        reads = not shared.isdisjoint(node.inputs)
        if node.mapped and reads:
            s.report(
                "W0602", "all learners take the same batches",
                [feed.span for feed in work.feeds if feed.span is not None],
                notes=["what is fed outside the block `learners` is there once, for all of them"],
                help="move `feed` into the block: there each draws batches of its own",
            )  # fmt: skip
            return
        if not node.mapped and (reads or node.op == "feed"):
            shared.add(node.id)


def _require_pulled(s: Session, written: ast.Learners) -> None:
    """Refuse a derivative for what others push to meanwhile, forward one value, backward another.

    Where the learners are in step with each other, all read what was there before any push.
    """
    nodes = s.builder.nodes.nodes
    pushed = {n.attributes["name"] for n in nodes if n.op == "learners_turn"}
    for node in nodes:
        if node.op != "gradient" or not nodes[node.inputs[0]].mapped:
            continue
        by = nodes[node.inputs[1]]
        if by.op == "variable" and not by.mapped and by.attributes["name"] in pushed:
            raise s.report(
                "E0612", f"others push to `{by.attributes['name']}` while a learner takes its "
                "derivative", [node.span or written.span, written.settings[0]],
                help="let the learner apply a replica, and pull it behind its push: "
                "`w = replica(z)`, then `w <- z`",
            )  # fmt: skip


def _count(s: Session, written: ast.Learners, scope: Scope) -> int | None:
    if isinstance(written.count, ast.Name) and written.count.name == "auto":
        return None
    value = expressions.evaluate_static(s, written.count, scope, "a number of learners")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise s.report(
            "E0606", f"there is at least one learner, found {describe(value)}", [written.count],
            help="a whole number, `learners 4 per device`, or `auto`",
        )  # fmt: skip
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
                "E0401", "the staleness is a whole number of steps, or `unbounded`", [setting],
                help="for instance `staleness = 2`; 0 is the default",
            )  # fmt: skip
        staleness = value
    return staleness


def _devices(s: Session, on: ast.Expression | None) -> str | None:
    """What `on` says, as it is written; whether there is such a GPU is seen where it is trained."""
    if on is None:
        return None
    kind = on.value if isinstance(on, ast.Index) else on
    if not isinstance(kind, ast.Name) or kind.name not in DEVICES:
        near = "every GPU is `gpu[*]`; " if names_in(on) & {"cuda", "GPU"} else ""
        raise s.report(
            "E0613", f"there is no device `{on.span.text}`", [on],
            help=f"{near}there are `cpu`, and of GPUs `gpu[*]`, all, or `gpu[0]`, one",
        )  # fmt: skip
    if kind.name == "cpu" and isinstance(on, ast.Index):
        raise s.report(
            "E0613", "the CPU is one device, and has no numbers", [on],
            help="write `on cpu`; `fml train --devices 2` makes it two devices, groups of cores",
        )  # fmt: skip
    return on.span.text


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
