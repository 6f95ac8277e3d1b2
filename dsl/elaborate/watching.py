"""What a plan looks at: measure, log, stop, keep. Each is a graph that assigns nothing."""

from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import clock, expressions, measuring, names, plan
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Bound, FedField, Scope
from fml.dsl.values import Poison, Tensor
from fml.engine.ir import training
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.training import Duration, Series
from fml.engine.ir.types import BOOL, SCALAR, Element

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork


def run(s: Session, work: "PlanWork") -> None:
    """Lower everything that the plan watches, measurements first."""
    measured: dict[str, list[measuring.Watched]] = {}
    for statement, scope in work.watched:
        if isinstance(statement, ast.Measure):
            measuring.measure(s, work, statement, scope, measured)
    measuring.final(s, work, measured)
    for statement, scope in work.watched:
        with Attempts():
            _watch(s, work, statement, scope)
    if not any(
        isinstance(w, ast.StopAfter | ast.StopWhen | ast.StopStalled) for w, _ in work.watched
    ):
        written = [s.plan.written] if s.plan.written else []
        s.report("E0605", "this plan never stops", written, help="add `stop after 100 epochs`")


def _watch(s: Session, work: "PlanWork", written: ast.Statement, scope: Scope) -> None:
    match written:
        case ast.Log():
            _log(s, work, written, scope)
        case ast.StopAfter():
            duration = plan.duration_of(s, written.duration, scope)
            work.stops.append(training.StopAfter(duration, written.span))
        case ast.StopWhen():
            _stop_when(s, work, written, scope)
        case ast.StopStalled():
            _stop_stalled(s, work, written, scope)
        case ast.Keep():
            _keep(s, work, written)
        case _:
            pass


def _stop_stalled(s: Session, work: "PlanWork", written: ast.StopStalled, scope: Scope) -> None:
    name, within = "", None
    attempts = Attempts()
    with attempts:
        name = _series_name(s, work, written.value)
    with attempts:
        within = plan.duration_of(s, written.duration, scope)
    if name and within:
        is_falling = written.direction == "falling"
        work.stops.append(training.StopPatience(name, is_falling, within, written.span))


def _keep(s: Session, work: "PlanWork", written: ast.Keep) -> None:
    if work.keep is not None:
        marks = [written, *([work.keep.span] if work.keep.span else [])]
        s.report(
            "E0609", "a plan keeps one set of parameters", marks,
            help="leave one `keep` out",
        )  # fmt: skip
    name = _series_name(s, work, written.value)
    work.keep = training.Keep(name, written.which == "highest", written.span)


def _log(s: Session, work: "PlanWork", written: ast.Log, scope: Scope) -> None:
    every = measuring.EVERY_EPOCH
    attempts = Attempts()
    with attempts:
        every = plan.duration_of(s, written.every, scope) if written.every else every
    with attempts:
        work.logs.append(_logged(s, work, written, every, scope))
    if attempts.failed and written.name:
        work.unmeasured.add(written.name)


def _logged(
    s: Session, work: "PlanWork", written: ast.Log, every: Duration, scope: Scope
) -> training.Log:
    name = written.name or measuring.name_of(s, written.value)
    measured = {series.name for m in work.measures for series in m.series}
    if name in measured | {log.series.name for log in work.logs}:
        raise s.report(
            "E0607", f"two series are called `{name}`", [written], help='add another `as "name"`'
        )
    if _is_of_step(s, work, written.value, scope):
        with s.within(work.step), s.reading(every):
            output = f"log {name}"
            work.step_logs[output] = _scalar(s, written.value, scope).value
        return training.Log(Series(name, output), None, every)
    with s.within(s.new_region(f"log {name}", apart=True, in_plan=True, memory={})):
        graph = measuring.finish(s, {"value": _scalar(s, written.value, scope)})
        remembers = measuring.remembers(s)
    return training.Log(Series(name, "value"), graph, every, remembers)


def _scalar(s: Session, e: ast.Expression, scope: Scope) -> Tensor:
    value = read(s, expressions.evaluate(s, e, scope))
    if isinstance(value, Poison):
        raise Failed
    tensor = as_tensor(s, value, e, Element.F64 if clock.is_weak(value) else None)
    if tensor.type.rank:
        raise s.report(
            "E0328", f"a series is a scalar, found {tensor.type}", [e],
            help="reduce it with `mean(...)` or `sum(...)`",
        )  # fmt: skip
    if tensor.value.node.mapped:
        raise s.report(
            "E0606", "every learner has its own value of this", [e],
            help="reduce it with `mean(..., over = learners)`",
        )  # fmt: skip
    return tensor


def _is_of_step(s: Session, work: "PlanWork", e: ast.Expression, scope: Scope) -> bool:
    """Whether an expression reads the batch, itself or through a name that the plan binds."""
    inside = s.plan.learners
    for part in walk(e):
        found = None
        if isinstance(part, ast.Name):
            found = scope.find(part.name)
        elif isinstance(part, ast.Attribute) and inside is not None:
            of_learners = isinstance(part.value, ast.Name) and part.value.name == "learners"
            found = inside.find(part.name) if of_learners else None
        entry = found[1] if found else None
        if isinstance(entry, FedField):
            return True
        with s.within(work.step):
            if isinstance(entry, Bound) and names.is_fed(s, entry.value):
                return True
    return False


def _stop_when(s: Session, work: "PlanWork", written: ast.StopWhen, scope: Scope) -> None:
    region = s.new_region("stop", apart=True, in_plan=True, series=True, memory={})
    with s.within(region):
        value = read(s, expressions.evaluate(s, written.condition, scope))
        for name, span in region.used_series.items():
            with Attempts():
                _known_series(s, work, name, span)
        if isinstance(value, Poison):
            raise Failed
        tensor = as_tensor(s, value, written.condition)
        if tensor.type != SCALAR.with_element(BOOL):
            raise s.report(
                "E0402",
                f"`stop when` takes a true-or-false scalar, found {tensor.type}",
                [written.condition],
            )
        graph = measuring.finish(s, {"condition": tensor})
        remembers = measuring.remembers(s)
    text = written.condition.span.text
    work.stops.append(training.StopWhen(graph, text, written.span, remembers))


def _series_name(s: Session, work: "PlanWork", e: ast.Expression) -> str:
    if isinstance(e, ast.Attribute) and isinstance(e.value, ast.Name):
        name = f"{e.value.name}.{e.name}"
    elif isinstance(e, ast.Name):
        name = e.name
    else:
        raise s.report("E0607", "this names a series, such as `valid.loss`", [e])
    _known_series(s, work, name, e.span)
    return name


def _known_series(s: Session, work: "PlanWork", name: str, span: training.Span) -> None:
    known = {f"train.{m.name}" for m in work.minimized}
    # What a fault leaves unmeasured is no fault of those who ask for it.
    broken = {m.name for m in work.minimized if m.loss is None} | work.unmeasured
    known |= {series.name for m in work.measures for series in m.series}
    known |= {log.series.name for log in work.logs}
    if name not in known and name.rpartition(".")[2] not in broken:
        listed = ", ".join(f"`{k}`" for k in sorted(known)) or "none"
        raise s.report(
            "E0607",
            f"nothing measures `{name}`",
            [span],
            notes=[f"the series of this plan are {listed}"],
            help=did_you_mean(name, known) or "add a `measure ... on` statement",
        )
