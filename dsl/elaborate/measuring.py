"""What a plan measures: graphs over whole splits that assign nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import expressions, plan, splits, untrained
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.region import Origin
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.scope import Scope
from fml.dsl.values import Any_, Poison, SplitValue, Tensor, describe
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Node, Phase
from fml.engine.ir.training import Dataset, Duration, Field, Measure, Series, Unit
from fml.engine.ir.types import Element
from fml.engine.ops.build import Value
from fml.engine.ops.precision import NARROW

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork

_FINAL_SPLITS = ("train", "valid", "test")
EVERY_EPOCH = Duration(1, Unit.EPOCHS)


@dataclass(frozen=True, slots=True)
class Watched:
    """An expression to be measured under a name.

    What `minimize` minimises is measured without being asked for: where each learner has its own,
    as their mean.
    """

    name: str
    value: ast.Expression
    scope: Scope
    is_minimized: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        """What is the same for two that give one figure of the same split."""
        return self.name, id(self.value), id(self.scope)


def measure(
    s: Session,
    work: "PlanWork",
    written: ast.Measure,
    scope: Scope,
    measured: dict[str, list[Watched]],
) -> None:
    """Take `measure e, ... on D.split every DURATION`; `measured` has what is, by data set."""
    watched: list[Watched] = []
    for one in written.measured:
        with Attempts():
            watched.append(Watched(one.name or name_of(s, one.value), one.value, scope))
    every: Duration | None = None
    with Attempts():
        if not isinstance(written.every, str):
            every = plan.duration_of(s, written.every, scope) if written.every else EVERY_EPOCH
    attempts = Attempts()
    with attempts:
        split = _split_of(s, expressions.evaluate(s, written.on, scope), written.on)
        dataset = plan.dataset_of(s, work, split.data)
        with Attempts():
            _no_clash(s, work, split.split, watched)
        known = measured.setdefault(dataset.name, [])
        known += [w for w in watched if w.name not in {k.name for k in known}]
        lowered = _lower(s, work, dataset, split.split, watched, every)
        work.measures.append(replace(lowered, span=written.on.span))
        if not splits.has(split.data.declaration, split.split):
            raise Failed  # its name was reported
    if attempts.failed:
        work.unmeasured |= {w.name for w in watched} | {m.name for m in work.minimized}


def _split_of(s: Session, value: Any_, at: ast.Expression) -> SplitValue:
    """The split that is measured."""
    if isinstance(value, Poison):
        raise Failed
    if not isinstance(value, SplitValue):
        raise s.report(
            "E0604", f"`measure` goes over a split, found {describe(value)}", [at],
            help="`on iris.valid`",
        )  # fmt: skip
    return value


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


def _no_clash(s: Session, work: "PlanWork", split: str, watched: list[Watched]) -> None:
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
    figures, remembered = work.figures[key]
    graph = _of_split(figures, split)
    names = (name for name in graph.outputs if name not in remembered.values())
    series = tuple(Series(f"{split}.{name}", name) for name in names)
    # The figures of the end are those of the parameters alone: nothing comes after them.
    kept: Mapping[str, str] = {} if every is None else remembered
    return Measure(dataset.name, split, graph, series, every, optional=optional, remembers=kept)


# What figures are put together with.
_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "negate"})


def _figures(
    s: Session, work: "PlanWork", dataset: Dataset, split: str, wanted: tuple[Watched, ...]
) -> tuple[Graph, Mapping[str, str]]:
    """The graph that measures expressions on a split, and what it remembers."""
    region = s.new_region(f"measure {split}", apart=True, in_plan=True, memory={})
    with s.within(region):
        region.fields = split_fields(s, dataset, split)
        outputs: dict[str, Tensor] = {}
        for one in wanted:
            value = read(s, expressions.evaluate(s, one.value, one.scope))
            if one.is_minimized and isinstance(value, Tensor) and value.value.node.mapped:
                value = Tensor(value.value.call("learners_reduce", kind="mean"))
            try:
                outputs[one.name] = _figure(s, value, one.value)
            except Failed:
                work.unmeasured.add(one.name)
        graph, kept = finish(s, outputs), remembers(s)
    untrained.warn(s, work, graph, wanted)
    return graph, kept


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
    if tensor.value.node.mapped:
        raise s.report(
            "E0606", "every learner has its own value of this", [at],
            notes=["a replica is measured as its central model; other layers and states are not"],
            help="reduce it with `mean(..., over = learners)`",
        )  # fmt: skip
    return Tensor(_unrounded(tensor.value)) if tensor.type.element in NARROW else tensor


def _unrounded(scalar: Value) -> Value:
    """A 16-bit figure as it was before it was rounded, so that 20 of 22 are 0.9091.

    It is looked through the last casts, and the arithmetic that puts means and penalties together.
    """
    node = scalar.node
    inputs = [scalar.builder.value(number) for number in node.inputs]
    if node.type.element in NARROW and node.op in _ARITHMETIC:
        return scalar.builder.call(node.op, *map(_unrounded, inputs))
    if node.type.element in NARROW and node.op == "cast" and inputs[0].type.is_float:
        return _unrounded(inputs[0])
    return scalar.call("cast", element=Element.F32)


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
        Watched(m.name, m.closure.expression, m.closure.scope, is_minimized=True)
        for m in work.minimized
        if m.trained and m.name not in names
    ]


def final(s: Session, work: "PlanWork", measured: dict[str, list[Watched]]) -> None:
    """At the end, what is measured anywhere is measured on train, valid and test."""
    for feed in work.feeds:
        dataset = work.datasets[feed.data]
        done = {(m.data, m.split) for m in work.measures}
        for split in _FINAL_SPLITS:
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


def finish(s: Session, outputs: Mapping[str, Tensor]) -> Graph:
    """Return the graph at hand without what nothing needs; it has what `previous` remembers."""
    values = {name: t.value for name, t in outputs.items()}
    memory = s.region.memory or {}
    values |= {output: memory[name] for name, output in remembers(s).items()}
    return pruned(s.builder.finish(values))


def remembers(s: Session) -> dict[str, str]:
    """By variable of `previous`, the output of the graph at hand that it is to be set to."""
    return {name: f"remember {name}" for name in s.region.memory or {}}


def pruned(graph: Graph) -> Graph:
    """Drop the nodes that no output and no assignment needs."""
    assigns = (node.id for node in graph.of_op("assign"))
    return graph.restricted_to([*graph.outputs.values(), *assigns])
