"""The `state` of a plan or a strategy: one value, or one for every parameter of a layer value."""

from fml.dsl import ast
from fml.dsl.elaborate import expressions, layers, places
from fml.dsl.elaborate.arithmetic import no_parameters, read
from fml.dsl.elaborate.region import Region
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.scope import ParamEntry, Scope
from fml.dsl.values import (
    Place,
    PlaceTree,
    Poison,
    Tensor,
    Tree,
    describe,
)
from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import TensorType


def declare(s: Session, written: ast.State, scope: Scope, step: Region) -> None:
    """Take `state v: f32 ~ zeros`, or `state v: z ~ zeros`, one for each parameter of z."""
    layers.claim(s, written, scope)
    mapped = s.builder.context.mapped
    path = _free(s, scope.path_of(written.name))
    form = _form(written, scope)

    def make(entry: ParamEntry) -> Place | PlaceTree:
        if form is not None:
            return _like(s, _leaves(s, form, scope, step), path, mapped, written, scope)
        type = places.declared_type(s, written, scope)
        return _new(s, path, type, mapped, written, scope)

    scope.names[written.name] = ParamEntry(written, scope, make)


def _free(s: Session, path: str) -> str:
    """A path that no variable has yet, nor anything below it: two blocks may have a `v` each."""
    taken, wanted, number = s.plan.states, path, 0
    while wanted in taken:
        number += 1
        wanted = f"{path}_{number}"
    taken.add(wanted)
    return wanted


def _form(written: ast.State, scope: Scope) -> ast.Expression | None:
    """What stands for a type and is none: the name or path of what the state is like."""
    if not isinstance(written.type, ast.Type):
        return written.type
    if written.type.axes is not None or scope.find(written.type.name) is None:
        return None
    return ast.Name(written.type.name, span=written.type.span)


def _leaves(s: Session, form: ast.Expression, scope: Scope, step: Region) -> dict[str, Tensor]:
    with s.within(step):
        value = expressions.evaluate(s, form, scope)
        found = read(s, value)
    if isinstance(found, Poison):
        raise Failed
    if isinstance(found, Tensor):
        return {"": found}
    if not isinstance(found, Tree):
        raise s.report(
            "E0326", f"a state is like a layer value or a tensor, not like {describe(value)}",
            [form],
            help="`state v: f32[3] ~ zeros`, or `state v: net ~ zeros`",
        )  # fmt: skip
    if not found.items:
        raise no_parameters(s, form)
    return dict(found.items)


def _like(
    s: Session, leaves: dict[str, Tensor], path: str, mapped: bool, written: ast.State, scope: Scope
) -> Place | PlaceTree:
    made = {
        key: _new(
            s, f"{path}.{key}" if key else path, leaf.type,
            mapped or leaf.value.node.mapped, written, scope,
        )
        for key, leaf in leaves.items()
    }  # fmt: skip
    return made[""] if "" in made else PlaceTree(made)


def _new(
    s: Session, path: str, type: TensorType, mapped: bool, written: ast.State, scope: Scope
) -> Place:
    variable = Variable(path, type, Role.STATE, mapped=mapped, span=s.user_span(written.span))
    return places.new(s, variable, written.initial, scope)


def member(tree: PlaceTree, name: str) -> Place | PlaceTree | None:
    """What is below a name of a tree: `v.dense.W`; None where nothing is."""
    if name in tree.places:
        return tree.places[name]
    below = {k.partition(".")[2]: p for k, p in tree.places.items() if k.startswith(f"{name}.")}
    return PlaceTree(below) if below else None
