"""Operators: static values fold, tensors become nodes, trees go leaf by leaf."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate import clock, replicas
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.elaborate.statics import fold
from fml.dsl.values import (
    POISON,
    STATIC,
    Any_,
    Cell,
    Instance,
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
from fml.engine.ir.diagnostics import Mark
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Duration
from fml.engine.ir.types import BOOL, F32, Element, ElementType, Label, TensorType
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given

OPERATIONS = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "^": "power",
    "@": "matmul",
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "and": "logical_and",
    "or": "logical_or",
}


def binary(s: Session, e: ast.Binary, left: Any_, right: Any_) -> Any_:
    """Apply a binary operator to two values."""
    left, right = read(s, left), read(s, right)
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    if isinstance(left, Tree) or isinstance(right, Tree):
        return tree_map(s, e, lambda a, b: binary(s, e, a, b), left, right)
    if isinstance(left, STATIC) and isinstance(right, STATIC) and not _has_tensor(left, right):
        return fold(s, e, left, right)
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return POISON
    a, b = as_pair(s, left, right, e.left, e.right)
    made = s.op(OPERATIONS[e.operator], (a, b), (e.left, e.right))
    if e.operator != "@":
        _require_samples_apart(s, e, a, b, made.type)
    return made


def _require_samples_apart(s: Session, e: ast.Binary, a: Value, b: Value, made: TensorType) -> None:
    """Refuse `f32[N, 1] - f32[N]`, which is every sample with every other: f32[N, N].

    In a plan only the axis of the samples has no definite size. Where both ranks are the same, the
    axes of 1 were written, and pairs are meant.
    """
    if s.region.rigid or a.type.rank == b.type.rank:
        return
    named = [dim.name for dim in made.shape if dim.name]
    twice = {name for name in named if named.count(name) > 1}
    if not twice or any(_count(v.type, twice) > 1 for v in (a, b)):
        return
    longer, shorter = (e.left, e.right) if a.type.rank > b.type.rank else (e.right, e.left)
    axis = made.rank - 1
    raise s.report(
        "E0331", f"`{e.operator}` would pair every sample with every other: {made}",
        [Mark(e.left.span, s.type_text(a)), Mark(e.right.span, s.type_text(b))],
        notes=[*s.origin_notes(a), *s.origin_notes(b)],
        help=f"take the axis of 1 away, `squeeze({longer.span.text}, over = {axis})`; "
        f"if pairs are meant, `expand({shorter.span.text}, 0)`",
    )  # fmt: skip


def _count(type: TensorType, names: set[str]) -> int:
    """Count the axes that have one of these names."""
    return sum(dim.name in names for dim in type.shape)


def unary(s: Session, e: ast.Unary, operand: Any_) -> Any_:
    """Apply `-` or `not`."""
    operand = read(s, operand)
    match operand:
        case Poison() | Unknown():
            return operand
        case Tree(items):
            mapped = {k: cast(Tensor, unary(s, e, v)) for k, v in items.items()}
            return POISON if POISON in mapped.values() else Tree(mapped)
        case Tensor(value):
            name = "negate" if e.operator == "-" else "logical_not"
            return s.op(name, (value,), (e.operand,))
        case bool() if e.operator == "not":
            return not operand
        case int() | float() | Dim() if e.operator == "-" and not isinstance(operand, bool):
            return -operand
        case Duration(amount, unit) if e.operator == "-":
            return Duration(-amount, unit)
        case _:
            wanted = "a number or tensor" if e.operator == "-" else "a boolean"
            raise s.report(
                "E0401", f"`{e.operator}` takes {wanted}, found {describe(operand)}", [e.operand]
            )


def to_dim(s: Session, value: Any_, at: ast.Syntax) -> Dim | Poison:
    """Return a static number as a dimension; it must be whole and at least 0."""
    match value:
        case Poison():
            return POISON
        case Unknown(name):
            return Dim.of(name) if name else POISON
        case Dim():
            return value
        case bool():
            pass
        case int() if value >= 0:
            return Dim.of(value)
        case float() if value.is_integer() and value >= 0:
            return Dim.of(int(value))
        case int() | float():
            raise _no_dimension(s, value, at)
        case _:
            pass
    raise s.report("E0401", f"a dimension is needed here, found {describe(value)}", [at])


def _no_dimension(s: Session, value: float, at: ast.Syntax) -> Failed:
    text = Fraction(value).limit_denominator(1000)
    if isinstance(at, ast.Binary) and at.operator == "/" and value >= 0:
        above, below = at.left.span.text, at.right.span.text
        return s.report(
            "E0324", f"`{below}` does not divide `{above}`: `{at.span.text}` would be {text}", [at],
            help=f"choose sizes such that `{above}` is a multiple of `{below}`"
            + ("" if at.span.source.is_std else f", or round: `floor({at.span.text})`"),
        )  # fmt: skip
    return s.report(
        "E0324", f"a dimension must be a whole number of at least 0, found {text}", [at],
        help="use `floor(...)` or `ceil(...)`, or sizes that divide",
    )  # fmt: skip


def whole_number(s: Session, given: "Given", name: str, least: int | None = None) -> int | None:
    """Return an argument that is a whole number, of at least `least` (E0401).

    None while it is not known, as where a declaration is checked on its own with any dimensions.
    """
    value = given.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Unknown | Poison) or (isinstance(value, Dim) and s.region.rigid):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return value
    wanted = "a whole number" if least is None else f"a whole number of at least {least}"
    raise s.report("E0401", f"`{name}` is {wanted}, found {describe(value)}", [given.at])


def _has_tensor(*values: Any_) -> bool:
    for value in values:
        if isinstance(value, tuple):
            parts = cast("tuple[Any_, ...]", value)
            if any(isinstance(v, Tensor | Place | Cell) or _has_tensor(v) for v in parts):
                return True
    return False


def read(s: Session, value: Any_) -> Any_:
    """Turn what holds tensors into them: a place into its value, an instance into its tree."""
    match value:
        case Tensor():
            return value
        case Place():
            return s.read(value)
        case Cell():
            return read(s, value.value)
        case PlaceTree(places):
            return Tree({key: s.read(place) for key, place in places.items()})
        case Instance():
            return parameters(s, value)
        case Selection():
            return selected(s, value)
        case Stack(instances):
            trees = (parameters(s, i).items for i in instances)
            return Tree({f"{n}.{k}": t for n, tree in enumerate(trees) for k, t in tree.items()})
        case _:
            return value


def parameters(s: Session, instance: Instance) -> Tree:
    """Return the tree of an instance's trained parameters, by their paths below it."""
    if s.region.fields is not None:
        instance = instance.measured_as
    return Tree({instance.below(place.name): s.read(place) for place in instance.trained()})


