"""Layer values: made where they are written, given parameters when first applied."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate import calls, declarations, expressions, places, signatures, written_types
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Entry, ParamEntry, Scope
from fml.dsl.values import POISON, Any_, Instance, LayerFactory, Place, Poison, Stack
from fml.engine.ir.training import Role, Variable

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given


def make(
    s: Session, factory: LayerFactory, given: "Sequence[Given]", e: ast.Expression, scope: Scope,
    turn: int | None = None,
) -> Instance:  # fmt: skip
    """Return the layer value of this place, made the first time that its owner comes here.

    `turn` counts the copies of a `repeat`.
    """
    declaration = factory.declaration
    owner = scope.owner
    if owner is None:
        raise s.report(
            "E0406", f"nothing here can own the parameters of the layer `{declaration.name}`", [e],
            help="make it in a `layer`, a `model` or a plan, and hand an `fn` the layer value",
        )  # fmt: skip
    declarations.ensure_checked(s, declaration, factory.module)
    key = (id(e), turn)
    if key in owner.children:
        return owner.children[key]
    bound = calls.bind(
        s, declaration.attributes, given, declaration.name, e, Scope(factory.module, None)
    )
    attributes: dict[str, Any_] = {}
    attempts = Attempts()
    for parameter in declaration.attributes:
        value = bound[parameter.name].value
        with attempts:
            if written_types.is_static(parameter.type):
                at = bound[parameter.name].at
                value = signatures.static_argument(s, parameter, value, at, declaration.name)
            attributes[parameter.name] = value
    attempts.settle()
    name = _name(s, owner, declaration.name, e, turn)
    span = s.user_span(e.span)
    is_own = s.builder.context.mapped if owner is s.plan.root else owner.mapped
    model = owner
    while model.central is not None:
        model = model.central
    made = Instance(factory, attributes, model, name, span, mapped=is_own and model is owner)
    model.children[key] = made
    for replica in model.replicas:
        _mirror(s, made, key, replica)
    return owner.children[key]


def replicate(s: Session, model: Instance, replica: Instance) -> None:
    """Let a replica have all that its model has, now and later."""
    model.replicas.append(replica)
    for name, place in model.places.items():
        replica.places[name] = places.copied(s, place, _path(replica, name), replica.mapped)
    for key, child in model.children.items():
        _mirror(s, child, key, replica)


def _mirror(s: Session, child: Instance, key: object, owner: Instance) -> None:
    """Give a replica its own of a layer value that its model owns."""
    made = Instance(
        child.layer, child.attributes, owner, child.name, child.span, child, mapped=owner.mapped
    )
    owner.children[key] = made
    replicate(s, child, made)
    for replica in owner.replicas:
        _mirror(s, made, key, replica)


def _path(owner: Instance, name: str) -> str:
    return f"{owner.path}.{name}" if owner.path else name


def _name(s: Session, owner: Instance, layer: str, e: ast.Expression, turn: int | None) -> str:
    """The bound name, else the layer's, numbered in text order where it repeats."""
    if s.naming is not None and s.naming[0] == id(e):
        return s.naming[1]
    count = owner.counts.get(layer, 0)
    taken = {child.name for child in owner.children.values()}
    while f"{layer}_{count}" in taken:  # by a bound name
        count += 1
    owner.counts[layer] = count + 1
    body = owner.layer.declaration.body if owner.layer else s.plan.written
    if turn is None and layer not in taken and _mentions(body, layer) < 2:
        return layer
    return f"{layer}_{count}"


@cache
def _mentions(written: object, layer: str) -> int:
    """How often a layer's name stands in a body where it makes an unnamed value.

    What a `repeat` copies counts as two.
    """
    return sum(_weight(node, layer) for node in walk(written))


def _weight(node: object, layer: str) -> int:
    if isinstance(node, ast.Bind) and _made_by(node.value) == layer:
        return -1
    if isinstance(node, ast.Call) and _made_by(node.function) == "repeat":
        return sum(_is_called(n, layer) for n in walk(node.arguments))
    return int(_is_called(node, layer))


def _is_called(node: object, layer: str) -> bool:
    """Whether it is a layer's name, or that of an imported one (`blocks.residual`)."""
    return isinstance(node, ast.Name | ast.Attribute) and node.name == layer


def _made_by(e: object) -> str:
    if isinstance(e, ast.Call):
        e = e.function
    return e.name if isinstance(e, ast.Name | ast.Attribute) else ""


# --- applying ------------------------------------------------------------------------------------


