"""A `train` block, statement by statement, into the graph of one iteration and its schedule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import (
    clock,
    datasets,
    expressions,
    layers,
    learners,
    measuring,
    minimizing,
    names,
    one_line,
    places,
    splits,
    states,
    strategies,
    watching,
)  # fmt: skip
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.region import Region
from fml.dsl.elaborate.session import Attempts, CallFrame, Failed, Session
from fml.dsl.modules import Module
from fml.dsl.scope import Bound, FedField, Scope
from fml.dsl.values import (
    POISON,
    Closure,
    DataValue,
    Poison,
    SplitValue,
    Tensor,
    describe,
)  # fmt: skip
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Phase
from fml.engine.ir.training import (
    Dataset,
    Duration,
    Feed,
    Keep,
    Learners,
    Log,
    Measure,
    Stop,
)
from fml.engine.ir.types import BOOL, SCALAR
from fml.engine.ops.build import Value


@dataclass(slots=True, eq=False)
class PlanWork:
    """What has been gathered of a plan while its statements are taken."""

    scope: Scope
    step: Region
    feeds: list[Feed] = field(default_factory=list[Feed])
    datasets: dict[str, Dataset] = field(default_factory=dict[str, Dataset])
    minimized: list[minimizing.Minimized] = field(default_factory=list[minimizing.Minimized])
    # What comes after the step, with the calls of strategies that it stands in.
    later: list[tuple[ast.Statement, Scope, tuple[CallFrame, ...]]] = field(
        default_factory=list[tuple[ast.Statement, Scope, tuple[CallFrame, ...]]]
    )
    watched: list[tuple[ast.Statement, Scope]] = field(
        default_factory=list[tuple[ast.Statement, Scope]]
    )
    has_lost_update: bool = False  # by a fault that was reported
    unmeasured: set[str] = field(default_factory=set[str])  # figures whose error was reported
    # The graphs of `measure` and what they remember, by what they take.
    figures: dict[tuple[object, ...], tuple[Graph, Mapping[str, str]]] = field(
        default_factory=dict[tuple[object, ...], tuple[Graph, Mapping[str, str]]]
    )
    measures: list[Measure] = field(default_factory=list[Measure])
    logs: list[Log] = field(default_factory=list[Log])
    step_logs: dict[str, Value] = field(default_factory=dict[str, Value])  # outputs of the step
    stops: list[Stop] = field(default_factory=list[Stop])
    keep: Keep | None = None
    seed: int = 0
    learners: Learners | None = None
    in_step: bool = True


def run(s: Session, plan: ast.Train, module: Module) -> PlanWork:
    """Take all statements of a plan; errors are reported and the rest goes on."""
    s.plan.written = plan
    step = s.new_region("step", training=True, in_plan=True, read_only=False)
    scope = Scope(module, s.plan.root)
    work = PlanWork(scope, step)
    with s.within(step):
        body = one_line.expanded(s, plan, scope)
        statements(s, work, body, scope)
        s.advance()
        work.in_step = False
        for statement, inner, frames in work.later:
            with s.called_from(frames):
                _guarded(s, work, statement, inner)
        for waiting in work.minimized:
            minimizing.must_be_used(s, work, waiting)
    watching.run(s, work)
    return work


def statements(s: Session, work: PlanWork, body: tuple[ast.Statement, ...], scope: Scope) -> None:
    """Take statements one after the other."""
    for statement in body:
        try:
            with s.marked(span=s.user_span(statement.span)):
                _TAKE[type(statement)](s, work, statement, scope)
        except Failed:
            work.has_lost_update |= isinstance(statement, ast.Assign | ast.Descend | ast.Learners)


def _bind(s: Session, work: PlanWork, written: ast.Bind, scope: Scope) -> None:
    value = layers.bound_value(s, written, scope)
    if names.is_of_a_graph(value):
        scope.names[written.name] = Bound(Closure(written.value, scope), value, s.region.moment)
    else:
        scope.names[written.name] = value


def _assign(s: Session, work: PlanWork, written: ast.Assign, scope: Scope) -> None:
    if work.in_step and not s.builder.context.mapped and learners.mentions_learners(written, scope):
        raise s.report(
            "E0606", "this assignment reads the learners outside any synchronisation", [written],
            help="write it in `every 1 step { ... }`",
        )  # fmt: skip
    places.assign(s, written, scope)


def _state(s: Session, work: PlanWork, written: ast.State, scope: Scope) -> None:
    states.declare(s, written, scope, work.step)


# --- feeding -------------------------------------------------------------------------------------


def _feed(s: Session, work: PlanWork, written: ast.FeedFrom, scope: Scope) -> None:
    source = expressions.evaluate(s, written.source, scope)
    if isinstance(source, Poison):
        for name in written.names:
            scope.names.setdefault(name.name, source)
        return
    if isinstance(source, DataValue):
        source = splits.one_split(s, source, written.source)
    if not isinstance(source, SplitValue):
        raise s.report(
            "E0604", f"a feed draws from a split, found {describe(source)}", [written.source]
        )
    dataset = dataset_of(s, work, source.data)
    dim = "N" if not work.feeds else f"N_{dataset.name}"
    for wanted in written.names:
        with Attempts():
            _feed_field(s, wanted, source, dataset, dim, scope)
    names = tuple(n.name for n in written.names)
    if not {f.name for f in dataset.fields} & set(names):
        return  # nothing of it is there to be measured either
    work.feeds.append(
        Feed(
            dataset.name, source.split, names, source.batch, source.shuffle, dim, written.span,
            is_of_learners=s.builder.context.mapped,
        )
    )  # fmt: skip


def _feed_field(
    s: Session, wanted: ast.Name, source: SplitValue, dataset: Dataset, dim: str, scope: Scope
) -> None:
    """Bind the batch of one field."""
    name = dataset.name
    fields = {f.name: f for f in dataset.fields}
    if wanted.name not in fields:
        scope.names.setdefault(wanted.name, POISON)
        declared = [f.name for f in source.data.declaration.fields]
        if wanted.name in declared:
            raise Failed  # its type is not known, and that was reported
        raise s.report(
            "E0604", f"`{name}` has no field `{wanted.name}`", [wanted],
            help=did_you_mean(wanted.name, declared) or f"its fields are {', '.join(declared)}",
        )  # fmt: skip
    layers.claim(s, wanted, scope)
    type = fields[wanted.name].type
    batch = type.with_shape((Dim.of(dim), *type.shape))
    attributes = {"data": name, "split": source.split, "field": wanted.name}
    with s.marked(phase=Phase.DATA, scope=name):
        fed = Tensor(s.builder.add("feed", batch, (), attributes))
    measuring.note_field(s, fed, fields[wanted.name])
    s.region.fed[name, wanted.name] = fed
    scope.names[wanted.name] = FedField(name, wanted.name)


def dataset_of(s: Session, work: PlanWork, value: DataValue) -> Dataset:
    """Return a data set, lowered once."""
    name = value.declaration.name
    if name not in work.datasets:
        work.datasets[name] = datasets.lower(s, value)
    return work.datasets[name]


# --- every, when, use ----------------------------------------------------------------------------


def _later(s: Session, work: PlanWork, written: ast.Statement, scope: Scope) -> None:
    """Plan-level `every` and `when`, `use`d ones included, come after the step, in text order."""
    if work.in_step and not s.builder.context.mapped:
        work.later.append((written, scope, tuple(s.frames)))
    else:
        _guarded(s, work, written, scope)


def _guarded(s: Session, work: PlanWork, written: ast.Statement, scope: Scope) -> None:
    attempts = Attempts()
    with attempts, s.marked(span=s.user_span(written.span)):
        match written:
            case ast.Every() | ast.When():
                guard = s.builder.constant(False, SCALAR.with_element(BOOL))  # after a fault
                with Attempts():
                    guard = _guard(s, written, scope)
                _under(s, work, guard, written.body, scope)
            case _:
                pass
    work.has_lost_update |= attempts.failed


def _use(s: Session, work: PlanWork, written: ast.Use, scope: Scope) -> None:
    try:
        strategies.use(s, work, written, scope, statements)
    except Failed:
        work.has_lost_update = True
        raise


def _guard(s: Session, written: ast.Every | ast.When, scope: Scope) -> Value:
    if isinstance(written, ast.When):
        return _condition(s, written, scope)
    return clock.fires(s, duration_of(s, written.duration, scope))


def duration_of(s: Session, e: ast.Expression, scope: Scope) -> Duration:
    """Evaluate a duration above 0."""
    value = expressions.evaluate_static(s, e, scope, "a duration")
    if not isinstance(value, Duration):
        raise s.report(
            "E0401", f"a duration is needed here, found {describe(value)}", [e],
            help="with its unit: `5 epochs`, `100 steps`, `30 seconds`",
        )  # fmt: skip
    if value.amount <= 0:
        raise s.report(
            "E0610", f"a duration is longer than 0, found {value}", [e],
            help="for instance `1 step`, or `1 epoch`",
        )  # fmt: skip
    return value


def _condition(s: Session, written: ast.When, scope: Scope) -> Value:
    value = read(s, expressions.evaluate(s, written.condition, scope))
    if isinstance(value, Poison):
        raise Failed
    tensor = as_tensor(s, value, written.condition).value
    if tensor.type != SCALAR.with_element(BOOL):
        raise s.report(
            "E0402",
            f"`when` takes a true-or-false scalar, found {tensor.type}",
            [written.condition],
        )
    return tensor


def _under(
    s: Session, work: PlanWork, guard: Value, body: tuple[ast.Statement, ...], scope: Scope
) -> None:
    """Take statements under a guard; a guard inside another holds only when both do."""
    outer = s.builder.context.guard
    if outer is not None:
        # Itself unguarded: it must be false where the outer one is.
        with s.marked(guard=None):
            guard = s.builder.call("logical_and", s.builder.value(outer), guard)
    mapped = s.builder.context.mapped or guard.node.mapped
    with s.marked(guard=guard.id, phase=Phase.UPDATE, mapped=mapped):
        statements(s, work, body, scope.inner())


# --- the rest ------------------------------------------------------------------------------------


def _watched(s: Session, work: PlanWork, written: ast.Statement, scope: Scope) -> None:
    work.watched.append((written, scope))


def _seed(s: Session, work: PlanWork, written: ast.Seed, scope: Scope) -> None:
    value = expressions.evaluate_static(s, written.value, scope, "a whole number")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise s.report(
            "E0401",
            f"a seed is a whole number of at least 0, found {describe(value)}",
            [written.value],
        )
    work.seed = value


def _precision(s: Session, work: PlanWork, written: ast.Precision, scope: Scope) -> None:
    if written.element.name not in {"f32", "f16", "bf16"}:
        raise s.report("E0326", "a precision is f32, f16 or bf16", [written.element])
    if written.element.name != "f32":
        raise s.report(
            "E0903", f"`precision {written.element.name}` cannot be lowered yet", [written],
            help="leave it out: everything is computed in f32",
        )  # fmt: skip


def _learners(s: Session, work: PlanWork, written: ast.Learners, scope: Scope) -> None:
    learners.block(s, work, written, scope, statements)


def _misplaced(s: Session, work: PlanWork, written: ast.Statement, scope: Scope) -> None:
    raise s.report("E0601", "this statement does not belong in a plan", [written])


Take = Callable[[Session, PlanWork, ast.Statement, Scope], None]
_TAKE = cast(
    "dict[type, Take]",
    {
        ast.Bind: _bind,
        ast.Assign: _assign,
        ast.State: _state,
        ast.FeedFrom: _feed,
        ast.Minimize: minimizing.minimize,
        ast.Using: minimizing.using,
        ast.Descend: minimizing.descend,
        ast.Every: _later,
        ast.When: _later,
        ast.Use: _use,
        ast.Measure: _watched,
        ast.StopAfter: _watched,
        ast.StopWhen: _watched,
        ast.StopStalled: _watched,
        ast.Keep: _watched,
        ast.Log: _watched,
        ast.Seed: _seed,
        ast.Precision: _precision,
        ast.Learners: _learners,
        ast.Param: _misplaced,
        ast.Each: _misplaced,
    },
)
