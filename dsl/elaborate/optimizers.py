"""Optimizers: their statements are put into the graph once for every trained parameter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import (
    calls,
    chains,
    declarations,
    expressions,
    gradients,
    layers,
    masters,
    places,
    pushes,
    signatures,
    written_types,
)  # fmt: skip
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.modules import Module, repeated
from fml.dsl.scope import Entry, ParamEntry, Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Cell,
    Master,
    OptimizerChain,
    OptimizerFactory,
    OptimizerValue,
    Place,
    Poison,
    Tensor,
    Tree,
    Unknown,
    describe,
)  # fmt: skip
from fml.engine.ir.graph import Phase
from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import F32, SCALAR, TensorType, tensor
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given


def make(
    s: Session, factory: OptimizerFactory, given: "Sequence[Given]", e: ast.Expression
) -> Any_:
    """Return an optimizer with its arguments."""
    declaration = factory.declaration
    declarations.ensure_checked(s, declaration, factory.module)
    bound = calls.bind(
        s, declaration.parameters, given, declaration.name, e, Scope(factory.module, None)
    )
    attempts = Attempts()
    for parameter in declaration.parameters:
        with attempts:
            if written_types.is_static(parameter.type):
                at = bound[parameter.name]
                signatures.static_argument(s, parameter, at.value, at.at, declaration.name)
            else:
                _require_scalar(s, parameter, bound[parameter.name], declaration.name)
    attempts.settle()
    return OptimizerValue(factory, calls.values_of(bound), e)


def _require_scalar(s: Session, p: ast.Parameter, given: "Given", name: str) -> None:
    """Refuse tensors with axes: an optimizer is checked with numbers and scalars."""
    value = read(s, given.value)
    if isinstance(value, Tensor) and value.type.rank:
        raise s.report(
            "E0320", f"`{name}` takes a number or a scalar for `{p.name}`, found {value.type}",
            [given.at], notes=s.origin_notes(value.value),
        )  # fmt: skip


def chain(
    s: Session, first: Any_, then: OptimizerValue | OptimizerChain, at: ast.Expression
) -> Any_:
    """Compose `a |> b`: a changes the gradients that b is given."""
    if isinstance(first, OptimizerFactory):
        first = make(s, first, [], at)
    if isinstance(first, Poison):
        return POISON
    if not isinstance(first, OptimizerValue | OptimizerChain):
        raise s.report(
            "E0404", f"an optimizer goes behind optimizers only, found {describe(first)}", [at]
        )
    links = first.links if isinstance(first, OptimizerChain) else (first,)
    return OptimizerChain((*links, *(then.links if isinstance(then, OptimizerChain) else (then,))))


def update(
    s: Session, optimizer: OptimizerValue | OptimizerChain, loss: Value, trained: list[Place],
    given: dict[str, Tensor] | None, at: ast.Syntax,
) -> None:  # fmt: skip
    """Apply an optimizer: gradients of `loss`, or those that are given, for each parameter."""
    links = optimizer.links if isinstance(optimizer, OptimizerChain) else (optimizer,)
    chains.require_effects(s, links)
    with s.marked(phase=Phase.UPDATE, span=s.user_span(at.span)):
        found = given or gradients.of_places(s, loss, trained)
        cells = {place.name: Cell(masters.widened(found[place.name])) for place in trained}
        with pushes.push(s, trained):
            for link in links:
                _apply(s, link, loss if given is None else None, trained, cells, at)


def _apply(
    s: Session, link: OptimizerValue, loss: Value | None, trained: list[Place],
    cells: dict[str, Cell], at: ast.Syntax,
) -> None:  # fmt: skip
    declaration, module = link.factory.declaration, link.factory.module
    if id(declaration) in s.broken:
        raise Failed
    names: dict[str, Entry] = {**link.arguments}
    path = s.optimizer_path(declaration.name)
    with calls.followed(s, declaration.name, module, _expression(at)):
        scope = Scope(module, None, None, names)
        for statement in declaration.body:
            # All of them together, as they are before this statement.
            names["params"] = Tree({p.name: masters.widened(s.read(p)) for p in trained})
            names["grads"] = Tree({k: _tensor(s, c, at) for k, c in cells.items()})
            if isinstance(statement, ast.Each):
                _each(s, statement, scope, loss, trained, cells, path)
            elif isinstance(statement, ast.State):
                # What is all parameters' own is the learners' where the parameters are.
                mapped = all(p.variable.mapped for p in trained)
                _slot(s, statement, scope, path, None, mapped)
            else:
                layers.statement(s, statement, scope)


def _expression(at: ast.Syntax) -> ast.Expression:
    return (
        at.optimizer if isinstance(at, ast.Using | ast.Descend) else ast.Boolean(True, span=at.span)
    )


def _tensor(s: Session, cell: Cell, at: ast.Syntax) -> Tensor:
    return as_tensor(s, cell, at)


def _each(
    s: Session, each: ast.Each, scope: Scope, loss: Value | None, trained: list[Place],
    cells: dict[str, Cell], path: str,
) -> None:  # fmt: skip
    """Take the body once per parameter, its own states and names each time."""
    if each.parameter.name == each.gradient.name:
        raise s.report(
            "E0202", f"`{each.gradient.name}` is bound twice", [each.gradient, each.parameter],
            help="a parameter and its gradient have two names: `each w, g`",
        )  # fmt: skip
    attempts = Attempts()
    with attempts:
        if each.at is not None:
            _ahead(s, each, scope, loss, trained, cells, path)
    for place in trained:
        parameter = _parameter(s, each, place, path)
        inner = scope.inner({each.parameter.name: parameter, each.gradient.name: cells[place.name]})
        for statement in each.body:
            with attempts:
                if isinstance(statement, ast.State):
                    _slot(s, statement, inner, path, place)
                else:
                    layers.statement(s, statement, inner)
        attempts.settle()
        value = cells[place.name].value
        if isinstance(value, Poison | Unknown):
            raise Failed


def _parameter(s: Session, each: ast.Each, place: Place, path: str) -> Place | Master:
    """What `w` is in `each w, g`."""
    return masters.master(s, each, place, path) if masters.is_narrow(place.variable.type) else place


def _ahead(
    s: Session, each: ast.Each, scope: Scope, loss: Value | None, trained: list[Place],
    cells: dict[str, Cell], path: str,
) -> None:  # fmt: skip
    """`each w, g at e`: take the gradients anew with every parameter replaced by `e`."""
    assert each.at is not None
    if loss is None:
        raise s.report(
            "E0608", "`at` takes the gradient of a loss, and here a tree is given", [each.at],
            help="use an optimizer without `at` in `descend`",
        )  # fmt: skip
    shifted: dict[str, Value] = {}
    for place in trained:
        inner = scope.inner({each.parameter.name: _parameter(s, each, place, path)})
        for statement in each.body:
            if isinstance(statement, ast.State):
                _slot(s, statement, inner, path, place)
        value = read(s, expressions.evaluate(s, each.at, inner))
        if isinstance(value, Poison):
            raise Failed
        made = masters.narrowed(as_tensor(s, value, each.at), place)
        shifted[place.name] = places.fitted(s, made, place.variable.type, each.at, place.name)
    found = gradients.at_shifted(s, loss, trained, shifted)
    for name, value in found.items():
        cells[name].value = masters.widened(value)


def _slot(
    s: Session, written: ast.State, scope: Scope, path: str, place: Place | None,
    mapped: bool = False,
) -> None:  # fmt: skip
    """A `state` of an optimizer: like the parameter where no type is written, f32 for 16 bits."""
    owner = f"{path}.{place.name}" if place else path
    name = f"{owner}.{written.name}"

    def declare(entry: ParamEntry) -> Place:
        if name in s.plan.slots:
            return s.plan.slots[name]
        if written.type is None and place is not None:
            type = masters.wide(place.variable.type)
        else:
            type = places.declared_type(s, written, scope)
        is_own = place.variable.mapped if place else mapped
        variable = Variable(name, type, Role.SLOT, mapped=is_own, span=s.user_span(written.span))
        s.plan.slots[name] = places.new(s, variable, written.initial, scope)
        return s.plan.slots[name]

    scope.names[written.name] = ParamEntry(written, scope, declare)


# --- on its own ----------------------------------------------------------------------------------


def _rigid(s: Session, parameter: ast.Parameter) -> Any_:
    """An argument that could be a number or a schedule; a boolean chooses and is not known."""
    if written_types.is_static(parameter.type) or isinstance(parameter.default, ast.Boolean):
        return Unknown(parameter.name)
    return Tensor(s.builder.add("argument", SCALAR, (), {"name": parameter.name}))


def check(s: Session, declaration: ast.Optimizer, module: Module) -> None:
    """Check an optimizer with one parameter of a shape that nobody knows."""
    type: TensorType = tensor(F32, "w")
    place = Place(Variable("w", type, Role.PARAM, trained=True, span=declaration.span))
    cell = Cell(Tensor(s.builder.add("argument", type, (), {"name": "g"})))
    arguments: dict[str, Any_] = {p.name: _rigid(s, p) for p in declaration.parameters}
    arguments |= dict.fromkeys(repeated(declaration.parameters), POISON)
    scope = Scope(module, None, None, {**arguments})
    loss = s.builder.add("argument", type.with_shape(()), (), {"name": "loss"})
    scope.names["params"] = Tree({"w": s.read(place)})
    scope.names["grads"] = Tree({"w": _tensor(s, cell, declaration)})
    for statement in declaration.body:
        with Attempts():
            if isinstance(statement, ast.Each):
                _each(s, statement, scope, loss, [place], {"w": cell}, declaration.name)
            elif isinstance(statement, ast.State):
                _slot(s, statement, scope, declaration.name, None)
            else:
                layers.statement(s, statement, scope)
