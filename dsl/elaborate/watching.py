"""What a plan looks at: measure, log, stop, keep. Each is a graph that assigns nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import expressions, names, plan, untrained
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Failed, Origin, Session
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Bound, FedField, Scope
from fml.dsl.values import Any_, DataValue, Poison, SplitValue, Tensor, describe
from fml.engine.ir import training
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Node, Phase
from fml.engine.ir.training import Dataset, Duration, Field, Measure, Series, Unit
from fml.engine.ir.types import BOOL, SCALAR, Label

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork

FINAL_SPLITS = ("train", "valid", "test")
_EVERY_EPOCH = Duration(1, Unit.EPOCHS)


@dataclass(frozen=True, slots=True)
class Watched:
    """An expression to be measured under a name."""

    name: str
    value: ast.Expression
    scope: Scope

    @property
    def key(self) -> tuple[str, int, int]:
        """What is the same for two that give one figure of the same split."""
        return self.name, id(self.value), id(self.scope)


def run(s: Session, work: "PlanWork") -> None:
    """Lower everything that the plan watches, measurements first."""
    measured: dict[str, list[Watched]] = {}
    for statement, scope in work.watched:
        if isinstance(statement, ast.Measure):
            _attempt(s, lambda w=statement, c=scope: _measure(s, work, w, c, measured))
    _final(s, work, measured)
    for statement, scope in work.watched:
        _attempt(s, lambda w=statement, c=scope: _watch(s, work, w, c))
    if not any(
        isinstance(w, ast.StopAfter | ast.StopWhen | ast.StopStalled) for w, _ in work.watched
    ):
        written = [s.plan.written] if s.plan.written else []
        s.report("E0605", "this plan never stops", written, help="add `stop after 100 epochs`")


def _attempt(s: Session, take: object) -> None:
    try:
        take()  # pyright: ignore[reportCallIssue]
    except Failed:
        return


# --- measuring -----------------------------------------------------------------------------------


def _measure(
    s: Session,
    work: "PlanWork",
    written: ast.Measure,
    scope: Scope,
    measured: dict[str, list[Watched]],
) -> None:
    watched = [Watched(m.name or name_of(s, m.value), m.value, scope) for m in written.measured]
    split = expressions.evaluate(s, written.on, scope)
    if isinstance(split, Poison):
        work.unmeasured |= {w.name for w in watched}
        raise Failed
    if isinstance(split, DataValue) or not isinstance(split, SplitValue):
        raise s.report(
            "E0604",
            f"`measure` goes over a split, found {describe(split)}",
            [written.on],
            help="`on iris.valid`",
        )
    dataset = plan.dataset_of(s, work, split.data)
    _no_clash(s, work, split.split, watched, written)
    known = measured.setdefault(dataset.name, [])
    known += [w for w in watched if w.name not in {k.name for k in known}]
    every = None
    if not isinstance(written.every, str):
        every = plan.duration_of(s, written.every, scope) if written.every else _EVERY_EPOCH
    work.measures.append(_lower(s, work, dataset, split.split, watched, every))


def name_of(s: Session, e: ast.Expression) -> str:
    """The name of a measured expression: its binding, else its outermost function."""
    match e:
        case ast.Name(name=name):
            return name
        case ast.Call(function=function):
            return name_of(s, function)
        case ast.Pipe(into=into):
            return name_of(s, into)
        case ast.Attribute(name=name):
            return name
        case _:
            raise s.report(
                "E0607", "this needs a name to be measured under", [e], help='add `as "name"`'
            )


def _no_clash(
    s: Session, work: "PlanWork", split: str, watched: list[Watched], written: ast.Measure
) -> None:
    taken = {series.name for m in work.measures for series in m.series}
    for place, one in enumerate(watched):
        name = f"{split}.{one.name}"
        earlier = [w for w in watched[:place] if w.name == one.name and w.value != one.value]
        losses = {m.name: m.closure.expression for m in work.minimized}
        repeated = name in taken and one.name not in losses
        if earlier or repeated:
            raise s.report(
                "E0607", f"two series are called `{name}`", [one.value], help='add `as "name"`'
            )


def _lower(
    s: Session,
    work: "PlanWork",
    dataset: Dataset,
    split: str,
    watched: list[Watched],
    every: Duration | None,
    optional: bool = False,
) -> Measure:
    # While a plan runs, what it minimises has a series for the split that is fed: the mean of its
    # steps. The whole split is measured at the end.
    fed = every is not None and split in {f.split for f in work.feeds if f.data == dataset.name}
    wanted = (*watched, *(() if fed else _losses(work, dataset, watched)))
    key = (dataset.name, *(one.key for one in wanted))
    if key not in work.figures:
        work.figures[key] = _figures(s, work, dataset, split, wanted)
    graph = _of_split(work.figures[key], split)
    series = tuple(Series(f"{split}.{name}", name) for name in graph.outputs)
    return Measure(dataset.name, split, graph, series, every, "N", optional)


def _figures(
    s: Session, work: "PlanWork", dataset: Dataset, split: str, wanted: tuple[Watched, ...]
) -> Graph:
    """The graph that measures expressions on a split."""
    region = s.new_region(f"measure {split}", apart=True, in_plan=True)
    with s.within(region):
        region.fields = split_fields(s, dataset, split)
        outputs: dict[str, Tensor] = {}
        for one in wanted:
            value = read(s, expressions.evaluate(s, one.value, one.scope))
            try:
                outputs[one.name] = _figure(s, value, one.value)
            except Failed:
                work.unmeasured.add(one.name)
        graph = finish(s, outputs)
    untrained.warn(s, work, graph, wanted)
    return graph


def _of_split(graph: Graph, split: str) -> Graph:
    """The same graph for another split: only its feeds differ."""

    def moved(node: Node) -> Node:
        if node.op != "feed":
            return node
        return replace(node, attributes={**node.attributes, "split": split})

    return Graph(f"measure {split}", map(moved, graph), graph.outputs)


def _figure(s: Session, value: Any_, at: ast.Expression) -> Tensor:
    tensor = as_tensor(s, value, at)
    if tensor.type.rank or not tensor.type.is_float:
        raise s.report(
            "E0328",
            f"a measured figure is a scalar, found {tensor.type}",
            [at],
            help="reduce it with `mean(...)` or `sum(...)`",
        )
    return tensor


def split_fields(s: Session, dataset: Dataset, split: str) -> Mapping[str, Tensor]:
    """The fields of a whole split, as the names of the feed."""
    fields: dict[str, Tensor] = {}
    with s.marked(phase=Phase.DATA, scope=dataset.name, mapped=False, guard=None):
        for field in dataset.fields:
            batch = field.type.with_shape((Dim.of("N"), *field.type.shape))
            attributes = {"data": dataset.name, "split": split, "field": field.name}
            fields[field.name] = Tensor(s.builder.add("feed", batch, (), attributes))
            note_field(s, fields[field.name], field)
    return fields


def note_field(s: Session, tensor: Tensor, field: Field) -> None:
    """Note where a field's type was written."""
    if field.span is not None:
        axes = ("N", *(str(axis) for axis in field.type.shape))
        s.region.origins[tensor.value.id] = Origin(f"{field.name}: {field.type}", field.span, axes)


