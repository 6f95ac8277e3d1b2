"""Kernels as text, for people and for golden tests."""

from collections.abc import Iterator, Sequence

from fml.engine.kernels.expr import Apply, Const, Expr, Load, Local, Var
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Kernel, Let, Statement, Store
from fml.engine.kernels.nest import Read, Total

_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "quotient": "//",
    "remainder": "%", "and": "&", "or": "|", "xor": "^", "shift_left": "<<", "shift_right": ">>",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip


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
            case _:
                yield indent + _line(statement)


def _line(statement: Statement) -> str:
    match statement:
        case Let(var, value):
            return f"{var.name} = {show_expr(value)}"
        case Declare(local, value):
            return f"local {local.name} = {show_expr(value)}"
        case Assign(local, value):
            return f"{local.name} <- {show_expr(value)}"
        case Fold(local, combine, value):
            return f"{local.name} <- {combine} {show_expr(value)}"
        case Store(buffer, index, value):
            return f"{buffer.name}[{show_expr(index)}] <- {show_expr(value)}"
        case _:
            raise TypeError(f"not a simple statement: {statement!r}")


def show_expr(e: Expr) -> str:
    """An expression; operations of two operands stand in parentheses inside of others."""
    match e:
        case Const(value, element):
            return f"{value:g}" if element.is_float else str(value)
        case Var(name) | Local(name):
            return name
        case Load(buffer, at, guard, otherwise):
            return f"{buffer.name}[{show_expr(at)}{_guard(guard, otherwise)}]"
        case Read(place, indices, _, _, guard, otherwise):
            shown = ", ".join(map(show_expr, indices))
            return f"#{place}[{shown}{_guard(guard, otherwise)}]"
        case Total():
            return "total"
        case Apply(function, (a, b), _) if function in _SIGNS:
            return f"{_inside(a)} {_SIGNS[function]} {_inside(b)}"
        case Apply("convert" | "bits" as function, (a,), element):
            return (
                f"{element}({show_expr(a)})" if function == "convert" else f"bits({show_expr(a)})"
            )
        case Apply(function, operands, _):
            return f"{function}({', '.join(map(show_expr, operands))})"
        case _:
            raise TypeError(f"not an expression: {e!r}")


def _inside(e: Expr) -> str:
    match e:
        case Apply(function, (_, _), _) if function in _SIGNS:
            return f"({show_expr(e)})"
        case _:
            return show_expr(e)


def _guard(guard: Expr | None, otherwise: float) -> str:
    return "" if guard is None else f" if {show_expr(guard)} else {otherwise:g}"
