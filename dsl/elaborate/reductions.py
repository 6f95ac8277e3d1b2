"""Reductions: over axes by number or name, over the leaves of a tree, over the learners."""

from collections.abc import Iterable
from math import prod
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import clock
from fml.dsl.elaborate.arithmetic import as_tensor, no_parameters, read
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.values import (
    POISON,
    Any_,
    LearnersValue,
    Poison,
    Size,
    Tensor,
    Tree,
    Unknown,
    describe,
)  # fmt: skip
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import LEARNERS
from fml.engine.ir.types import Element
from fml.engine.ops.build import Value
from fml.engine.ops.precision import NARROW

_ACROSS_LEAVES = {"sum": "add", "max": "maximum", "min": "minimum", "product": "multiply",
                  "any": "logical_or", "all": "logical_and"}  # fmt: skip
LEARNERS_KINDS = ("sum", "mean", "min", "max")
EVERYTHING = "everything"


def reduce(
    s: Session, op: str, value: Any_, over: Any_ | None, keep: bool, e: ast.Expression
) -> Any_:
    """Reduce a tensor or a tree, the whole of it if `over` is None or `everything`."""
    value = read(s, value)
    over = None if over == EVERYTHING else over
    if isinstance(value, Poison | Unknown) or isinstance(over, Poison | Unknown):
        return POISON
    if isinstance(over, LearnersValue):
        return _over_learners(s, op, value, e)
    if isinstance(value, Tree):
        return _tree(s, op, value, over, e)
    # A scalar of numbers alone takes the element of what it meets, and keeps all digits till then.
    is_weak = isinstance(value, tuple) and over is None and not keep and clock.is_weak(value)
    tensor = as_tensor(s, value, e, Element.F64 if is_weak else None)
    axes = tuple(range(tensor.type.rank)) if over is None else axes_of(s, tensor, over, e)
    if op == "mean":
        return _mean(s, tensor.value, axes, keep, e)
    return s.op(op, (tensor.value,), (e,), axes=axes, keep=keep)


def _mean(s: Session, value: Value, axes: tuple[int, ...], keep: bool, e: ast.Expression) -> Tensor:
    """Sum and divide; of 16-bit floats in f32, which holds their sum and every count."""
    element = value.type.element
    if element in NARROW:
        value = value.call("cast", element=Element.F32)
    total = s.op("sum", (value,), (e,), axes=axes, keep=keep)
    result = total if not axes else _divided(s, total, [value.type.shape[axis] for axis in axes], e)
    return s.op("cast", (result.value,), (e,), element=element) if element in NARROW else result


def _divided(s: Session, total: Tensor, dims: Iterable[Dim], e: ast.Expression) -> Tensor:
    """A sum divided by the number of entries."""
    element = total.type.element
    count = s.builder.call("dim_value", dim=prod(dims, start=Dim.of(1)), element=element)  # pyright: ignore[reportArgumentType]
    return s.op("divide", (total.value, count), (e, e))


def _tree(s: Session, op: str, tree: Tree, over: Any_ | None, e: ast.Expression) -> Any_:
    """One scalar of all leaves."""
    if over is not None:
        raise s.report(
            "E0305", "a tree of tensors has no axes of its own", [e],
            help="leave `over` out: the result is one scalar",
        )  # fmt: skip
    if not tree.items:
        raise no_parameters(s, e)
    leaves = tree.items.values()
    if op == "mean":
        sizes = [prod(leaf.type.shape, start=Dim.of(1)) for leaf in leaves]
        return _divided(s, _joined(s, "sum", tree, e), (sum(sizes, Dim.of(0)),), e)
    return _joined(s, op, tree, e)


def _joined(s: Session, op: str, tree: Tree, e: ast.Expression) -> Tensor:
    """Reduce every leaf, and the results with each other."""
    first, *rest = [as_tensor(s, reduce(s, op, t, None, False, e), e) for t in tree.items.values()]
    total = first
    for part in rest:
        total = s.op(_ACROSS_LEAVES[op], (total.value, part.value), (e, e))
    return total


def _over_learners(s: Session, op: str, value: Any_, e: ast.Expression) -> Any_:
    if op not in LEARNERS_KINDS:
        raise s.report("E0305", f"the learners are reduced by {', '.join(LEARNERS_KINDS)}", [e])
    require_outside(s, e)
    if isinstance(value, Tree):
        leaves = {k: _over_learners(s, op, t, e) for k, t in value.items.items()}
        return Tree(cast("dict[str, Tensor]", leaves))
    tensor = as_tensor(s, value, e)
    if not tensor.value.node.mapped and s.region.fields is not None:
        return _of_alike(s, op, tensor, e)
    if not tensor.value.node.mapped:
        raise s.report(
            "E0606", "every learner has the same value of this, so there is nothing to reduce", [e],
            help="`over = learners` goes with `learners.NAME`",
        )  # fmt: skip
    with s.marked(mapped=False, guard=_guard_of_all(s, tensor, e)):
        return s.op("learners_reduce", (tensor.value,), (e,), kind=op)


