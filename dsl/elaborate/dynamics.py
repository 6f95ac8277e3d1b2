"""Primitives with a memory, a draw or a copy: what is more than one operation."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import calls, clock, expressions, gradients, layers, masters
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Session
from fml.dsl.scope import Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Instance,
    LayerFactory,
    Master,
    Place,
    PlaceTree,
    Poison,
    Selection,
    Stack,
    Tensor,
    Tree,
    Unknown,
    describe,
)
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Phase
from fml.engine.ir.training import LEARNERS, Role, Variable
from fml.engine.ir.types import BOOL, Element, TensorType, tensor
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

    Arguments = Mapping[str, Given]

MAX_COPIES = 10_000
_KEY = tensor(Element.I64, 3)


# --- earlier values ------------------------------------------------------------------------------


def before(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`before(p)`: the value at the start of the latest step."""
    value = bound["place"].value
    match value:
        case Place():
            return s.at_start(value)
        case Master(place=place):
            return masters.widened(s.at_start(place))
        case PlaceTree(places):
            return Tree({key: s.at_start(place) for key, place in places.items()})
        case Instance():
            return Tree({value.below(place.name): s.at_start(place) for place in value.trained()})
        case Selection(instance):
            return Tree({instance.below(p.name): s.at_start(p) for p in value.places()})
        case _:
            raise s.report(
                "E0407", f"`before` takes a place, found {describe(value)}", [bound["place"].at]
            )


def previous(s: Session, e: ast.Call, scope: Scope) -> Any_:
    """`previous(e)`: what e was when this place was last executed; the first time, e."""
    if len(e.arguments) != 1:
        raise s.report("E0205", "`previous` takes one expression", [e])
    value = read(s, expressions.evaluate(s, e.arguments[0].value, scope))
    remembers = not s.region.read_only or s.region.due is not None or s.region.memory is not None
    if not isinstance(value, Tensor | Tree) or s.region.rigid or not remembers:
        return value
    leaves = value.items if isinstance(value, Tree) else {"": value}
    _require_sizes(s, leaves.values(), e)
    name = f"previous_{s.plan.delays}"
    s.plan.delays += 1
    seen = _delay(s, f"{name}.seen", TensorType(BOOL), s.builder.context.mapped)
    was_seen = s.read(seen).value
    result = {
        key: _delayed(s, f"{name}.{key}" if key else f"{name}.value", leaf, was_seen)
        for key, leaf in leaves.items()
    }
    _remember(s, seen, s.builder.constant(True, TensorType(BOOL)))
    return Tree(result) if isinstance(value, Tree) else result[""]


def _require_sizes(s: Session, values: Iterable[Tensor], e: ast.Call) -> None:
    """What is remembered has its memory before there are any samples."""
    for value in values:
        if not all(axis.size is not None for axis in value.type.shape):
            raise s.report(
                "E0332", f"`previous` remembers values of known sizes, found {value.type}", [e],
                notes=["another batch or split has other samples in these places"],
                help="reduce it first, as in `previous(mean(e))`",
            )  # fmt: skip


def _delayed(s: Session, name: str, value: Tensor, seen: Value) -> Tensor:
    place = _delay(s, name, value.type, value.value.node.mapped)
    result = s.builder.call("select", seen, s.read(place).value, value.value)
    _remember(s, place, value.value)
    return Tensor(result)


def _delay(s: Session, name: str, type: TensorType, mapped: bool) -> Place:
    span = s.builder.span
    place = Place(Variable(name, type, Role.DELAY, mapped=mapped, span=span))
    s.plan.variables[name] = place.variable
    s.plan.places[name] = place
    s.plan.first_values[name] = s.init.builder.constant(0, type)
    return place


def _remember(s: Session, place: Place, value: Value) -> None:
    """Assign to a delay; where nothing is assigned, leave it to those who run the graph."""
    if s.region.memory is not None:
        s.region.memory[place.name] = value
        return
    old, due, guard = s.read(place).value, s.region.due, s.builder.context.guard
    if due is not None:
        guard = s.region.once(f"due {due!r}", lambda: clock.fires(s, due)).id
    with s.marked(phase=Phase.UPDATE, guard=guard):
        made = s.builder.add("assign", old.type, (old, value), {"name": place.name})
    s.region.current[place.name] = made


# --- randomness ----------------------------------------------------------------------------------


