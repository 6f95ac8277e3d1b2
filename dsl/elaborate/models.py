"""The models of a plan as graphs of their own, for predicting and exporting."""

from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import calls, layers, measuring
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.values import Instance, Poison, Tensor
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Field, Model
from fml.engine.ir.types import Label, TensorType
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.plan import PlanWork


def lower(s: Session, work: "PlanWork") -> tuple[Model, ...]:
    """Return every instance of a `model` that the plan applies."""
    made: list[Model] = []
    for instance in s.plan.root.children.values():
        factory = instance.layer
        if factory is None or instance.mapped or instance not in s.plan.applied:
            continue
        if factory.declaration.kind == "model":
            try:
                made.append(_model(s, work, instance))
            except Failed:
                continue
    return tuple(made)


def _model(s: Session, work: "PlanWork", instance: Instance) -> Model:
    assert instance.layer is not None
    declaration = instance.layer.declaration
    values = [
        as_tensor(s, v, declaration).value for v in _arguments(s, work, instance, declaration)
    ]
    names = [p.name for p in declaration.parameters]
    region = s.new_region(instance.path, apart=True)
    with s.within(region):
        arguments: list[calls.Given] = []
        for name, value in zip(names, values, strict=True):
            made = Tensor(s.builder.add("argument", value.type, (), {"name": name}))
            arguments.append(calls.Given(name, made, _name_of(name, declaration)))
        result = read(s, layers.apply(s, instance, arguments, _name_of(instance.name, declaration)))
        if isinstance(result, Poison):
            raise Failed
        tensor = as_tensor(s, result, declaration)
        graph = measuring.finish(s, {"result": tensor})
    inputs: dict[str, TensorType] = {n: v.type for n, v in zip(names, values, strict=True)}
    fed = {n: f for n, v in zip(names, values, strict=True) if (f := _field_of(v)) is not None}
    variables = tuple(place.name for place in instance.all_places())
    return Model(
        instance.path, graph, inputs, tensor.type, fed, variables, _label_field(work, tensor.type)
    )


def _arguments(
    s: Session, work: "PlanWork", instance: Instance, declaration: ast.Layer
) -> list[Tensor]:
    found = s.plan.applied[instance]
    with s.within(work.step):
        return [as_tensor(s, value, declaration) for value in found]


def _name_of(name: str, at: ast.Syntax) -> ast.Name:
    return ast.Name(name, span=at.span)


def _field_of(value: Value) -> str | None:
    """The one field of the batch that a value is computed from, if it is one."""
    nodes = value.builder.nodes
    behind = (nodes[number] for number in nodes.ancestors([value.id]))
    fields = {str(node.attributes["field"]) for node in behind if node.op == "feed"}
    return fields.pop() if len(fields) == 1 else None


def _label_field(work: "PlanWork", result: TensorType) -> str | None:
    """The label whose classes the last axis of the result counts."""
    if result.rank < 2:
        return None
    for feed in work.feeds:
        fields = tuple(f for f in work.datasets[feed.data].fields if f.name in feed.fields)
        found = _label_of(fields, result.shape[-1])
        if found:
            return found
    return None


def _label_of(fields: tuple[Field, ...], classes: Dim) -> str | None:
    """The label field with so many classes, whose names a prediction can use."""
    names = [
        f.name
        for f in fields
        if isinstance(f.type.element, Label) and f.type.element.classes == classes
    ]
    return names[0] if len(names) == 1 else None
