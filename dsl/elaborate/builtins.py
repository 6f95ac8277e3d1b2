"""The primitives of the language by name: what `std`, written in `.fml`, is built upon.

Most are one operation of the graph; the rest say how arguments become operations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import (
    clock,
    datasets,
    dynamics,
    einsum,
    folding,
    reductions,
    shapes,
    statics,
    windows,
)
from fml.dsl.elaborate.arithmetic import as_tensor, read, to_dim
from fml.dsl.elaborate.session import Attempts, Session
from fml.dsl.scope import Scope
from fml.dsl.values import (
    POISON,
    STATIC,
    Any_,
    LearnersValue,
    Poison,
    Tensor,
    Tree,
    Unknown,
    describe,
)
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.types import Element, Label, TensorType

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given

Arguments = Mapping[str, "Given"]


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive: its parameters (`?` may be left out) and what it makes."""

    name: str
    parameters: tuple[str, ...]
    make: Callable[[Session, "Primitive", Arguments, ast.Expression], Any_]
    op: str = ""

    def apply(self, s: Session, given: "Sequence[Given]", e: ast.Expression) -> Any_:
        """Bind the arguments and make the value."""
        bound = _bind(s, self, given, e)
        if any(isinstance(g.value, Poison) for g in bound.values()):
            s.plan.misapplied = True  # what it would have made is applied nowhere
            return POISON
        return self.make(s, self, bound, e)


def _bind(
    s: Session, primitive: Primitive, given: "Sequence[Given]", e: ast.Expression
) -> dict[str, "Given"]:
    _require_list(s, primitive, given)
    takes = f"`{primitive.name}({', '.join(primitive.parameters)})`"
    names = _names(primitive.parameters)
    free = list(names)
    bound: dict[str, Given] = {}
    attempts = Attempts()
    for argument in given:
        key = argument.name or (free[0] if free else None)
        with attempts:
            if key is None or key not in names or key in bound:
                raise s.report(
                    "E0205",
                    f"`{primitive.name}` does not take this argument",
                    [argument.whole],
                    notes=[f"it is {takes}"],
                    help=_other_argument(argument, free),
                )
            bound[key] = argument
            free.remove(key)
        if key is None:
            break  # one argument too many says it for all of them
    attempts.settle()
    missing = [p for p in free if p in primitive.parameters]
    if missing:
        raise s.report(
            "E0205", f"`{primitive.name}` needs `{missing[0]}`", [e],
            notes=[f"it is {takes}"],
        )  # fmt: skip
    return bound


@cache
def _names(parameters: tuple[str, ...]) -> tuple[str, ...]:
    """The names of parameters, whether or not they may be left out."""
    return tuple(parameter.rstrip("?") for parameter in parameters)


# Arguments of other languages: how they are called here.
_ARGUMENTS = {
    **dict.fromkeys(("axis", "axes", "dim", "dims"), "over"),
    **dict.fromkeys(("keepdim", "keepdims"), "keep"),
}


def _other_argument(argument: "Given", free: Sequence[str]) -> str:
    """How an argument that is not known is called here."""
    if argument.name is None:
        return ""
    here = _ARGUMENTS.get(argument.name)
    if here in free:
        return f"write `{here} = {argument.at.span.text}`"
    return did_you_mean(argument.name, free)


def _require_list(s: Session, primitive: Primitive, given: "Sequence[Given]") -> None:
    """Refuse `concat(x, y)`: the second would be taken for the axis."""
    tensors = [g for g in given if g.name is None and isinstance(read(s, g.value), Tensor)]
    if primitive.parameters[0] == "items" and len(tensors) > 1:
        listed = ", ".join(g.at.span.text for g in tensors)
        raise s.report(
            "E0205", f"`{primitive.name}` takes its tensors in one list", [g.at for g in tensors],
            help=f"write `[{listed}]`",
        )  # fmt: skip


def _optional(bound: Arguments, name: str) -> Any_ | None:
    return bound[name].value if name in bound else None


# --- elementwise ---------------------------------------------------------------------------------