def _losses(work: "PlanWork", dataset: Dataset, watched: list[Watched]) -> list[Watched]:
    """What `minimize` minimises is measured wherever anything is."""
    if dataset.name not in {feed.data for feed in work.feeds}:
        return []
    names = {w.name for w in watched}
    return [
        Watched(m.name, m.closure.expression, m.closure.scope)
        for m in work.minimized
        if m.trained and m.name not in names
    ]


def _final(s: Session, work: "PlanWork", measured: dict[str, list[Watched]]) -> None:
    """At the end, what is measured anywhere is measured on train, valid and test."""
    for feed in work.feeds:
        dataset = work.datasets[feed.data]
        done = {(m.data, m.split) for m in work.measures}
        for split in FINAL_SPLITS:
            measured_already = (feed.data, split) in done
            if (measured_already and split != feed.split) or not _may_have(dataset, split):
                continue
            watched = [] if measured_already else measured.get(feed.data, [])
            measure = _lower(s, work, dataset, split, watched, None, optional=True)
            if measure.series:
                work.measures.append(measure)


def _may_have(dataset: Dataset, split: str) -> bool:
    if dataset.split is None:
        return dataset.source == "given" or split == "train"
    return split in {part.name for part in dataset.split.parts} or dataset.split.of is not None


def finish(s: Session, outputs: Mapping[str, Tensor]) -> training.Graph:
    """Return the graph at hand without what nothing needs."""
    return pruned(s.builder.finish({name: t.value for name, t in outputs.items()}))


