"""Signatures against arguments: dimension names are bound, and promises of results are checked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate.arithmetic import as_tensor, read, to_dim
from fml.dsl.elaborate.clock import is_of_clock, is_weak, with_unit
from fml.dsl.elaborate.region import Origin
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.statics import simplest
from fml.dsl.elaborate.written_types import (
    FLOAT,
    Matched,
    element_called,
    is_static,
    written_type,
)
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import Any_, Poison, Size, Tensor, Tree, Unknown, describe
from fml.engine.ir.diagnostics import Mark
from fml.engine.ir.dims import Dim, Rounded
from fml.engine.ir.training import Duration
from fml.engine.ir.types import Element, ElementType, Label, TensorType

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given


def match(
    s: Session,
    parameters: Sequence[ast.Parameter],
    bound: "Mapping[str, Given]",
    name: str,
    attributes: Mapping[str, Entry] | None = None,
) -> Matched:
    """Match arguments with parameter types; returns the names that the body sees."""
    module = s.frames[-1].module if s.frames else s.module
    matched = Matched(Scope(module, None, None, dict(attributes or {})))
    matched.names = dict(attributes or {})
    _bind_float(s, parameters, bound, matched)
    later: list[tuple[ast.Parameter, Tensor, ast.Syntax]] = []
    attempts = Attempts()
    for parameter in parameters:
        given = bound[parameter.name]
        with attempts:
            value = read(s, given.value)
            if parameter.type is None or isinstance(value, Poison):
                matched.names[parameter.name] = given.value
            elif is_static(parameter.type):
                matched.names[parameter.name] = static_argument(s, parameter, value, given.at, name)
            else:
                tensor = _tensor_argument(s, parameter, value, given.at, matched, name)
                matched.names[parameter.name] = tensor
                _bind_axes(s, parameter, tensor, given.at, matched, name)
                later.append((parameter, tensor, given.at))
    attempts.settle()
    for parameter, tensor, at in later:
        with attempts:
            _check_axes(s, parameter, tensor, at, matched, name)
    attempts.settle()
    for dim, value in matched.dims.items():
        size = value.size
        matched.names.setdefault(dim, value if size is None else Size(size, dim))
    return matched


def static_argument(
    s: Session, parameter: ast.Parameter, value: Any_, at: ast.Syntax, name: str
) -> Any_:
    """Check a static argument against its declared type."""
    wanted = parameter.type.name if parameter.type else ""
    if isinstance(value, Unknown | Poison):
        return value
    fits = {
        "dim": isinstance(value, int | float | Dim) and not isinstance(value, bool),
        "number": isinstance(value, int | float | Dim) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "string": isinstance(value, str),
        "duration": isinstance(value, Duration),
        "layer": not isinstance(value, int | float | str | Tensor | Tree | Duration | Dim),
    }[wanted]
    if not fits:
        raise s.report(
            "E0401",
            f"`{name}` takes a {wanted} for `{parameter.name}`, found {describe(value)}",
            [at],
            help=with_unit(value) if wanted == "duration" else "",
        )
    if wanted == "dim":
        dim = to_dim(s, value, at)
        return dim if isinstance(dim, Poison) else simplest(dim)
    return value


def _bind_float(
    s: Session, parameters: Sequence[ast.Parameter], bound: "Mapping[str, Given]", matched: Matched
) -> None:
    """Let `float` be the element of the first tensor given for one.

    Of numbers and scalars of the clock alone it is f64, as the clock is; of lists, f32.
    """
    given = [bound[p.name] for p in parameters if p.type is not None and p.type.name == FLOAT]
    for argument in given:
        value = read(s, argument.value)
        if isinstance(value, Tensor) and value.type.is_float and not is_of_clock(value.value):
            matched.names[FLOAT] = cast("Element", value.type.element)
            matched.sources[FLOAT] = argument.at
            return
    if given:
        values = [read(s, argument.value) for argument in given]
        is_exact = all(is_weak(v) and not isinstance(v, tuple) for v in values)
        matched.names[FLOAT] = Element.F64 if is_exact else Element.F32


def _tensor_argument(
    s: Session, parameter: ast.Parameter, value: Any_, at: ast.Syntax, matched: Matched, name: str
) -> Tensor:
    assert parameter.type is not None
    wanted = parameter.type.name
    element = element_called(wanted, matched.names) or Element.F32
    if isinstance(value, Unknown):
        raise Failed
    if isinstance(value, Tree) or not isinstance(value, Tensor | int | float | Dim | tuple):
        raise s.report(
            "E0402",
            f"`{name}` takes a tensor {parameter.type.span.text} for `{parameter.name}`",
            [at],
            notes=[f"found {describe(value)}"],
        )
    tensor = as_tensor(s, value, at, element)
    found = tensor.type.element
    fits = isinstance(found, Label) if wanted == "label" else found is element
    # Binary losses take class numbers 0 and 1 as numbers: the function casts them.
    if not fits:
        shown = element if wanted == FLOAT and tensor.type.is_float else wanted
        raise s.report(
            "E0303",
            f"`{name}` takes {shown} for `{parameter.name}`, found {found}",
            [Mark(at.span, s.type_text(tensor.value))],
            notes=[*_float_notes(wanted, matched), *s.origin_notes(tensor.value)],
            help=_conversion(found, "label" if wanted == "label" else str(element)),
        )
    return tensor


def _float_notes(wanted: str, matched: Matched) -> list[str]:
    if wanted != FLOAT or FLOAT not in matched.sources:
        return []
    return [f"float = {matched.names[FLOAT]} comes from `{matched.sources[FLOAT].span.text}`"]


def _conversion(found: ElementType, wanted: str) -> str:
    if wanted == "label":
        return "declare it as a label, for instance `label[10]`"
    if isinstance(found, Label):
        return "`cross_entropy` takes logits and labels; `one_hot(y)` makes numbers of labels"
    return f"convert with `cast(x, {wanted})`"


def _bind_axes(
    s: Session, p: ast.Parameter, tensor: Tensor, at: ast.Syntax, matched: Matched, name: str
) -> None:
    """Bind the names that stand alone as an axis; `...` takes what the others leave."""
    assert p.type is not None
    written = p.type.axes or ()
    type = tensor.type
    dots = [i for i, axis in enumerate(written) if isinstance(axis, ast.Dots)]
    fixed = len(written) - len(dots)
    if (type.rank != fixed and not dots) or type.rank < fixed:
        raise s.report(
            "E0320",
            f"`{name}` takes {p.type.span.text} for `{p.name}`, found {type}",
            [Mark(at.span, s.type_text(tensor.value))],
            notes=s.origin_notes(tensor.value),
            help=f"it has {type.rank} axes and needs {'at least ' if dots else ''}{fixed}",
        )
    axes = list(type.shape)
    if dots:
        run = slice(dots[0], dots[0] + type.rank - fixed)
        _bind_dots(s, tuple(axes[run]), tensor, at, matched, name)
        axes[run] = []
    named = [a for a in written if not isinstance(a, ast.Dots)]
    pairs: list[tuple[ast.Expression, Dim]] = list(zip(named, axes, strict=True))
    if isinstance(type.element, Label) and p.type.classes:
        pairs.insert(0, (p.type.classes, type.element.classes))
    for axis, dim in pairs:
        if isinstance(axis, ast.Name) and axis.name not in matched.names | matched.scope.names:
            matched.sources.setdefault(axis.name, at)
            matched.dims.setdefault(axis.name, dim)


def _bind_dots(
    s: Session, run: tuple[Dim, ...], tensor: Tensor, at: ast.Syntax, matched: Matched, name: str
) -> None:
    """Take the axes that `...` stands for, which are the same in all arguments."""
    if matched.run is not None and matched.run != run:
        raise s.report(
            "E0321",
            f"`...` stands for different axes in two arguments of `{name}`",
            [Mark(at.span, s.type_text(tensor.value))],
            notes=[
                f"[{_list(matched.run)}] before, [{_list(run)}] here",
                *s.origin_notes(tensor.value),
            ],
            help=_one_axis_less(matched, run, at),
        )
    matched.run, matched.run_at = run, matched.run_at or at


def _one_axis_less(matched: Matched, run: tuple[Dim, ...], at: ast.Syntax) -> str:
    """The way out where two arguments differ by a last axis of 1: predictions and targets."""
    before, last = matched.run or (), (Dim.of(1),)
    if before == (*run, *last) and matched.run_at is not None:
        longer = matched.run_at
    elif run == (*before, *last):
        longer = at
    else:
        return ""
    text = longer.span.text
    axis = max(len(before), len(run)) - 1
    shown = f"squeeze({text}, over = {axis})"
    if "|>" in text:
        shown = f"{text} |> squeeze(over = {axis})"
    if "\n" in text:
        shown = f"squeeze(..., over = {axis})"
    return f"take its last axis away, which is 1: `{shown}`"


def _check_axes(
    s: Session, p: ast.Parameter, tensor: Tensor, at: ast.Syntax, matched: Matched, name: str
) -> None:
    """Compare a type with what the signature says of it, all names bound by now."""
    assert p.type is not None
    type = tensor.type
    expected = written_type(s, p.type, matched)
    if expected is None or expected == type:
        return
    written = (*(p.type.axes or ()), p.type.classes)
    names = [a.name for a in written if isinstance(a, ast.Name)]
    others = [
        matched.sources[n] for n in names if n in matched.sources and matched.sources[n] is not at
    ]
    marks = [Mark(at.span, str(type)), *(Mark(o.span) for o in dict.fromkeys(others))]
    raise s.report(
        "E0321",
        f"`{name}` takes {p.type.span.text} for `{p.name}`: expected {expected}, found {type}",
        marks,
        notes=[*_dim_notes(matched, names), *s.origin_notes(tensor.value)],
    )


def _dim_notes(matched: Matched, names: Sequence[str]) -> list[str]:
    return [
        f"{n} = {matched.dims[n]} comes from `{matched.sources[n].span.text}`"
        for n in names
        if n in matched.sources
    ]


def _list(dims: Sequence[Dim]) -> str:
    return ", ".join(map(str, dims))


# --- results -------------------------------------------------------------------------------------


def check_result(
    s: Session,
    written: ast.Type | None,
    result: Any_,
    matched: Matched,
    declaration: ast.Function | ast.Layer,
) -> Any_:
    """Compare a body's value with the declared result and return it."""
    if written is None or isinstance(result, Poison | Unknown):
        return result
    value = declaration.body.value if isinstance(declaration.body, ast.Block) else declaration.body
    if is_static(written):
        return result
    expected = written_type(s, written, matched)
    tensor = as_tensor(s, result, value, expected.element if expected else None)
    if expected is None or _same(expected, tensor.type):
        return tensor
    marks = [
        Mark(value.span, s.type_text(tensor.value)),
        Mark(written.span, f"promised {expected}"),
    ]
    raise s.report(
        "E0322",
        f"`{declaration.name}` promises {written.span.text} and gives {tensor.type}",
        marks,
        notes=s.origin_notes(tensor.value),
    )