def require_outside(s: Session, e: ast.Expression) -> None:
    """Refuse to look at other learners inside the block, where none waits for another (E0606)."""
    if s.builder.context.mapped and not s.region.after_step:
        name = s.strategy()
        way = "do this below the block, in `every 1 step { ... }`, with `learners.NAME`"
        if name is not None:
            way = f"write `use {name}(...)` below the block, with `learners.w` for what each has"
        raise s.report(
            "E0606", "inside the block, a learner knows nothing of the others", [e], help=way
        )


def _of_alike(s: Session, op: str, tensor: Tensor, e: ast.Expression) -> Tensor:
    """Reduce what is measured: replicas are their central model there, the same for all."""
    if op != "sum":
        return tensor
    element = tensor.type.element
    count = s.builder.call("dim_value", dim=LEARNERS, element=element)  # pyright: ignore[reportArgumentType]
    return s.op("multiply", (tensor.value, count), (e, e))


def _guard_of_all(s: Session, tensor: Tensor, e: ast.Expression) -> int | None:
    """Under what condition a reduction is made: none of which each learner has its own.

    What only some learners compute cannot be reduced; variables have their values all the same.
    """
    guard = s.builder.context.guard
    if guard is None or not s.builder.value(guard).node.mapped:
        return guard
    if tensor.value.node.guard is not None and tensor.value.node.op != "assign":
        raise s.report(
            "E0606", "only the learners whose condition holds have this value", [e],
            help="bind the reduction to a name before the `when`",
        )  # fmt: skip
    return None


def axes_of(s: Session, tensor: Tensor, over: Any_, e: ast.Expression) -> tuple[int, ...]:
    """Return the axes that `over` names, by number or by a dimension's name."""
    parts = cast("tuple[Any_, ...]", over) if isinstance(over, tuple) else (over,)
    axes = tuple(_axis(s, tensor, part, e) for part in parts)
    if len(set(axes)) != len(axes):
        raise s.report("E0305", "one axis is named twice", [e])
    return tuple(sorted(axes))


def axis_of(s: Session, tensor: Tensor, over: Any_ | None, e: ast.Expression) -> int:
    """Return the one axis that `over` names; the last if it is None."""
    if over is None:
        return max(tensor.type.rank - 1, 0)
    return _axis(s, tensor, over, e)


def _axis(s: Session, tensor: Tensor, part: Any_, e: ast.Expression) -> int:
    type = tensor.type
    match part:
        case Poison() | Unknown():
            raise Failed
        case Size() | Dim():
            return _named_axis(s, tensor, part, e)
        case int() if not isinstance(part, bool) and -type.rank <= part < type.rank:
            return part % type.rank
        case int():
            raise s.report(
                "E0305", f"there is no axis {part} in {s.type_text(tensor.value)}", [e],
                notes=s.origin_notes(tensor.value),
                help=f"the axes are 0 to {type.rank - 1}" if type.rank else "it is a scalar",
            )  # fmt: skip
        case _:
            raise s.report(
                "E0305",
                f"an axis is a number or the name of a dimension, found {describe(part)}",
                [e],
            )


def _named_axis(s: Session, tensor: Tensor, part: Size | Dim, e: ast.Expression) -> int:
    type = tensor.type
    wanted = part if isinstance(part, Dim) else Dim.of(int(part))
    name = part.name if isinstance(part, Size) else str(part)
    named = [i for i, axis in enumerate(_axis_names(s, tensor.value)) if axis == name]
    same = [i for i, dim in enumerate(type.shape) if dim == wanted]
    found = [i for i in named if i in same] or same
    if len(found) != 1:
        problem = "no axis" if not found else "more than one axis"
        raise s.report(
            "E0305", f"{problem} of {s.type_text(tensor.value)} can be `{name}`", [e],
            notes=s.origin_notes(tensor.value), help="name the axis by its number, from 0",
        )  # fmt: skip
    return found[0]


def _axis_names(s: Session, value: Value) -> Iterable[str]:
    """The names that a value's axes were declared with, through what keeps the shape."""
    nodes, number, shape = s.builder.nodes, value.id, value.type.shape
    for _ in range(len(nodes.nodes)):
        origin = s.region.origins.get(number)
        if origin and len(origin.axes) == len(shape):
            return origin.axes
        same = [i for i in nodes[number].inputs if nodes[i].type.shape == shape]
        if not same:
            break
        number = same[0]
    return ()
