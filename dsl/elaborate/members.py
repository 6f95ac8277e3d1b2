"""What stands behind a dot or in square brackets: parameters, splits, series, columns, slices."""

from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import datasets, expressions, names, shapes, splits, states
from fml.dsl.elaborate.arithmetic import as_tensor, no_parameters, read, to_dim
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.scope import Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Columns,
    DataValue,
    Instance,
    LayerFactory,
    LearnersValue,
    Namespace,
    Place,
    PlaceTree,
    Poison,
    Selection,
    SeriesOf,
    SplitValue,
    Stack,
    Tensor,
    Tree,
    Unknown,
    describe,
)  # fmt: skip
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Role
from fml.engine.ir.types import SCALAR, Element

WILD = frozenset({"*", "**"})


def attribute(s: Session, e: ast.Attribute, scope: Scope) -> Any_:
    """Evaluate `x.name`."""
    if s.region.series and isinstance(e.value, ast.Name) and not scope.find(e.value.name):
        return series(s, SeriesOf(e.value.name), e)
    value = expressions.evaluate(s, e.value, scope)
    match value:
        case Poison() | Unknown():
            return POISON
        case Selection(instance, pattern):
            return _selection(s, e, instance, (*pattern, e.name))
        case Namespace(module):
            found = names.global_value(s, module, e.name, e) if e.name in module.names else None
            if found is not None:
                return found
            raise _no_member(s, e, f"`{e.value.span.text}`", module.names)
        case DataValue():
            return _split(s, e, value)
        case LearnersValue():
            return _of_learners(s, e)
        case Instance():
            return _of_instance(s, e, value)
        case PlaceTree(places):
            found = states.member(value, e.name)
            if found is not None:
                return found
            raise _no_member(s, e, f"`{e.value.span.text}`", dict.fromkeys(places))
        case Stack(instances) if e.name.isdigit() and int(e.name) < len(instances):
            return instances[int(e.name)]
        case _:
            raise s.report(
                "E0203", f"{describe(value)} has no `{e.name}`", [e],
                help=_instead_of_member(e, value, scope),
            )  # fmt: skip


def _instead_of_member(e: ast.Attribute, value: Any_, scope: Scope) -> str:
    """How what was meant by `x.T`, `x.mean()` or the parameters of a bare layer is said."""
    written = e.value.span.text
    if isinstance(value, LayerFactory):
        return value.way_out
    if not isinstance(value, Tensor | Place):
        return ""
    if e.name == "T":
        return f"write `transpose({written})`"
    if e.name == "shape":
        return "the sizes of axes have the names that a signature gives them: `f32[N, D]`"
    if e.name == "backward":
        return "gradients come with `minimize` and `using`, or by `grad(e, w)`"
    is_function = names.is_global(scope.module, e.name)
    return f"functions stand before what they take: `{e.name}({written})`" if is_function else ""


def _no_member(s: Session, e: ast.Attribute, what: str, known: object) -> Exception:
    options = sorted(cast("dict[str, object]", known))
    near = did_you_mean(e.name, options)
    listed = f"there are {', '.join(f'`{o}`' for o in options[:8])}" if options else ""
    return s.report(
        "E0203", f"{what} has no `{e.name}`", [e], notes=[listed] if listed else [], help=near
    )


def series(s: Session, of: SeriesOf, e: ast.Attribute) -> Tensor:
    """Return the latest figure of a series: `valid.loss`."""
    name = f"{of.split}.{e.name}"
    s.region.used_series.setdefault(name, e.span)
    return Tensor(
        s.region.once(f"series {name}", lambda: s.builder.add("series", SCALAR, (), {"name": name}))
    )


def _split(s: Session, e: ast.Attribute, value: DataValue) -> SplitValue:
    """A split; also after a fault in its name, as its fields are those of any other."""
    known = splits.names_of(value.declaration)
    if known is not None and e.name not in known:
        _no_member(s, e, f"the data set `{value.declaration.name}`", dict.fromkeys(known))
    return SplitValue(value, e.name)


def _of_learners(s: Session, e: ast.Attribute) -> Any_:
    inside = s.plan.learners
    if e.name == "index" and (inside is not None or s.region.rigid):
        with s.marked(mapped=True):
            return Tensor(s.builder.call("learners_index"))
    if inside is None:
        raise s.report("E0606", "this plan has no block `learners` before this", [e])
    if e.name not in inside.names:
        raise _no_member(s, e, "the block `learners`", inside.names)
    return names.look_up(s, ast.Name(e.name, span=e.span), inside)


def _of_instance(s: Session, e: ast.Attribute, value: Instance) -> Any_:
    if e.name == "state":
        states = (p for p in value.all_places() if p.variable.role is Role.STATE)
        return Tree({value.below(p.name): s.read(p) for p in states})
    if e.name in WILD:
        return _selection(s, e, value, (e.name,))
    if e.name in value.places:
        return value.places[e.name]
    for child in value.children.values():
        if child.name == e.name:
            return child
    known = [*value.places, *(c.name for c in value.children.values())]
    if not known and (s.broken or s.plan.misapplied):
        raise Failed
    if not known:
        raise s.report(
            "E0203", f"`{value.path}` has no parameters yet", [e],
            help="a layer value gets its parameters when it is first applied",
        )  # fmt: skip
    raise _no_member(s, e, f"`{value.path}`", dict.fromkeys(known))


