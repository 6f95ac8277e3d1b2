"""What stands behind `in`: the values that an option or a parameter may have."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from fml.dsl import ast
from fml.dsl.elaborate import expressions
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.signatures import is_static, static_argument
from fml.dsl.elaborate.syntax import walk
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import STATIC, Any_, Closure, Poison, RangeOf, Unknown, describe
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Duration

if TYPE_CHECKING:
    from fml.dsl.elaborate.calls import Given

Allowed: TypeAlias = RangeOf | tuple[Any_, ...]


def evaluated(
    s: Session, written: ast.Expression | ast.Interval, scope: Scope
) -> Allowed | Unknown:
    """Return the range or list behind `in`; not known where an end is no static number (E0405)."""
    if isinstance(written, ast.Interval | ast.Range):
        return _range(s, written, scope)
    value = expressions.evaluate(s, written, scope)
    if isinstance(value, Poison):
        raise Failed
    if not isinstance(value, RangeOf | tuple | Unknown):
        raise s.report("E0405", f"`in` takes a range or a list, found {describe(value)}", [written])
    return cast("Allowed | Unknown", value)


def _range(s: Session, written: ast.Interval | ast.Range, scope: Scope) -> RangeOf | Unknown:
    sign = written.sign if isinstance(written, ast.Interval) else ".."
    ends: list[int | float] = []
    attempts = Attempts()
    for e in (written.low, written.high):
        with attempts:
            if e is not None:
                value = expressions.evaluate(s, e, scope)
                if isinstance(value, Poison):
                    raise Failed
                if isinstance(value, STATIC) and not isinstance(value, Unknown | Dim):
                    ends.append(expressions.end_of_range(s, value, e))
    attempts.settle()
    if len(ends) < (1 if written.high is None else 2):
        return Unknown()
    high = ends[1] if written.high is not None else float("inf")
    return RangeOf(ends[0], high, sign.startswith("<"), sign.endswith("<"))


def require(
    s: Session,
    parameters: Sequence[ast.Parameter],
    bound: "Mapping[str, Given]",
    name: str,
    defaults: Scope,
) -> None:
    """Refuse static arguments outside of what their parameters allow (E0410)."""
    attempts = Attempts()
    for parameter in parameters:
        given = bound[parameter.name]
        if parameter.allowed is not None and isinstance(given.value, STATIC):
            with attempts:
                names: dict[str, Entry] = {k: g.value for k, g in bound.items()}
                allowed = evaluated(s, parameter.allowed, defaults.inner(names))
                _require(s, parameter, allowed, given.value, given.at, name)
    attempts.settle()


def require_of_closures(
    s: Session, parameters: Sequence[ast.Parameter], scope: Scope, name: str
) -> None:
    """Check a strategy's static arguments, types and ranges: others are its statements'."""
    attempts = Attempts()
    for parameter in parameters:
        given = scope.names[parameter.name]
        if not isinstance(given, Closure) or not _is_static(given.expression, given.scope):
            continue
        with attempts:
            value = expressions.evaluate(s, given.expression, given.scope)
            if is_static(parameter.type):
                value = static_argument(s, parameter, value, given.expression, name)
            if parameter.allowed is None:
                continue
            allowed = evaluated(s, parameter.allowed, scope)
            _require(s, parameter, allowed, value, given.expression, name)
    attempts.settle()


def _is_static(e: ast.Expression, scope: Scope) -> bool:
    """Whether an argument is made of numbers, constants and options alone: no statement's."""
    for node in walk(e):
        if isinstance(node, ast.Call):
            return False
        if isinstance(node, ast.Name):
            found = scope.find(node.name)
            entry = found[1] if found else scope.module.names.get(node.name)
            if isinstance(entry, Closure) and _is_static(entry.expression, entry.scope):
                continue
            if not isinstance(entry, (*STATIC, ast.Option, ast.Constant)):
                return False
    return True


def require_of_defaults(
    s: Session, parameters: Sequence[ast.Parameter], scope: Scope, name: str
) -> None:
    """Check what stands behind `in` where a declaration is checked on its own, and defaults."""
    names: dict[str, Entry] = {p.name: Unknown(p.name) for p in parameters}
    inner = scope.inner(names)
    for parameter in parameters:
        if parameter.allowed is None:
            continue
        with Attempts():
            allowed = evaluated(s, parameter.allowed, inner)
            if parameter.default is not None:
                value = expressions.evaluate(s, parameter.default, inner)
                _require(s, parameter, allowed, value, parameter.default, name)


def _require(
    s: Session, p: ast.Parameter, allowed: Allowed | Unknown, value: Any_, at: ast.Syntax, name: str
) -> None:
    if isinstance(allowed, Unknown) or not isinstance(value, STATIC):
        return
    values = cast("tuple[Any_, ...]", value) if isinstance(value, tuple) else (value,)
    if isinstance(allowed, RangeOf):
        values = [v for v in values if _is_amount(s, p, v, at, name)]
    odd = [v for v in values if isinstance(v, STATIC) and not is_within(allowed, v)]
    if not odd:
        return
    assert p.allowed is not None
    is_amount = isinstance(odd[0], Duration | int | float) and not isinstance(odd[0], bool)
    shown = str(odd[0]) if is_amount else describe(odd[0])
    raise s.report(
        "E0410", f"`{p.name}` of `{name}` must be in {p.allowed.span.text}, found {shown}", [at],
        help=_in_words(allowed, odd[0]),
    )  # fmt: skip


def _is_amount(s: Session, p: ast.Parameter, value: Any_, at: ast.Syntax, name: str) -> bool:
    """Whether a value can lie in a range (E0401); a typed parameter's is checked with its type."""
    if isinstance(value, Duration | int | float) and not isinstance(value, bool):
        return True
    if (
        p.type is None
        and isinstance(value, STATIC)
        and not isinstance(value, Unknown | Dim | tuple)
    ):
        assert p.allowed is not None
        raise s.report(
            "E0401", f"`{name}` takes a number in {p.allowed.span.text} for `{p.name}`, "
            f"found {describe(value)}", [at],
        )  # fmt: skip
    return False


def is_within(allowed: Allowed, value: Any_) -> bool:
    """Whether a value is allowed; what is not known yet may be."""
    if isinstance(value, Unknown | Dim):
        return True
    if isinstance(allowed, tuple):
        return value in allowed
    amount = value.amount if isinstance(value, Duration) else value
    return isinstance(amount, int | float) and not isinstance(amount, bool) and amount in allowed


def _in_words(allowed: Allowed, value: Any_) -> str:
    if isinstance(allowed, tuple):
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and allowed.high == 1 and 2 <= cast(float, value) <= 100:
        return f"{allowed.words}; {value} percent is written `{value}%`"
    return allowed.words
