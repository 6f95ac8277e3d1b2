"""Primitives with a memory, a draw, a copy or a window: what is more than one operation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate import calls, expressions, gradients, layers
from fml.dsl.elaborate.arithmetic import as_tensor, read, to_dim
from fml.dsl.elaborate.session import Session
from fml.dsl.scope import Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Instance,
    LayerFactory,
    Place,
    Poison,
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
        case Instance():
            return Tree({value.below(place.name): s.at_start(place) for place in value.trained()})
        case _:
            raise s.report(
                "E0407", f"`before` takes a place, found {describe(value)}", [bound["place"].at]
            )


def previous(s: Session, e: ast.Call, scope: Scope) -> Any_:
    """`previous(e)`: what e was when this place was last executed; the first time, e."""
    if len(e.arguments) != 1:
        raise s.report("E0205", "`previous` takes one expression", [e])
    value = read(s, expressions.evaluate(s, e.arguments[0].value, scope))
    if isinstance(value, Poison | Unknown) or s.region.read_only or s.region.rigid:
        return value
    if not isinstance(value, Tensor | Tree):
        return value
    name = f"previous_{s.plan.delays}"
    s.plan.delays += 1
    seen = _delay(s, f"{name}.seen", TensorType(BOOL), False)
    was_seen = s.read(seen).value
    leaves = value.items if isinstance(value, Tree) else {"": value}
    result = {
        key: _delayed(s, f"{name}.{key}" if key else f"{name}.value", leaf, was_seen)
        for key, leaf in leaves.items()
    }
    _remember(s, seen, s.builder.constant(True, TensorType(BOOL)))
    return Tree(result) if isinstance(value, Tree) else result[""]


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
    old = s.read(place).value
    with s.marked(phase=Phase.UPDATE):
        made = s.builder.add("assign", old.type, (old, value), {"name": place.name})
    s.region.current[place.name] = made


# --- randomness ----------------------------------------------------------------------------------


def uniform(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`uniform(x, low, high)`: draws in the shape of x, the same for the same place and step."""
    like = as_tensor(s, bound["like"].value, bound["like"].at)
    scope = s.builder.context.scope
    number = s.region.draws.get(scope, 0)
    s.region.draws[scope] = number + 1
    key = s.region.once("random_key", lambda: s.builder.add("random_key", _KEY))
    wanted = like.type.element
    element = wanted if isinstance(wanted, Element) and wanted.is_float else Element.F32
    value = s.builder.call(
        "random_uniform", key, path=f"{scope}#{number}", shape=like.type.dims, element=element
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
        raise s.report(
            "E0407", f"`replica` copies a layer value, found {describe(value)}", [bound["of"].at]
        )
    key = ("replica", id(e))
    root = s.plan.root
    if key not in root.children:
        name = s.naming[1] if s.naming and s.naming[0] == id(e) else "replica"
        if name == value.path:  # the one-line form: both are called as the plan calls the model
            name = f"learners.{name}"
        root.children[key] = Instance(
            value.layer,
            value.attributes,
            root,
            name,
            s.user_span(e.span),
            value,
            mapped=s.builder.context.mapped,
        )
    return root.children[key]


def repeat(s: Session, e: ast.Call, scope: Scope) -> Any_:
    """`repeat(n, layer)`: n fresh copies, one behind the other."""
    if len(e.arguments) != 2:
        raise s.report("E0205", "`repeat` takes a number and a layer", [e])
    count = expressions.evaluate_static(s, e.arguments[0].value, scope, "a number of copies")
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


# --- windows of images ---------------------------------------------------------------------------


def conv2d(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`conv2d(x, w, stride, pad, dilation, groups)`, all of one size for both axes."""
    x = as_tensor(s, bound["x"].value, bound["x"].at)
    w = as_tensor(s, bound["w"].value, bound["w"].at)
    numbers = [bound[n].value for n in ("stride", "dilation", "groups")]
    pad = bound["pad"].value
    for name, value in zip(("stride", "dilation", "groups"), numbers, strict=True):
        is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not is_number and not isinstance(value, Unknown | Dim):
            raise s.report(
                "E0401", f"`{name}` is a whole number of at least 1, found {describe(value)}",
                [bound[name].at],
            )  # fmt: skip
    sizes = [*x.type.dims[1:3], *w.type.dims[:2]]
    if (
        x.type.rank == 4
        and w.type.rank == 4
        and (
            any(not isinstance(v, int) for v in numbers)
            or any(d.size is None for d in sizes)
            or isinstance(pad, Unknown | Dim)
        )
    ):
        return _unknown_conv(s, x, w, numbers, pad, e)
    stride, dilation, groups = cast("list[int]", numbers)
    ends = _padding(s, x, w, stride, pad, dilation, bound)
    return s.op(
        "conv",
        (x.value, w.value),
        (bound["x"].at, bound["w"].at),
        stride=(stride, stride),
        padding=ends,
        dilation=(dilation, dilation),
        groups=groups,
    )


def _padding(
    s: Session, x: Tensor, w: Tensor, stride: int, pad: Any_, dilation: int, bound: "Arguments"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and behind each axis; `same` gives ceil(H / stride), the odd one behind."""
    if isinstance(pad, int) and not isinstance(pad, bool) and pad >= 0:
        return ((pad, pad), (pad, pad))
    if pad == "valid" or x.type.rank != 4 or w.type.rank != 4:
        return ((0, 0), (0, 0))
    if pad != "same":
        raise s.report("E0401", "`pad` is `same`, `valid` or a whole number", [bound["pad"].at])
    ends: list[tuple[int, int]] = []
    for size, k in zip(x.type.dims[1:3], w.type.dims[:2], strict=True):
        reach = dilation * (cast(int, k.size) - 1) + 1
        length = cast(int, size.size)
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        ends.append((total // 2, total - total // 2))
    return (ends[0], ends[1])


def _unknown_conv(
    s: Session, x: Tensor, w: Tensor, numbers: list[Any_], pad: Any_, e: ast.Expression
) -> Any_:
    """The shape of a convolution whose sizes are names: `same` promises ceil(H / stride)."""
    stride = to_dim(s, numbers[0], e)
    if pad != "same" or isinstance(stride, Poison):
        return POISON
    _, height, width, _ = x.type.dims
    axes = [x.type.dims[0], (height / stride).ceil(), (width / stride).ceil(), w.type.dims[3]]
    type = TensorType(x.type.element, tuple(axes))
    return Tensor(s.builder.add("argument", type, (), {"name": "conv"}))


def windows(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`windows(x, size, stride)`: [N, H, W, C] to [N, H', W', size, size, C]."""
    x = as_tensor(s, bound["x"].value, bound["x"].at)
    size, stride = bound["size"].value, bound["stride"].value
    if isinstance(size, Unknown | Dim) or isinstance(stride, Unknown | Dim):
        return POISON
    if not isinstance(size, int) or not isinstance(stride, int) or size < 1 or stride < 1:
        raise s.report("E0401", "windows have a whole size and stride of at least 1", [e])
    return s.op("windows", (x.value,), (bound["x"].at,), size=(size, size), stride=(stride, stride))
