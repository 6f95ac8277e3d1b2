"""Places: what `<-` changes. Variables are made here, read through the session, and assigned."""

from dataclasses import replace

from fml.dsl import ast
from fml.dsl.elaborate import calls, clock, expressions, masters, pushes, written_types
from fml.dsl.elaborate.arithmetic import as_tensor, no_parameters, parameters, read
from fml.dsl.elaborate.region import Origin
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.scope import Scope, declared
from fml.dsl.values import (
    POISON,
    Any_,
    Cell,
    Closure,
    Instance,
    Master,
    Place,
    PlaceTree,
    Poison,
    Selection,
    Tensor,
    Tree,
    describe,
)
from fml.engine.ir.diagnostics import Mark
from fml.engine.ir.graph import Phase
from fml.engine.ir.training import Variable
from fml.engine.ir.types import F32, Element, TensorType
from fml.engine.ops.build import Value


def declared_type(s: Session, written: ast.Param | ast.State, scope: Scope) -> TensorType:
    """Evaluate the type of a `param` or `state`; no dimension of the batch may be in it.

    Where it has a fault, those of the first value and of the constraint are reported, too.
    """
    try:
        return _type(s, written, scope)
    except Failed:
        where = written.where if isinstance(written, ast.Param) else None
        for e in (written.initial, *([where] if where else [])):
            if not (e is where and declared(e) == "frozen"):
                calls.pipe_into(s, POISON, e, e, scope)
        raise


def _type(s: Session, written: ast.Param | ast.State, scope: Scope) -> TensorType:
    if not isinstance(written.type, ast.Type):
        raise s.report(
            "E0326",
            f"`{written.name}` needs a type here",
            [written],
            help=f"`state {written.name}: f32 ~ zeros`",
        )
    dots = [axis for axis in written.type.axes or () if isinstance(axis, ast.Dots)]
    if dots:
        raise s.report(
            "E0325", "`...` stands for axes in a signature only", [dots[0]],
            help="give the axes of the argument names, and write them here",
        )  # fmt: skip
    type = written_types.written_type(s, written.type, written_types.Matched(scope))
    if type is None:
        raise Failed
    if not s.region.rigid and type.names():
        raise s.report(
            "E0325",
            f"the shape of `{written.name}` depends on the size of a batch",
            [written.type],
            notes=[f"{type} has no definite size"],
            help="a sample that is one number has no axis of features: declare the field "
            "`f32[1]`, or give it one with `expand(x)`",
        )
    return type


def new(
    s: Session,
    variable: Variable,
    initial: ast.Expression,
    scope: Scope,
    where: ast.Expression | None = None,
) -> Place:
    """Make a variable with its first value: `~ f(a)` is `place |> f(a)`."""
    place = Place(variable, Closure(where, scope) if where else None)
    if s.region.rigid or variable.name not in s.plan.variables:
        s.plan.variables[variable.name] = variable
        s.plan.places[variable.name] = place
        with s.within(s.init):
            s.plan.first_values[variable.name] = _first_value(s, place, initial, scope)
    return place


def copied(s: Session, place: Place, name: str, mapped: bool) -> Place:
    """Make a replica's variable, which begins as that of its model does."""
    of = place.variable
    variable = replace(of, name=name, mapped=mapped, replica_of=of.replica_of or of.name)
    copy = Place(variable, place.constraint)
    s.plan.variables[name], s.plan.places[name] = variable, copy
    if not mapped:
        s.plan.first_values[name] = s.plan.first_values[of.name]
    return copy


def _first_value(s: Session, place: Place, initial: ast.Expression, scope: Scope) -> Value:
    variable = place.variable
    with s.marked(scope=variable.name, span=variable.span, phase=Phase.DATA):
        like = Tensor(s.builder.constant(0, variable.type))
        value = calls.pipe_into(s, like, initial, initial, scope)
        if isinstance(value, Poison):
            raise Failed
        value = as_tensor(s, value, initial, variable.type.element)
        value = constrained(s, place, value)
        return fitted(s, value, variable.type, initial, variable.name)


def constrained(s: Session, place: Place, value: Tensor) -> Tensor:
    """Pipe a value that is to be stored through the constraint of its place."""
    if place.constraint is None:
        return value
    written, scope = place.constraint.expression, place.constraint.scope
    result = calls.pipe_into(s, value, written, written, scope)
    if isinstance(result, Poison):
        raise Failed
    return as_tensor(s, result, written, value.type.element)


def fitted(s: Session, value: Tensor, type: TensorType, at: ast.Syntax, name: str) -> Value:
    """Return a value in the type of the place that stores it; a scalar fills the place."""
    if value.type == type:
        return value.value
    if value.type.element == type.element and value.type.rank == 0:
        return s.op("broadcast", (value.value,), (at,), shape=type.shape).value
    raise s.report(
        "E0323",
        f"`{name}` is {type} and cannot store {value.type}",
        [Mark(at.span, s.type_text(value.value))],
        notes=s.origin_notes(value.value),
    )


# --- assignment ----------------------------------------------------------------------------------