def selected(s: Session, selection: Selection) -> Tree:
    """Return the tree of the parameters that are selected, by their paths below the instance."""
    instance = selection.instance
    if s.region.fields is not None:
        instance = instance.measured_as
    return Tree({instance.below(p.name): s.read(p) for p in selection.of(instance)})


def no_parameters(s: Session, at: ast.Syntax) -> Failed:
    """Say that a layer value has no parameters; silent where an error elsewhere is the reason."""
    if s.broken or s.plan.misapplied:
        return Failed()
    meant = replicas.meant(s)
    if meant is None:
        return s.report(
            "E0402", "there are no parameters here yet", [at],
            help="a layer value gets its parameters when it is first applied",
        )  # fmt: skip
    w, z = meant.replica, meant.central
    s.plan.misapplied = True  # said once, wherever its parameters are missed
    return s.report(
        "E0402", f"`{z}` has no parameters: `{w}` is a model of its own, and not its replica",
        [meant.span, s.user_span(at.span)],
        help=f"`{w} = replica({z})` makes it a copy of `{z}`, which then has parameters as well",
    )  # fmt: skip


def tree_map(
    s: Session, at: ast.Syntax, function: Callable[[Any_, Any_], Any_], left: Any_, right: Any_
) -> Any_:
    """Apply a function leaf by leaf; what is not a tree goes with every leaf."""
    keys = left.items if isinstance(left, Tree) else cast(Tree, right).items
    other = right if isinstance(left, Tree) else left
    if isinstance(other, Tree) and other.items.keys() != keys.keys():
        if not (other.items and keys):
            raise no_parameters(s, at)
        missing = sorted(other.items.keys() ^ keys.keys())
        raise s.report(
            "E0327",
            "these two are trees of different parameters",
            [at],
            notes=[f"only one of them has {', '.join(f'`{m}`' for m in missing[:5])}"],
        )
    result: dict[str, Tensor] = {}
    for key in keys:
        made = function(
            left.items[key] if isinstance(left, Tree) else left,
            right.items[key] if isinstance(right, Tree) else right,
        )
        if not isinstance(made, Tensor):
            return POISON
        result[key] = made
    return Tree(result)