def apply(s: Session, layer: Instance | Stack, given: "Sequence[Given]", e: ast.Expression) -> Any_:
    """Apply a layer value to tensors."""
    if isinstance(layer, Stack):
        values = list(given)
        for instance in layer.instances:
            values = [calls.Given(None, apply(s, instance, values, e), e)]
        return values[0].value
    if s.region.apart:
        layer = layer.measured_as
    assert layer.layer is not None
    s.plan.applied.setdefault(layer.measured_as, tuple(g.value for g in given))
    declaration, module = layer.layer.declaration, layer.layer.module
    nothing = Scope(module, None)
    bound = calls.bind(s, declaration.parameters, given, declaration.name, e, nothing)
    if any(isinstance(g.value, Poison) for g in bound.values()):
        s.plan.misapplied = True
        return POISON
    with calls.followed(s, declaration.name, module, e), s.marked(scope=layer.path):
        entries = cast("dict[str, Entry]", dict(layer.attributes))
        try:
            matched = signatures.match(s, declaration.parameters, bound, declaration.name, entries)
        except Failed:
            s.plan.misapplied = True
            raise
        if id(declaration) in s.broken:
            return POISON
        scope = Scope(module, layer, None, dict(matched.names))
        result = calls.body(s, declaration.body, scope)
        return signatures.check_result(s, declaration.result, result, matched, declaration)


def statement(s: Session, written: ast.Statement, scope: Scope) -> None:
    """Take one statement of a layer's or function's body."""
    match written:
        case ast.Bind():
            scope.names[written.name] = bound_value(s, written, scope)
        case ast.Param() | ast.State() if scope.owner is not None:
            owner = scope.owner
            claim(s, written, scope)
            entry = ParamEntry(written, scope, lambda entry: declare(s, owner, entry))
            scope.names[written.name] = entry
            if s.region.rigid:
                entry.place()
        case ast.Param() | ast.State():
            scope.names[written.name] = POISON
            raise s.report(
                "E0406", f"an `fn` owns nothing, so it cannot keep `{written.name}`", [written],
                help="make it a `layer`",
            )  # fmt: skip
        case ast.Assign():
            places.assign(s, written, scope)
        case _:
            raise s.report(
                "E0601", "this statement does not stand in a body", [written],
                help="a body has `name = ...`, `param`, `state` and `<-`, and ends with its value",
            )  # fmt: skip


def bound_value(s: Session, written: ast.Bind, scope: Scope) -> Any_:
    """Evaluate the right side of `name = e`; a layer value made there takes the name."""
    outer, s.naming = s.naming, (id(written.value), written.name)
    try:
        value = expressions.evaluate(s, written.value, scope)
    finally:
        s.naming = outer
    claim(s, written, scope)
    return expressions.settled(s, value)


def claim(
    s: Session, written: ast.Bind | ast.Param | ast.State | ast.Name | ast.Minimize, scope: Scope
) -> None:
    """Take a name for what is bound here; `=` binds once."""
    name = written.name or ""
    span = written.name_span if isinstance(written, ast.Bind) else written.span
    first = scope.places.setdefault(name, span)
    if first is not span:
        is_place = isinstance(scope.names.get(name), ParamEntry | Place)
        changes = is_place and isinstance(written, ast.Bind)
        raise s.report(
            "E0202", f"`{name}` is bound twice", [span, first],
            help=f"`{name} <- ...` changes it" if changes
            else "a name is bound once: choose another name for the second value",
        )  # fmt: skip


def declare(s: Session, owner: Instance, entry: ParamEntry) -> Place:
    """Make the variable of a `param` or `state`, with its first value."""
    written = entry.statement
    if written.name in owner.places:
        return owner.places[written.name]
    if owner.central is not None:
        declare(s, owner.central, ParamEntry(written, entry.scope, entry.make))
        return owner.places[written.name]
    type = places.declared_type(s, written, entry.scope)
    is_param = isinstance(written, ast.Param)
    where = written.where if isinstance(written, ast.Param) else None
    frozen = isinstance(where, ast.Name) and where.name == "frozen"
    variable = Variable(
        _path(owner, written.name),
        type,
        Role.PARAM if is_param else Role.STATE,
        trained=is_param and not frozen and type.is_float,
        mapped=owner.mapped,
        span=s.user_span(written.span),
    )
    place = places.new(s, variable, written.initial, entry.scope, None if frozen else where)
    _keep(s, owner, written.name, place)
    return place


def _keep(s: Session, owner: Instance, name: str, place: Place) -> None:
    """Let an instance and its replicas own a place."""
    owner.places[name] = place
    for replica in owner.replicas:
        copy = places.copied(s, place, _path(replica, name), replica.mapped)
        _keep(s, replica, name, copy)