def pruned(graph: training.Graph) -> training.Graph:
    """Drop the nodes that no output and no assignment needs."""
    assigns = (node.id for node in graph.of_op("assign"))
    return graph.restricted_to([*graph.outputs.values(), *assigns])


# --- log, stop, keep -----------------------------------------------------------------------------


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
            within = plan.duration_of(s, written.duration, scope)
            name = _series_name(s, work, written.value)
            work.stops.append(
                training.StopPatience(name, written.direction == "falling", within, written.span)
            )
        case ast.Keep():
            if work.keep is not None:
                marks = [written, *([work.keep.span] if work.keep.span else [])]
                raise s.report(
                    "E0609", "a plan keeps one set of parameters", marks,
                    help="leave one `keep` out",
                )  # fmt: skip
            name = _series_name(s, work, written.value)
            work.keep = training.Keep(name, written.which == "highest", written.span)
        case _:
            pass


def _log(s: Session, work: "PlanWork", written: ast.Log, scope: Scope) -> None:
    name = written.name or name_of(s, written.value)
    every = plan.duration_of(s, written.every, scope) if written.every else _EVERY_EPOCH
    if _is_of_step(s, work, written.value, scope):
        with s.within(work.step), s.reading():
            output = f"log {name}"
            work.step_logs[output] = _logged(s, written.value, scope).value
        work.logs.append(training.Log(Series(name, output), None, every))
        return
    with s.within(s.new_region(f"log {name}", apart=True, in_plan=True)):
        graph = finish(s, {"value": _logged(s, written.value, scope)})
    work.logs.append(training.Log(Series(name, "value"), graph, every))


def _logged(s: Session, e: ast.Expression, scope: Scope) -> Tensor:
    value = read(s, expressions.evaluate(s, e, scope))
    if isinstance(value, Poison):
        raise Failed
    tensor = as_tensor(s, value, e)
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
    region = s.new_region("stop", apart=True, in_plan=True, series=True)
    with s.within(region):
        value = read(s, expressions.evaluate(s, written.condition, scope))
        if isinstance(value, Poison):
            raise Failed
        tensor = as_tensor(s, value, written.condition)
        if tensor.type != SCALAR.with_element(BOOL):
            raise s.report(
                "E0402",
                f"`stop when` takes a true-or-false scalar, found {tensor.type}",
                [written.condition],
            )
        for name, span in region.used_series.items():
            _known_series(s, work, name, span)
        graph = finish(s, {"condition": tensor})
    work.stops.append(training.StopWhen(graph, written.condition.span.text, written.span))


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


def label_of(fields: tuple[Field, ...], classes: Dim) -> str | None:
    """The label field with so many classes, whose names a prediction can use."""
    names = [
        f.name
        for f in fields
        if isinstance(f.type.element, Label) and f.type.element.classes == classes
    ]
    return names[0] if len(names) == 1 else None