def _same(expected: TensorType, found: TensorType) -> bool:
    """Equal, once what the signature promises to divide exactly is taken at its word."""
    if expected == found:
        return True
    if expected.rank != found.rank or expected.element != found.element:
        return False
    promises = exact_divisions(expected)
    return expected.substitute(promises) == found.substitute(promises)


def exact_divisions(type: TensorType) -> dict[str, Dim | int]:
    """For each quotient `H/k` outside a rounding, `H = k H`: it divides, so H is a multiple."""
    promises: dict[str, Dim | int] = {}
    for dim in type.shape:
        for monomial, coefficient in dim.terms:
            factor = Dim.of(coefficient.denominator)
            above = ""
            for atom, power in monomial:
                if isinstance(atom, Rounded):
                    continue
                if power < 0:
                    factor = factor * Dim.of(atom) ** -power
                elif not above:
                    above = atom
            if above and factor != Dim.of(1):
                promises[above] = factor * Dim.of(above)
    return promises


def remember_origin(s: Session, value: Tensor, p: ast.Parameter) -> None:
    """Note where an argument's type was written, for the errors that it leads to."""
    if p.type is None:
        return
    axes = tuple(a.span.text if not isinstance(a, ast.Dots) else "..." for a in p.type.axes or ())
    s.region.origins[value.value.id] = Origin(p.span.text, p.span, axes)