def assign(s: Session, written: ast.Assign, scope: Scope) -> None:
    """Take `place <- e`."""
    with s.marked(phase=Phase.UPDATE, span=s.user_span(written.span)):
        target = expressions.evaluate(s, written.place, scope)
        with pushes.push(s, _targets(s, target, written)):
            value = read(s, expressions.evaluate(s, written.value, scope))
            if isinstance(target, Poison) or isinstance(value, Poison):
                raise Failed
            store(s, target, value, written)


def _targets(s: Session, target: Any_, written: ast.Assign) -> list[Place]:
    """The variables that a target stands for."""
    match target:
        case Place():
            return [target]
        case Master(place=place):
            return [place]
        case PlaceTree() | Instance() | Selection():
            return [place for _, place in _leaves(s, target, written)]
        case _:
            return []


def store(s: Session, target: Any_, value: Any_, written: ast.Assign) -> None:
    """Store a value in a place, a cell, or leaf by leaf in an instance."""
    match target:
        case Place():
            store_in(
                s,
                target,
                as_tensor(s, value, written.value, target.variable.type.element),
                written.value,
            )
        case Master():
            masters.store(s, target, as_tensor(s, value, written.value, F32), written.value)
        case Cell():
            target.value = value
        case PlaceTree() | Instance() | Selection() | Tree():
            leaves = list(_leaves(s, target, written))
            tree = _tree_for(s, [key for key, _ in leaves], value, written)
            for key, place in leaves:
                leaf = as_tensor(s, tree[key], written.value, place.variable.type.element)
                store_in(s, place, leaf, written.value)
        case _:
            raise s.report(
                "E0407",
                f"`<-` changes a `param`, a `state` or a layer value, not {describe(target)}",
                [written.place],
                help="`=` binds a new name",
            )


def _leaves(
    s: Session, target: PlaceTree | Instance | Selection | Tree, written: ast.Assign
) -> list[tuple[str, Place]]:
    if isinstance(target, PlaceTree):
        return list(target.places.items())
    if isinstance(target, Tree):
        raise s.report(
            "E0407",
            "`<-` changes places, and these are values",
            [written.place],
            help="assign to the layer value or to one of its parameters",
        )
    whole = target.instance if isinstance(target, Selection) else target
    if s.region.apart:
        whole = whole.measured_as
    places = target.of(whole) if isinstance(target, Selection) else whole.trained()
    leaves = [(whole.below(place.name), place) for place in places]
    if not leaves:
        raise no_parameters(s, written.place)
    return leaves


def _tree_for(s: Session, keys: list[str], value: Any_, written: ast.Assign) -> dict[str, Tensor]:
    if isinstance(value, Instance):
        value = parameters(s, value)
    if not isinstance(value, Tree):
        single = as_tensor(s, value, written.value, Element.F64 if clock.is_weak(value) else None)
        return dict.fromkeys(keys, single)
    if not value.items:
        raise no_parameters(s, written.value)
    if set(keys) != set(value.items):
        odd = sorted(set(keys) ^ value.items.keys())
        raise s.report(
            "E0327",
            "these two are trees of different parameters",
            [written.place, written.value],
            notes=[f"only one of them has {', '.join(f'`{k}`' for k in odd[:5])}"],
        )
    return dict(value.items)


def store_in(s: Session, place: Place, value: Tensor, at: ast.Syntax) -> None:
    """Add the assignment of one variable; nothing is assigned where nothing is trained."""
    region = s.region
    if region.read_only:
        return
    variable = place.variable
    new_value = fitted(s, constrained(s, place, value), variable.type, at, variable.name)
    if region.push is not None:
        region.push.assigned.add(place.name)
    elif not variable.mapped:
        _require_one(s, place, new_value, at)
    old = s.read(place).value
    scope = variable.name.rpartition(".")[0]
    with s.builder.under(replace(s.builder.context, scope=scope, phase=Phase.UPDATE)):
        made = s.builder.add("assign", variable.type, (old, new_value), {"name": variable.name})
    if variable.span:
        region.origins[made.id] = Origin(variable, variable.span)
    region.current[place.name] = made
    region.versions.setdefault(place.name, []).append(made.id)


def _require_one(s: Session, place: Place, value: Value, at: ast.Syntax) -> None:
    """Refuse what each learner has of its own for a place that all share (E0606)."""
    guard = s.builder.context.guard
    if guard is not None and s.builder.value(guard).node.mapped:
        raise s.report(
            "E0606", f"there is one `{place.name}` for all learners, each with its own condition",
            [at], help="reduce the condition: `max(..., over = learners)`",
        )  # fmt: skip
    if value.node.mapped:
        way = "reduce it: `mean(..., over = learners)`"
        if (name := s.strategy()) is not None:  # most often `use sma(z, learners.w)`
            model = place.name.partition(".")[0]
            way += f"; or give `{name}`, for `{model}`, what each has: `learners.w`"
        raise s.report(
            "E0606", f"there is one `{place.name}` for all learners, and each has its own value",
            [at], help=way,
        )  # fmt: skip
