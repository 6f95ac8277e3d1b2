"""Types as they are written: what they are where dimension names have a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fml.dsl import ast
from fml.dsl.elaborate import elsewhere, expressions, names
from fml.dsl.elaborate.arithmetic import to_dim
from fml.dsl.elaborate.session import Session
from fml.dsl.elaborate.statics import simplest
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import Poison, Unknown
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.types import Element, ElementType, Label, TensorType

STATIC_TYPES = ("dim", "number", "bool", "string", "duration", "layer")
FLOAT = "float"  # whatever floating-point element the arguments have, one in a whole signature


@dataclass(slots=True)
class Matched:
    """What a signature bound: `names` for the body, `dims` and the run that `...` stands for."""

    scope: Scope
    names: dict[str, Entry] = field(default_factory=dict[str, Entry])
    dims: dict[str, Dim] = field(default_factory=dict[str, Dim])
    run: tuple[Dim, ...] | None = None
    run_at: ast.Syntax | None = None
    sources: dict[str, ast.Syntax] = field(default_factory=dict[str, ast.Syntax])

    def with_dims(self) -> Scope:
        """Return the scope in which dimensions of the signature are read."""
        names: dict[str, Entry] = {k: simplest(v) for k, v in self.dims.items()}
        return self.scope.inner({**self.names, **names})


def is_static(type: ast.Type | None) -> bool:
    """Whether a written type is one of a static value (`dim`, or `bool` without axes)."""
    return type is not None and type.name in STATIC_TYPES and type.axes is None


def written_type(s: Session, type: ast.Type, matched: Matched) -> TensorType | None:
    """Evaluate a written type; None where it depends on what is not known yet."""
    scope = matched.with_dims()
    axes: list[Dim] = []
    for axis in type.axes or ():
        if isinstance(axis, ast.Dots):
            if matched.run is None:
                return None
            axes.extend(matched.run)
            continue
        dim = dimension(s, axis, scope)
        if isinstance(dim, Poison):
            return None
        axes.append(dim)
    element = _element(s, type, scope)
    return None if element is None else TensorType(element, tuple(axes))


def dimension(s: Session, e: ast.Expression, scope: Scope) -> Dim | Poison:
    """Evaluate a dimension."""
    if isinstance(e, ast.Name):
        if not scope.find(e.name) and not scope.module.knows(e.name):
            near = did_you_mean(e.name, [*scope.visible(), *scope.module.names])
            raise s.report(
                "E0325", f"the dimension `{e.name}` is not known here", [e],
                help=near or "write a number, an attribute, or an axis of a parameter",
            )  # fmt: skip
    else:
        _require_known(s, e, scope)
    return to_dim(s, expressions.evaluate(s, e, scope), e)


def _require_known(s: Session, e: ast.Expression, scope: Scope) -> None:
    """Refuse names that stand for nothing in a dimension that is computed."""
    for part in walk(e):
        if (
            isinstance(part, ast.Name)
            and not scope.find(part.name)
            and not names.is_global(scope.module, part.name)
        ):
            raise s.report(
                "E0325", f"the dimension `{part.name}` is not known here", [part],
                help="only a name that is an axis by itself stands for whatever size is found",
            )  # fmt: skip


def _element(s: Session, type: ast.Type, scope: Scope) -> ElementType | None:
    if type.name == "label":
        if type.classes is None:
            raise s.report(
                "E0326", "a label needs its number of classes", [type], help="`label[10]`"
            )
        classes = dimension(s, type.classes, scope)
        return None if isinstance(classes, Poison) else Label(classes)
    if type.name in STATIC_TYPES and type.name not in names.ELEMENTS:
        raise s.report(
            "E0326", f"`{type.name}` is the type of a static value, and this is a tensor's", [type],
            help="`f32[N, 4]`, `label[10]`",
        )  # fmt: skip
    held = scope.find(type.name)
    if held is not None and isinstance(held[1], Unknown):
        return None
    found = element_called(type.name, {type.name: held[1]} if held else {})
    if found is not None:
        return found
    if type.name == FLOAT:
        raise s.report(
            "E0326", "`float` is the element of an argument, and no parameter is of it", [type],
            help="write the element: `f32`",
        )  # fmt: skip
    near = elsewhere.ELEMENTS.get(type.name) or did_you_mean(
        type.name, [*names.ELEMENTS, FLOAT, "label", *STATIC_TYPES]
    )
    raise s.report("E0326", f"`{type.name}` is not a type", [type], help=near)


def element_called(name: str, known: Mapping[str, Entry]) -> Element | None:
    """The element of this name: a built-in one, `float`, or an attribute that is an element."""
    found = names.ELEMENTS.get(name) or known.get(name)
    return found if isinstance(found, Element) else None