def _selection(
    s: Session, e: ast.Attribute, instance: Instance, pattern: tuple[str, ...]
) -> Selection:
    """Follow a path with `*` or `**` in it; it must fit something."""
    selection = Selection(instance, pattern)
    if selection.places() or e.name in WILD:
        return selection
    paths = [instance.below(place.name) for place in instance.trained()]
    if not paths:
        raise no_parameters(s, e)
    listed = f"its parameters are {', '.join(f'`{path}`' for path in paths[:8])}"
    names = {name for path in paths for name in path.split(".")} - {e.name}
    raise s.report(
        "E0203", f"no parameter below `{instance.path}` fits `{'.'.join(pattern)}`", [e],
        notes=[listed], help=did_you_mean(e.name, names),
    )  # fmt: skip


# --- square brackets -----------------------------------------------------------------------------


def index(s: Session, e: ast.Index, scope: Scope) -> Any_:
    """Evaluate `x[i, 1:3]` and `columns["name"]`."""
    written = expressions.evaluate(s, e.value, scope)
    value = read(s, written)
    match value:
        case Poison() | Unknown():
            return POISON
        case Columns():
            return datasets.columns(s, e, value.type, scope)
        case tuple():
            return _item(s, e, cast("tuple[Any_, ...]", value), scope)
        case Tensor():
            return _slice(s, e, value, scope)
        case _:
            raise s.report("E0203", f"{describe(written)} cannot be indexed", [e])


def _item(s: Session, e: ast.Index, value: tuple[Any_, ...], scope: Scope) -> Any_:
    written = e.items[0]
    if len(e.items) == 1 and not isinstance(written, ast.Slice | ast.All | ast.Dots):
        place = expressions.evaluate_static(s, written, scope, "a whole number")
        if isinstance(place, int) and -len(value) <= place < len(value):
            return value[place]
        if isinstance(place, Unknown):
            return place
    places = f"has the places 0 to {len(value) - 1}" if value else "is empty"
    raise s.report("E0305", f"this list {places}", [e])


def _slice(s: Session, e: ast.Index, value: Tensor, scope: Scope) -> Any_:
    """Cut axis by axis; a number takes its axis away, tensors of indices then gather."""
    starts, stops, dropped = list[Dim](), list[Dim](), list[int]()
    chosen: dict[int, Tensor] = {}
    attempts = Attempts()
    for axis, (item, size) in enumerate(
        zip(_every_axis(s, e, value), value.type.shape, strict=True)
    ):
        low, high = Dim.of(0), size
        with attempts:
            if isinstance(item, ast.Slice):
                low = _end(s, item.low, size, scope, low)
                high = _end(s, item.high, size, scope, high)
            elif not isinstance(item, ast.All):
                found = read(s, expressions.evaluate(s, item, scope))
                if isinstance(found, Tensor | tuple):
                    chosen[axis - len(dropped)] = as_tensor(s, found, item, Element.I32)
                else:
                    low = _end(s, item, size, scope, low)
                    _require_inside(s, low, axis, value, item)
                    high = low + 1
                    dropped.append(axis)
        starts.append(low)
        stops.append(high)
    attempts.settle()
    cut = value
    if tuple(stops) != value.type.shape or any(low != Dim.of(0) for low in starts):
        cut = s.op("slice", (value.value,), (e,), starts=tuple(starts), stops=tuple(stops))
    if dropped:
        shape = tuple(d for axis, d in enumerate(cut.type.shape) if axis not in dropped)
        cut = s.op("reshape", (cut.value,), (e,), shape=shape)
    return shapes.gather(s, cut, chosen, e) if chosen else cut


def _require_inside(s: Session, place: Dim, axis: int, value: Tensor, at: ast.Expression) -> None:
    """Refuse an index that is known to lie outside its axis."""
    last = value.type.shape[axis] - 1
    if any(room.constant is not None and room.constant < 0 for room in (place, last - place)):
        raise s.report(
            "E0309", f"the index {at.span.text} is outside axis {axis} of {value.type}", [at],
            notes=s.origin_notes(value.value), help=f"indices on this axis are 0 .. {last}",
        )  # fmt: skip


def _every_axis(
    s: Session, e: ast.Index, value: Tensor
) -> list[ast.Expression | ast.Slice | ast.All]:
    """What is written for each axis: `...`, and axes that are not mentioned, are whole."""
    type = value.type
    dots = [i for i, item in enumerate(e.items) if isinstance(item, ast.Dots)]
    given = len(e.items) - len(dots)
    if len(dots) > 1:
        raise s.report("E0305", "`...` stands once in an index: for the axes left over", [e])
    if given > type.rank:
        raise s.report("E0305", f"{type} has {type.rank} axes, found {given} indices", [e])
    at = dots[0] if dots else given
    items = [item for item in e.items if not isinstance(item, ast.Dots)]
    return [*items[:at], *[ast.All(span=e.span)] * (type.rank - given), *items[at:]]


def _end(s: Session, e: ast.Expression | None, size: Dim, scope: Scope, default: Dim) -> Dim:
    """One end of a slice; counted from the end of the axis where it is below 0."""
    if e is None:
        return default
    value = expressions.evaluate_static(s, e, scope, "a whole number")
    if isinstance(value, int) and value < 0:
        return size + value
    dim = to_dim(s, value, e)
    return default if isinstance(dim, Poison) else dim
