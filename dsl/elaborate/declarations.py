"""Checks each declaration on its own, its dimension names rigid, before it is first used."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from fml.dsl import ast
from fml.dsl.elaborate import allowed, calls, optimizers, signatures, written_types
from fml.dsl.elaborate.arithmetic import to_dim
from fml.dsl.elaborate.session import Attempts, PlanState, Session
from fml.dsl.elaborate.statics import simplest
from fml.dsl.modules import Module, parameters_of, repeated
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import POISON, Any_, Instance, LayerFactory, Poison, Tensor, Unknown
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.source import Span
from fml.engine.ir.types import Element, TensorType


def ensure_checked(
    s: Session, declaration: ast.Function | ast.Layer | ast.Optimizer, module: Module
) -> None:
    """Check a declaration once in a session; one with errors is never followed again."""
    if id(declaration) in s.checked:
        return
    s.checked.add(id(declaration))
    before = len(s.diagnostics)
    with _on_its_own(s), Attempts():
        _attributes_are_static(s, declaration)
        allowed.require_of_defaults(
            s, parameters_of(declaration), Scope(module, None), declaration.name
        )
        match declaration:
            case ast.Function():
                _check_function(s, declaration, module)
            case ast.Layer():
                _check_layer(s, declaration, module)
            case ast.Optimizer():
                optimizers.check(s, declaration, module)
    if len(s.diagnostics) > before:
        s.broken.add(id(declaration))


def _attributes_are_static(
    s: Session, declaration: ast.Function | ast.Layer | ast.Optimizer
) -> None:
    written: tuple[ast.Parameter, ...] = ()
    if isinstance(declaration, ast.Layer):
        written = declaration.attributes
    elif isinstance(declaration, ast.Optimizer):
        written = declaration.parameters
    for parameter in written:
        if parameter.type is not None and not written_types.is_static(parameter.type):
            text = parameter.type.span.text
            listed = f"an attribute is a {', '.join(written_types.STATIC_TYPES)}, or has no type"
            s.report(
                "E0326", f"`{text}` is not the type of a static value", [parameter.type],
                help=did_you_mean(text, written_types.STATIC_TYPES) or listed,
            )  # fmt: skip


@contextmanager
def _on_its_own(s: Session) -> Generator[None]:
    """A scratch graph, no calls on the way, and no trace among the plan's variables."""
    kept = (s.region, s.init, s.frames, s.naming, s.plan)
    s.region = s.new_region("check", rigid=True, training=True, read_only=False)
    s.init = s.new_region("init", rigid=True)
    s.frames, s.naming, s.plan = [], None, PlanState()
    try:
        yield
    finally:
        s.region, s.init, s.frames, s.naming, s.plan = kept


def _check_function(s: Session, f: ast.Function, module: Module) -> None:
    matched = _rigid(s, f, written_types.Matched(Scope(module, None)))
    is_known = _result_is_known(s, f.result, matched)
    scope = Scope(module, None, None, dict(matched.names), _places(f.parameters))
    result = calls.body(s, f.body, scope)
    if is_known:
        signatures.check_result(s, f.result, result, matched, f)


def _check_layer(s: Session, layer: ast.Layer, module: Module) -> None:
    attributes: dict[str, Any_] = {p.name: _rigid_static(p) for p in layer.attributes}
    entries: dict[str, Entry] = {**attributes}
    start = written_types.Matched(Scope(module, None, None, entries), dict(entries))
    matched = _rigid(s, layer, start)
    is_known = _result_is_known(s, layer.result, matched)
    owner = Instance(LayerFactory(layer, module), attributes, None, layer.name)
    taken = _places((*layer.attributes, *layer.parameters))
    scope = Scope(module, owner, None, dict(matched.names), taken)
    result = calls.body(s, layer.body, scope)
    if is_known:
        signatures.check_result(s, layer.result, result, matched, layer)


def _places(parameters: Sequence[ast.Parameter]) -> dict[str, Span]:
    """The names that a body cannot bind again."""
    return {p.name: p.span for p in parameters}


def _rigid_static(parameter: ast.Parameter) -> Any_:
    """An attribute that could be anything: a dimension is a name, all else is not known."""
    if parameter.type is not None and parameter.type.name == "dim":
        return Dim.of(parameter.name)
    return Unknown(parameter.name)


def _rigid(
    s: Session, declaration: ast.Function | ast.Layer, matched: written_types.Matched
) -> written_types.Matched:
    """Make an argument of each parameter, of just the type that is written."""
    for parameter in declaration.parameters:
        _bind_names(parameter.type, matched)
    for parameter in declaration.parameters:
        matched.names.setdefault(parameter.name, POISON)  # stays where its type has a fault
        with Attempts():
            _rigid_argument(s, parameter, matched)
    matched.names |= dict.fromkeys(repeated(parameters_of(declaration)), POISON)
    for name, dim in matched.dims.items():
        matched.names.setdefault(name, simplest(dim))
    return matched


def _rigid_argument(s: Session, parameter: ast.Parameter, matched: written_types.Matched) -> None:
    type = parameter.type
    if type is None:
        matched.names[parameter.name] = (
            POISON if parameter.default is None else Unknown(parameter.name)
        )
    elif written_types.is_static(type):
        matched.names[parameter.name] = _rigid_static(parameter)
    else:
        found = written_types.written_type(s, type, matched)
        matched.names[parameter.name] = POISON if found is None else _argument(s, parameter, found)


def _argument(s: Session, parameter: ast.Parameter, type: TensorType) -> Tensor:
    tensor = Tensor(s.builder.add("argument", type, (), {"name": parameter.name}))
    signatures.remember_origin(s, tensor, parameter)
    return tensor


def _bind_names(type: ast.Type | None, matched: written_types.Matched) -> None:
    """Quantify the names that stand alone as axes; `...` is checked as one axis, `float` as f32."""
    if type is None or written_types.is_static(type):
        return
    if type.name == written_types.FLOAT:
        matched.names[written_types.FLOAT] = Element.F32
    for axis in (*(type.axes or ()), *([type.classes] if type.classes else [])):
        if isinstance(axis, ast.Dots):
            matched.run = (Dim.of("..."),)
        elif isinstance(axis, ast.Name) and axis.name not in matched.names:
            matched.dims[axis.name] = Dim.of(axis.name)
            matched.sources[axis.name] = axis


def _result_is_known(s: Session, result: ast.Type | None, matched: written_types.Matched) -> bool:
    """Refuse dimensions that only the result mentions; whether there are none."""
    if result is None or written_types.is_static(result):
        return True
    scope = matched.with_dims()
    attempts = Attempts()
    for axis in result.axes or ():
        with attempts:
            _axis_is_known(s, axis, scope, matched)
    return not attempts.failed


def _axis_is_known(
    s: Session, axis: ast.Expression | ast.Dots, scope: Scope, matched: written_types.Matched
) -> None:
    if isinstance(axis, ast.Dots):
        if matched.run is None:
            raise s.report("E0325", "`...` is mentioned by the result only", [axis])
    elif isinstance(axis, ast.Name) and not scope.find(axis.name):
        if not scope.module.knows(axis.name):
            raise s.report(
                "E0325", f"the dimension `{axis.name}` is mentioned by the result only", [axis],
                help="name it in a parameter's type, or make it an attribute",
            )  # fmt: skip
    else:
        value = written_types.dimension(s, axis, scope)
        if not isinstance(value, Poison):
            to_dim(s, value, axis)
