"""Options of a file: what a command line and Python may set, and what they may be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import expressions
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.modules import Module
from fml.dsl.parse import parse_expression
from fml.dsl.scope import Scope
from fml.dsl.values import Any_, RangeOf, describe
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.source import Source, Span
from fml.engine.ir.training import Duration


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """An `option`: its default, what it may be (as written), and its doc comment."""

    name: str
    default: object
    allowed: str
    doc: str
    span: Span
    bounds: RangeOf | tuple[object, ...] | None = None


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
    default = expressions.evaluate_static(s, declaration.default, scope, "a static value")
    if not isinstance(default, bool | int | float | str | Duration | tuple):
        raise s.report(
            "E0405", f"an option has a static value, found {describe(default)}",
            [declaration.default], help="a number, string, boolean, duration or list",
        )  # fmt: skip
    bounds: RangeOf | tuple[object, ...] | None = None
    if declaration.allowed is not None:
        allowed = expressions.evaluate_static(s, declaration.allowed, scope, "a range or a list")
        if not isinstance(allowed, RangeOf | tuple):
            raise s.report(
                "E0405", f"`in` takes a range or a list, found {describe(allowed)}",
                [declaration.allowed],
            )  # fmt: skip
        bounds = cast("RangeOf | tuple[object, ...]", allowed)
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
            problems.append(
                Diagnostic(
                    "E0405",
                    f"there is no option `{name}`",
                    (),
                    (),
                    did_you_mean(name, known) or listed,
                )
            )
            continue
        option = known[name]
        if isinstance(value, str) and not value and not isinstance(option.default, str):
            default = describe(cast(Any_, option.default))
            problems.append(
                Diagnostic(
                    "E0405",
                    f"`{name}=` gives no value",
                    (Mark(option.span, "declared here"),),
                    (f"without it, {name} is {default}",),
                )
            )
            continue
        read = _typed(s, option, value)
        problem = _wrong_kind(option, read) or _not_allowed(option, read)
        if problem:
            problems.append(
                Diagnostic("E0405", problem, (Mark(option.span, "declared here"),), (), "")
            )
        values[name] = cast(Any_, read)
    if problems:
        raise FmlError(problems)
    return values


def _typed(s: Session, option: OptionInfo, value: object) -> object:
    """Read text as typed on a command line; a string option takes it as it is."""
    if not isinstance(value, str):
        return value.item() if hasattr(value, "item") else value  # pyright: ignore
    if isinstance(option.default, str):
        return value
    source = Source(f"{option.name}={value}", value)
    before = len(s.diagnostics)
    result = expressions.evaluate(s, parse_expression(source), Scope(s.module, None))
    if len(s.diagnostics) > before:
        raise FmlError(s.diagnostics[before:])
    return result


def _wrong_kind(option: OptionInfo, value: object) -> str:
    kinds: tuple[tuple[str, type | tuple[type, ...]], ...] = (
        ("true or false", bool),
        ("a number", (int, float)),
        ("a string", str),
        ("a duration", Duration),
        ("a list", tuple),
    )
    for words, kind in kinds:
        if isinstance(option.default, kind):
            is_bool = isinstance(value, bool) and kind is not bool
            fits = isinstance(value, kind) and not is_bool
            return (
                "" if fits else f"`{option.name}` is {words}, found {describe(cast(Any_, value))}"
            )
    return ""


def _not_allowed(option: OptionInfo, value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"`{option.name}` must be finite, found {value}"
    match option.bounds:
        case RangeOf(low, high) if isinstance(value, int | float) and not low <= value <= high:
            return f"`{option.name}` must be in {option.allowed}, found {value}"
        case tuple() if value not in option.bounds:
            found = describe(cast(Any_, value))
            return f"`{option.name}` must be one of {option.allowed}, found {found}"
        case _:
            return ""