def uniform(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`uniform(x, low, high)`: draws in the shape of x, the same for the same place and step."""
    like = as_tensor(s, bound["like"].value, bound["like"].at)
    # In the one-line form, the first learner draws what the plan without learners would.
    scope = s.builder.context.scope.removeprefix("learners.")
    number = s.region.draws.get(scope, 0)
    s.region.draws[scope] = number + 1
    is_own = s.builder.context.mapped
    key = s.region.once(
        f"random_key {is_own}", lambda: s.builder.add("random_key", _KEY), mapped=is_own
    )
    wanted = like.type.element
    element = wanted if isinstance(wanted, Element) and wanted.is_float else Element.F32
    value = s.builder.call(
        "random_uniform", key, path=f"{scope}#{number}", shape=like.type.shape, element=element
    )
    low = bound["low"].value if "low" in bound else 0
    high = bound["high"].value if "high" in bound else 1
    if isinstance(low, Unknown) or isinstance(high, Unknown):
        return Tensor(value)
    if (low, high) == (0, 1):
        return Tensor(value)
    start = as_tensor(s, low, e, element)
    width = s.op("subtract", (as_tensor(s, high, e, element).value, start.value), (e, e))
    scaled = s.op("multiply", (value, width.value), (e, e))
    return s.op("add", (scaled.value, start.value), (e, e))


# --- gradients, copies ---------------------------------------------------------------------------


def grad(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`grad(e, w)`."""
    if isinstance(read(s, bound["w"].value), Poison):
        return POISON
    return gradients.grad(s, bound["e"].value, bound["w"].value, (bound["e"].at, bound["w"].at))


def replica(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`replica(z)`: a copy with its own parameters, starting from z's."""
    value = bound["of"].value
    if not isinstance(value, Instance):
        s.plan.misapplied = True
        raise s.report(
            "E0407", f"`replica` copies a layer value, found {describe(value)}", [bound["of"].at],
            help="bind a model to a name before the block, `z = net()`, and write `replica(z)`",
        )  # fmt: skip
    key = ("replica", id(e))
    root = s.plan.root
    if key not in root.children:
        name = s.naming[1] if s.naming and s.naming[0] == id(e) else "replica"
        if name == value.path:  # the one-line form: both are called as the plan calls the model
            name = f"learners.{name}"
        is_own = s.builder.context.mapped or value.mapped
        span = s.user_span(e.span)
        made = Instance(value.layer, value.attributes, root, name, span, value, mapped=is_own)
        root.children[key] = made
        layers.replicate(s, value, made)
    return root.children[key]


def repeat(s: Session, e: ast.Call, scope: Scope) -> Any_:
    """`repeat(n, layer)`: n fresh copies, one behind the other."""
    if len(e.arguments) != 2:
        raise s.report("E0205", "`repeat` takes a number and a layer", [e])
    first, second = (argument.value for argument in e.arguments)
    count = expressions.evaluate_static(s, first, scope, "a number of copies")
    if isinstance(count, Instance | Stack | LayerFactory):
        raise s.report(
            "E0401", f"`repeat` takes the number of copies first, found {describe(count)}", [first],
            help=f"write `repeat({second.span.text}, {first.span.text})`",
        )  # fmt: skip
    if isinstance(count, Unknown | Dim):
        return POISON
    if (
        isinstance(count, bool)
        or not isinstance(count, int | float)
        or count != int(count)
        or not 0 <= count <= MAX_COPIES
    ):
        raise s.report(
            "E0401", f"a whole number of copies is needed, found {describe(count)}",
            [e.arguments[0].value], help=f"at most {MAX_COPIES} copies can be made",
        )  # fmt: skip
    written = e.arguments[1].value
    callee = written.function if isinstance(written, ast.Call) else written
    factory = expressions.evaluate(s, callee, scope)
    if isinstance(factory, Poison):
        return POISON
    if not isinstance(factory, LayerFactory):
        raise s.report(
            "E0401",
            f"`repeat` copies a layer, found {describe(factory)}",
            [written],
            help="write the layer with its attributes: `repeat(3, dense(64))`",
        )
    arguments = written.arguments if isinstance(written, ast.Call) else ()
    given = calls.evaluate_arguments(s, arguments, scope)
    if any(isinstance(g.value, Poison) for g in given):
        return POISON
    return Stack(tuple(layers.make(s, factory, given, e, scope, n) for n in range(int(count))))


def not_here(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """A primitive that must be written as a call of its own."""
    raise s.report(
        "E0204",
        f"`{p.name}` cannot be piped into",
        [e],
        help=f"write `{p.name}({', '.join(p.parameters)})`",
    )


# --- learners ------------------------------------------------------------------------------------


def learners_size(s: Session) -> Tensor:
    """`size(learners)`: a scalar of the graph."""
    return Tensor(s.builder.call("dim_value", dim=LEARNERS, element=Element.F64))