# --- from static values to tensors ---------------------------------------------------------------


def as_pair(
    s: Session, left: Any_, right: Any_, left_at: ast.Syntax, right_at: ast.Syntax
) -> tuple[Value, Value]:
    """Return two operands as nodes; a number takes the element type of the other operand."""
    element = clock.common_element((left, right))
    return as_tensor(s, left, left_at, element).value, as_tensor(s, right, right_at, element).value


def as_tensor(
    s: Session, value: Any_, at: ast.Syntax, element: ElementType | None = None
) -> Tensor:
    """Return a value as a node: numbers become constants, lists are stacked on a last axis.

    Numbers and scalars of the clock take the element, if one is given.
    """
    if not isinstance(value, Tensor):
        value = read(s, value)
    if isinstance(value, Tensor):
        return value if element is None else clock.in_element(value, element)
    if element is None:
        element = clock.common_element(value) if isinstance(value, tuple) else F32
    match value:
        case Poison() | Unknown():
            raise Failed
        case bool():
            return Tensor(s.builder.constant(value, TensorType(BOOL)))
        case int() | float():
            return Tensor(s.builder.constant(value, TensorType(number_element(value, element))))
        case Dim():
            element = number_element(1, element)
            made = s.builder.call("dim_value", dim=value, element=element)  # pyright: ignore[reportArgumentType]
            return Tensor(made)
        case tuple():
            return stack(s, cast("tuple[Any_, ...]", value), at, element)
        case _:
            pass
    stage = "a tree of tensors" if isinstance(value, Tree) else describe(value)
    raise s.report("E0402", f"a tensor is needed here, found {stage}", [at])


def number_element(value: float, beside: ElementType) -> ElementType:
    """The element of a written number: that of the tensor beside it if it can hold it.

    Raises nothing: 0.5 beside integers is an f32, and the operation then says what is wrong.
    """
    if isinstance(beside, Label):
        return Element.I32
    if beside is BOOL or (beside.is_integer and not float(value).is_integer()):
        return F32
    return beside


def stack(
    s: Session,
    items: tuple[Any_, ...],
    at: ast.Syntax,
    element: ElementType,
    over: Any_ | None = None,
) -> Tensor:
    """Join tensors of one shape on a new axis, the last if `over` is None."""
    if not items:
        raise s.report("E0402", "an empty list is not a tensor", [at])
    written = at.items if isinstance(at, ast.ListOf) and len(at.items) == len(items) else ()
    places = written or (at,) * len(items)
    tensors = [as_tensor(s, i, p, element).value for i, p in zip(items, places, strict=True)]
    axis = new_axis(s, tensors[0].type.rank, over, at)
    expanded: list[Value] = []
    for value in tensors:
        shape = (*value.type.shape[:axis], Dim.of(1), *value.type.shape[axis:])
        expanded.append(s.op("reshape", (value,), (at,), shape=shape).value)
    return s.op("concat", tuple(expanded), (at,), axis=axis)


def new_axis(s: Session, rank: int, over: Any_ | None, at: ast.Syntax) -> int:
    """Return the place that a new axis gets in a result of rank + 1 axes (E0305)."""
    if isinstance(over, Unknown | Poison):
        raise Failed
    if over is None:
        return rank
    if isinstance(over, bool) or not isinstance(over, int) or not -rank - 1 <= over <= rank:
        raise s.report(
            "E0305", f"there is no place for a new axis at {describe(over)}", [at],
            help=f"the places are 0 to {rank}",
        )  # fmt: skip
    return over % (rank + 1)
