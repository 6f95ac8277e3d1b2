"""Options of a file: what a command line and Python may set, and what they may be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import allowed, expressions
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.modules import Module
from fml.dsl.parse import parse_expression
from fml.dsl.scope import Scope
from fml.dsl.values import POISON, Any_, Poison, RangeOf, Unknown, describe
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.foreign import in_words
from fml.engine.ir.source import Source, Span
from fml.engine.ir.training import Duration


@dataclass(frozen=True, slots=True, repr=False)
class OptionInfo:
    """An `option`: its default, what it may be (as written), and its doc comment."""

    name: str
    default: object
    allowed: str
    doc: str
    span: Span
    bounds: RangeOf | tuple[object, ...] | None = None

    def __repr__(self) -> str:
        """Write it as the file has it: `option lr = 0.5 in 0.001 .. 10  ## learning rate`."""
        allowed = f" in {self.allowed}" if self.allowed else ""
        doc = f"  ## {' '.join(self.doc.split())}" if self.doc else ""
        return f"option {self.name} = {_written(self.default)}{allowed}{doc}"


def options_of(s: Session, module: Module) -> tuple[OptionInfo, ...]:
    """Evaluate the options of a file; faults are reported, and such options left out."""
    found: list[OptionInfo] = []
    for declaration in module.file.declarations:
        if isinstance(declaration, ast.Option):
            try:
                found.append(_option(s, declaration, Scope(module, None)))
            except Failed:
                continue
    return tuple(found)


def _option(s: Session, declaration: ast.Option, scope: Scope) -> OptionInfo:
    """Evaluate an option; its default must be among what is allowed."""
    default: object = None
    bounds: RangeOf | tuple[object, ...] | None = None
    attempts = Attempts()
    with attempts:
        default = _default(s, declaration.default, scope)
    with attempts:
        bounds = _bounds(s, declaration.allowed, scope)
    attempts.settle()
    info = OptionInfo(
        declaration.name,
        default,
        declaration.allowed.span.text if declaration.allowed else "",
        declaration.doc,
        declaration.span,
        bounds,
    )
    problem = _not_allowed(info, default)
    if problem:
        raise s.report("E0405", problem, [declaration.default])
    return info


def _default(s: Session, written: ast.Expression, scope: Scope) -> object:
    default = expressions.evaluate_static(s, written, scope, "a static value")
    if not isinstance(default, bool | int | float | str | Duration | tuple):
        raise s.report(
            "E0405", f"an option has a static value, found {describe(default)}",
            [written], help="a number, string, boolean, duration or list",
        )  # fmt: skip
    return default


def _bounds(
    s: Session, written: ast.Expression | ast.Interval | None, scope: Scope
) -> RangeOf | tuple[object, ...] | None:
    """What stands behind `in`, if anything does."""
    if written is None:
        return None
    found = allowed.evaluated(s, written, scope)
    return None if isinstance(found, Unknown) else found


def option_values(
    s: Session, options: Sequence[OptionInfo], given: Mapping[str, object]
) -> dict[str, Any_]:
    """Return the values of all options, those given put in place of their defaults.

    Raises:
        FmlError: E0405 for each name that is no option and each value that is not allowed.
    """
    known = {option.name: option for option in options}
    values: dict[str, Any_] = {}
    problems: list[Diagnostic] = []
    for name, value in given.items():
        if name not in known:
            listed = f"the options are {', '.join(known)}" if known else "this file has no options"
            near = did_you_mean(str(name), known)
            message = f"there is no option `{name}`"
            problems.append(Diagnostic("E0405", message, (), (), near or listed))
            continue
        option = known[name]
        try:
            read = _typed(s, option, value)
            problem = _wrong_kind(option, read) or _not_allowed(option, read)
        except FmlError:
            found = f"`{value}`" if value else f"nothing: `{name}=` gives no value"
            read, problem = None, f"`{name}` takes {_kind_of(option)}, found {found}"
        if problem:
            marks = (Mark(option.span, "declared here"),)
            problems.append(Diagnostic("E0405", problem, marks, (), _for_example(option)))
        values[name] = cast(Any_, read)
    if problems:
        raise FmlError(problems)
    return values


def _typed(s: Session, option: OptionInfo, value: object) -> object:
    """Read text as typed on a command line; a string option takes it as it is.

    Raises:
        FmlError: it is no static value.
    """
    if not isinstance(value, str):
        return _from_python(value)
    if isinstance(option.default, str):
        return value
    source = Source(f"{option.name}={value}", value)
    before = len(s.diagnostics)
    try:
        result = expressions.evaluate(s, parse_expression(source), Scope(s.module, None))
    except Failed:
        result = POISON
    if len(s.diagnostics) > before or isinstance(result, Poison):
        raise FmlError(s.diagnostics[before:])
    return result


def _from_python(value: object) -> object:
    """Return a value of Python's as the language has it: plain numbers, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(_from_python(entry) for entry in cast("Sequence[object]", value))
    # A scalar of numpy, or an array without axes; any other array is of no kind that is known.
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()  # pyright: ignore
    return value


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "a string"),
    (Duration, "a duration"),
    (tuple, "a list"),
)


def _kind_of(option: OptionInfo) -> str:
    """What an option takes, in words."""
    words = next(words for kind, words in _KINDS if isinstance(option.default, kind))
    match option.bounds:
        case None:
            return words
        case RangeOf():
            return f"{words} in {option.allowed}"
        case _:
            return f"one of {option.allowed}"


def _for_example(option: OptionInfo) -> str:
    setting = f"{option.name}={_written(option.default)}"
    # A shell would split it at its blanks.
    shown = f'"{setting}"' if " " in setting and '"' not in setting else setting
    return f"for instance the default, `{shown}`"


def _written(value: object) -> str:
    """Write a static value as the language does."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_written, cast('tuple[object, ...]', value)))}]"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _wrong_kind(option: OptionInfo, value: object) -> str:
    for kind, _ in _KINDS:
        if isinstance(option.default, kind):
            is_bool = isinstance(value, bool) and kind is not bool
            if isinstance(value, kind) and not is_bool:
                return ""
    static = isinstance(value, bool | int | float | str | Duration | tuple)
    found = describe(cast(Any_, value)) if static else in_words(value)
    return f"`{option.name}` takes {_kind_of(option)}, found {found}"


def _not_allowed(option: OptionInfo, value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"`{option.name}` must be finite, found {value}"
    match option.bounds:
        case RangeOf() if isinstance(value, int | float) and value not in option.bounds:
            return f"`{option.name}` must be in {option.allowed}, found {value}"
        case tuple() if value not in option.bounds:
            found = describe(cast(Any_, value))
            return f"`{option.name}` must be one of {option.allowed}, found {found}"
        case _:
            return ""
