"""Kernels as text, for people and for golden tests."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from fml.engine.kernels.expr import Apply, Const, Expr, Load, Local, Var
from fml.engine.kernels.loops import (
    Assign,
    Declare,
    Fold,
    For,
    If,
    Kernel,
    Let,
    Statement,
    Store,
    Turn,
)
from fml.engine.kernels.nest import Read, Total

_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "quotient": "//",
    "remainder": "%", "and": "&", "or": "|", "xor": "^", "shift_left": "<<", "shift_right": ">>",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip


Names: TypeAlias = dict[int, str]


def show(kernel: Kernel) -> str:
    """A kernel, a statement a line."""
    parameters = [f"{b.name}: {b.element}" for b in kernel.buffers]
    parameters += [size.name for size in kernel.sizes]
    lines = [f"kernel {kernel.name}({', '.join(parameters)})", *_lines(kernel.body, "  ")]
    return "\n".join(lines) + "\n"


def _lines(body: Sequence[Statement], indent: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case For(var, start, stop, inner, step, lanes):
                way = f" step {step}" if step > 1 else ""
                way += f" lanes {lanes}" if lanes > 1 else ""
                yield f"{indent}for {var.name} in {show_expr(start)} .. {show_expr(stop)}{way}"
                yield from _lines(inner, indent + "  ")
            case If(condition, inner):
                yield f"{indent}if {show_expr(condition)}"
                yield from _lines(inner, indent + "  ")
            case Turn(source, source_at, source_step, to, to_at, to_step, rows, columns):
                yield (
                    f"{indent}turn {rows} x {columns} of {source.name}[{show_expr(source_at)}] "
                    f"step {source_step} to {to.name}[{show_expr(to_at)}] step {to_step}"
                )
            case _:
                parts = _used_again(statement.value)
                names: Names = {}
                for number, part in enumerate(parts):
                    yield f"{indent}%{number} = {show_expr(part, names)}"
                    names[id(part)] = f"%{number}"
                yield indent + _line(statement, names)


def _used_again(e: Expr) -> list[Expr]:
    """The operations that occur at several places of an expression, inner ones first."""
    uses: dict[int, int] = {}
    order: list[Expr] = []

    def visit(part: Expr) -> None:
        uses[id(part)] = uses.get(id(part), 0) + 1
        if uses[id(part)] == 1 and isinstance(part, Apply):
            for operand in part.operands:
                visit(operand)
            order.append(part)

    visit(e)
    return [part for part in order if uses[id(part)] > 1]


def _line(statement: Statement, names: Names) -> str:
    match statement:
        case Let(var, value):
            return f"{var.name} = {show_expr(value, names)}"
        case Declare(local, value):
            return f"local {local.name} = {show_expr(value, names)}"
        case Assign(local, value):
            return f"{local.name} <- {show_expr(value, names)}"
        case Fold(local, combine, value):
            return f"{local.name} <- {combine} {show_expr(value, names)}"
        case Store(buffer, index, value, ahead):
            fetched = f" fetching {ahead} ahead" if ahead else ""
            return f"{buffer.name}[{show_expr(index)}] <- {show_expr(value, names)}{fetched}"
        case _:
            raise TypeError(f"not a simple statement: {statement!r}")


def show_expr(e: Expr, names: Names | None = None) -> str:
    """An expression; operations of two operands stand in parentheses inside of others.

    `names` are those of parts, by identity, that are not spelt out.
    """
    known = names or {}

    def show(part: Expr) -> str:
        return known.get(id(part)) or show_expr(part, known)

    def inside(part: Expr) -> str:
        shown = show(part)
        is_long = id(part) not in known and isinstance(part, Apply) and part.function in _SIGNS
        return f"({shown})" if is_long else shown

    match e:
        case Const(value, element):
            return f"{value:g}" if element.is_float else str(value)
        case Var(name) | Local(name):
            return name
        case Load(buffer, at, guard, otherwise, ahead):
            fetched = f" fetching {ahead} ahead" if ahead else ""
            return f"{buffer.name}[{show(at)}{fetched}{_guard(guard, otherwise)}]"
        case Read(place, indices, _, _, guard, otherwise):
            shown = ", ".join(map(show, indices))
            return f"#{place}[{shown}{_guard(guard, otherwise)}]"
        case Total():
            return "total"
        case Apply(function, (a, b), _) if function in _SIGNS:
            return f"{inside(a)} {_SIGNS[function]} {inside(b)}"
        case Apply("convert", (a,), element):
            return f"{element}({show(a)})"
        case Apply(function, operands, _):
            return f"{function}({', '.join(map(show, operands))})"
        case _:
            raise TypeError(f"not an expression: {e!r}")


def _guard(guard: Expr | None, otherwise: float) -> str:
    return "" if guard is None else f" if {show_expr(guard)} else {otherwise:g}"
