"""Syntax trees as short text for tables of cases: operators first, every part in brackets."""

from dataclasses import fields

from fml.dsl import ast

OMITTED = {"span", "name_span", "doc"}


def shown(part: object) -> str:
    """Write a tree: expressions as `(+ a (* b c))`, all else as `Class(field, ...)`."""
    match part:
        case ast.Number(value):
            return repr(value)
        case ast.Name(name):
            return name
        case ast.Binary(operator, left, right):
            return f"({operator} {shown(left)} {shown(right)})"
        case ast.Unary(operator, operand):
            return f"({operator} {shown(operand)})"
        case ast.Pipe(value, into):
            return f"(|> {shown(value)} {shown(into)})"
        case ast.Range(low, high):
            return f"(.. {shown(low)} {shown(high)})"
        case ast.Argument(name, value):
            return f"{name}={shown(value)}" if name else shown(value)
        case tuple():
            return f"[{' '.join(map(shown, part))}]"
        case ast.Syntax():
            names = [f.name for f in fields(part) if f.name not in OMITTED]
            inside = " ".join(shown(getattr(part, name)) for name in names)
            return f"({type(part).__name__}{' ' if inside else ''}{inside})"
        case _:
            return repr(part)