def _elementwise(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    given = [bound[name] for name in p.parameters]
    values = [read(s, g.value) for g in given]
    return _map(s, p, values, [g.at for g in given], e)


def _map(
    s: Session, p: Primitive, values: list[Any_], at: list[ast.Expression], e: ast.Expression
) -> Any_:
    """Fold static values, go through trees leaf by leaf, else add the operation."""
    if any(isinstance(v, Poison) for v in values):
        return POISON
    tree = next((v for v in values if isinstance(v, Tree)), None)
    if tree is not None:
        leaves: dict[str, Tensor] = {}
        for key in tree.items:
            parts: list[Any_] = [
                v.items.get(key, POISON) if isinstance(v, Tree) else v for v in values
            ]
            leaf = _map(s, p, parts, at, e)
            if not isinstance(leaf, Tensor):
                return POISON
            leaves[key] = leaf
        return Tree(leaves)
    if all(isinstance(v, STATIC) and not isinstance(v, tuple) for v in values):
        return folding.fold_call(s, p.name, values, e)
    if any(isinstance(v, Unknown) for v in values):
        return POISON
    beside = clock.common_element(values)
    tensors = [as_tensor(s, v, a, beside) for v, a in zip(values, at, strict=True)]
    return s.op(p.op, tuple(t.value for t in tensors), tuple(at))


def _where(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    condition = as_tensor(s, bound["condition"].value, bound["condition"].at)
    a, b = read(s, bound["a"].value), read(s, bound["b"].value)
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return POISON
    element = clock.chosen_element(condition.value, a, b)
    left = as_tensor(s, a, bound["a"].at, element)
    right = as_tensor(s, b, bound["b"].at, element)
    at = (bound["condition"].at, bound["a"].at, bound["b"].at)
    return s.op("select", (condition.value, left.value, right.value), at)


# --- reductions ----------------------------------------------------------------------------------


def _reduce(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    keep = _optional(bound, "keep")
    if not isinstance(keep, bool | Unknown | Poison | None):
        raise s.report(
            "E0401", f"`keep` is true or false, found {describe(keep)}", [bound["keep"].whole],
            help="`keep = true` leaves a reduced axis in place, of size 1",
        )  # fmt: skip
    if isinstance(keep, Unknown | Poison):
        return POISON  # the shape of the result hangs on it
    return reductions.reduce(s, p.op, bound["x"].value, _optional(bound, "over"), bool(keep), e)


def _extreme(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    """`max(a, b)` is elementwise, `max(a, over = i)` reduces."""
    if "b" not in bound:
        return _reduce(s, p, {**bound, "x": bound["a"]}, e)
    op = "maximum" if p.name == "max" else "minimum"
    both = Primitive(p.name, ("a", "b"), _elementwise, op)
    return _elementwise(s, both, bound, e)


def _arg(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    tensor = as_tensor(s, bound["x"].value, bound["x"].at)
    axis = reductions.axis_of(s, tensor, _optional(bound, "over"), e)
    return s.op(p.op, (tensor.value,), (bound["x"].at,), axis=axis)


# --- elements ------------------------------------------------------------------------------------


def _cast(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    element = bound["to"].value
    if isinstance(element, Unknown):
        return POISON
    if not isinstance(element, Element):
        raise s.report(
            "E0326", "`cast` takes an element type", [bound["to"].at], help="`cast(x, f32)`"
        )
    # A number is what was written, to the last digit that the element can hold.
    written = element if element.is_float and clock.is_weak(read(s, bound["x"].value)) else None
    tensor = as_tensor(s, bound["x"].value, bound["x"].at, written)
    if tensor.type.element == element:
        return tensor
    return s.op("cast", (tensor.value,), (bound["x"].at,), element=element)


def _one_hot(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    tensor = as_tensor(s, bound["y"].value, bound["y"].at)
    return s.op("one_hot", (tensor.value,), (bound["y"].at,), element=Element.F32)


def _two_classes(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    """`two_classes(y, element)`: labels of two classes as 0 and 1, numbers as they are."""
    tensor = as_tensor(s, bound["y"].value, bound["y"].at)
    found = tensor.type.element
    if isinstance(found, Label) and not s.region.rigid and found.classes.size != 2:
        raise s.report(
            "E0303", f"labels of two classes are needed here, found {found}", [bound["y"].at],
            notes=s.origin_notes(tensor.value),
            help=f"`cross_entropy(logits, y)` and `accuracy(logits, y)` take {found} and logits "
            f"f32[N, {found.classes}]",
        )  # fmt: skip
    return _cast(s, p, {"x": bound["y"], "to": bound["to"]}, e)


def _iota(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    size = to_dim(s, bound["n"].value, bound["n"].at)
    if isinstance(size, Poison):
        return POISON
    return s.op("iota", (), (e,), size=size, element=Element.I32)


def _like(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    """`zeros(w)`, `constant(w, 3)`: in the shape of `w`."""
    like = as_tensor(s, bound["like"].value, bound["like"].at)
    value = bound["value"].value if "value" in bound else float(p.name == "ones")
    if not isinstance(value, int | float):
        raise s.report("E0401", f"`{p.name}` takes a number", [e])
    if p.name == "zeros":
        value = 0.0
    element = like.type.element if isinstance(like.type.element, Element) else Element.F32
    return Tensor(s.builder.constant(value, TensorType(element, like.type.shape)))


def _fan(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    """Inputs and outputs of a unit: the last axis counts units, those before it what they see."""
    dims = as_tensor(s, bound["w"].value, bound["w"].at).type.shape
    window = prod(dims[:-2], start=Dim.of(1))
    sizes = {
        "fan_in": dims[-2] if len(dims) > 1 else prod(dims, start=Dim.of(1)),
        "fan_out": dims[-1] if dims else Dim.of(1),
    }
    return statics.simplest(sizes[p.name] * window)


def _learners_size(s: Session, p: Primitive, bound: Arguments, e: ast.Expression) -> Any_:
    value = bound["x"].value
    if isinstance(value, LearnersValue):
        return dynamics.learners_size(s)
    if isinstance(value, Dim | int | float):
        return value
    tensor = as_tensor(s, value, bound["x"].at)
    return statics.simplest(prod(tensor.type.shape, start=Dim.of(1)))


_UNARY = (
    "abs", "sign", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "sin", "cos", "tanh", "floor",
    "ceil", "round", "erf", "sigmoid", "softplus", "stop_gradient",
)  # fmt: skip
_SLIDING = ("x", "w", "stride", "pad", "dilation", "groups")


def _families() -> Iterator[Primitive]:
    """Those that are called alike."""
    reduced = {"sum": "sum", "mean": "mean", "prod": "product", "any": "any", "all": "all"}
    for name in _UNARY:
        yield Primitive(name, ("x",), _elementwise, name)
    for name, op in reduced.items():
        yield Primitive(name, ("x", "over?", "keep?"), _reduce, op)
    for name in ("max", "min"):
        yield Primitive(name, ("a", "b?", "over?", "keep?"), _extreme, name)
    for name in ("argmax", "argmin", "cumsum"):
        yield Primitive(name, ("x", "over?"), _arg, name)
    for name in ("max_pool", "window_sum"):
        yield Primitive(name, ("x", "size", "stride?", "pad?"), windows.pool, name)
    for name in ("zeros", "ones"):
        yield Primitive(name, ("like",), _like)
    for name in ("fan_in", "fan_out"):
        yield Primitive(name, ("w",), _fan)


BUILTINS: Mapping[str, Primitive] = {
    p.name: p
    for p in (
        *_families(),
        Primitive("conv2d", _SLIDING, windows.conv2d),
        Primitive("conv2d_transpose", _SLIDING, windows.conv2d_transpose),
        Primitive("mod", ("a", "b"), _elementwise, "mod"),
        Primitive("where", ("condition", "a", "b"), _where),
        Primitive("reshape", ("x", "shape"), shapes.reshape),
        Primitive("flatten", ("x",), shapes.flatten),
        Primitive("transpose", ("x", "order?"), shapes.transpose),
        Primitive("expand", ("x", "over?", "size?"), shapes.expand),
        Primitive("squeeze", ("x", "over?"), shapes.squeeze),
        Primitive("concat", ("items", "over?"), shapes.joined),
        Primitive("stack", ("items", "over?"), shapes.joined),
        Primitive("split", ("x", "into", "over?"), shapes.split),
        Primitive("tile", ("x", "times", "over?"), shapes.tile),
        Primitive("pad", ("x", "width", "over?", "value?"), shapes.pad),
        Primitive("flip", ("x", "over?"), shapes.flip),
        Primitive("roll", ("x", "by", "over?"), shapes.roll),
        Primitive("cast", ("x", "to"), _cast),
        Primitive("one_hot", ("y",), _one_hot),
        Primitive("two_classes", ("y", "to"), _two_classes),
        Primitive("take", ("x", "indices", "over?"), shapes.take),
        Primitive("top_k", ("x", "k", "over?"), shapes.top_k),
        Primitive("einsum", ("spec", "a", "b?", "c?", "d?"), einsum.einsum),
        Primitive("iota", ("n",), _iota),
        Primitive("constant", ("like", "value"), _like),
        Primitive("size", ("x",), _learners_size),
        Primitive("uniform", ("like", "low?", "high?"), dynamics.uniform),
        Primitive("steps", ("duration",), clock.steps),
        Primitive("before", ("place",), dynamics.before),
        Primitive("grad", ("e", "w"), dynamics.grad),
        Primitive("replica", ("of",), dynamics.replica),
        Primitive("standardize", ("x",), datasets.standardize),
        Primitive("previous", ("e",), dynamics.not_here),
        Primitive("repeat", ("n", "layer"), dynamics.not_here),
    )
}
SPECIAL: Mapping[str, Callable[[Session, ast.Call, Scope], Any_]] = {
    "previous": dynamics.previous,
    "repeat": dynamics.repeat,
}
# Of the language, and of no version yet.
NOT_LOWERED = ("lstm", "gru", "load")
