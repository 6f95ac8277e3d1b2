"""Syntax tree -> text: prints any tree so that parsing the text gives an equal tree.

Comments with one `#` are not in the tree and so not in the text; doc comments are in both.
"""

import re
from collections.abc import Iterable, Iterator

from fml.dsl import ast
from fml.dsl.explain import PLAN_WORDS

WIDTH = 100
_LEVELS = {
    "or": 2, "and": 3, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5,
    "+": 7, "-": 7, "*": 8, "/": 8, "@": 8, "^": 10,
}  # fmt: skip
_IF, _PIPE, _NOT, _COMPARISON, _RANGE, _SUM, _NEGATION, _POWER, _POSTFIX = (
    0, 1, 4, 5, 6, 7, 9, 10, 11,
)  # fmt: skip
# The one place that may begin with a word of plans.
_LEARNERS = re.compile(r"learners(?:\.(?:\w+|\*\*?))+")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def format_file(file: ast.File) -> str:
    """Return a file's text: two spaces a level, at most 100 columns where a pipe can be broken.

    Declarations stand an empty line apart, but options, constants and imports under each other.
    """
    parts: list[str] = []
    before: ast.Declaration | None = None
    for declaration in file.declarations:
        if before is not None:
            parts.append("" if _is_line(before) and _is_line(declaration) else "\n")
        parts.append(_declaration(declaration) + "\n")
        before = declaration
    return "".join(parts)


def format_expression(e: ast.Expression) -> str:
    """Return an expression's text on one line, with the fewest parentheses."""
    return _at(e, _IF)


# --- declarations --------------------------------------------------------------------------------


def _is_line(d: ast.Declaration) -> bool:
    return isinstance(d, ast.Option | ast.Constant | ast.Import | ast.ImportFrom)


def _declaration(d: ast.Declaration) -> str:
    match d:
        case ast.Import(path, name):
            return f"import {_at(path)} as {name}"
        case ast.ImportFrom(path, names):
            return f"from {_at(path)} import {_names(names)}"
        case ast.Option(name, default, allowed, doc):
            within = f" in {_allowed(allowed)}" if allowed else ""
            return _with_doc(f"option {name} = {_at(default)}{within}", doc, behind=True)
        case ast.Constant(name, value, doc):
            return _with_doc(_set(f"{name} = ", value), doc, behind=True)
        case ast.Data():
            return _with_doc(_data(d), d.doc)
        case ast.Function(name, parameters, result, body):
            return _with_doc(_defined(f"fn {name}{_parameters(parameters)}", result, body), d.doc)
        case ast.Layer():
            lists = _parameters(d.attributes) if d.attributes else ""
            head = f"{d.kind} {d.name}{lists}{_parameters(d.parameters)}"
            return _with_doc(_defined(head, d.result, d.body), d.doc)
        case ast.Optimizer(name, parameters, body):
            return _with_doc(_plan(f"optimizer {name}{_parameters(parameters)}", body), d.doc)
        case ast.Strategy(name, parameters, body):
            return _with_doc(_plan(f"strategy {name}{_parameters(parameters)}", body), d.doc)
        case ast.Train(name, body, doc):
            return _with_doc(_plan(f"train {name}".rstrip(), body), doc)


def _with_doc(text: str, doc: str, *, behind: bool = False) -> str:
    if not doc:
        return text
    beside = f"{text}  ## {doc}"
    if behind and "\n" not in beside and len(beside) <= WIDTH:
        return beside
    return "\n".join([*(f"## {line}".rstrip() for line in doc.split("\n")), text])


def _data(d: ast.Data) -> str:
    lines = [*map(_field, d.fields), *map(_split, d.splits)]
    return f"data {d.name} = {_at(d.source, _POSTFIX)} {_braced(lines)}"


def _field(f: ast.DataField) -> str:
    head = f"{f.name}: {_type(f.type)}"
    return _set(f"{head} = ", f.value, 2) if f.value else head


def _split(s: ast.SplitBy) -> str:
    parts = ", ".join(f"{p.name} {_at(p.amount, _POSTFIX)}" for p in s.parts)
    of = f" from {s.of}" if s.of else ""
    by = f" by {_at(s.by, _POSTFIX)}" if s.by else ""
    return f"split {parts}{of}{by}"


def _parameters(parameters: Iterable[ast.Parameter]) -> str:
    return f"({', '.join(map(_parameter, parameters))})"


def _parameter(p: ast.Parameter) -> str:
    type = f": {_type(p.type)}" if p.type else ""
    default = f" = {_at(p.default)}" if p.default else ""
    return f"{p.name}{type}{default}" + (f" in {_allowed(p.allowed)}" if p.allowed else "")


def _allowed(allowed: ast.Expression | ast.Interval) -> str:
    if not isinstance(allowed, ast.Interval):
        return _at(allowed)
    high = f" {_at(allowed.high, _SUM)}" if allowed.high is not None else ""
    return f"{_at(allowed.low, _SUM)} {allowed.sign}{high}"


def _type(t: ast.Type) -> str:
    classes = f"[{_at(t.classes)}]" if t.classes else ""
    axes = "" if t.axes is None else f"[{', '.join(map(_item, t.axes))}]"
    return f"{t.name}{classes}{axes}"


def _defined(head: str, result: ast.Type | None, body: ast.Expression | ast.Block) -> str:
    head += f" -> {_type(result)}" if result else ""
    if not isinstance(body, ast.Block):
        line = f"{head} = {_at(body)}"
        return line if len(line) <= WIDTH else f"{head} =\n  {_set('', body, 2)}"
    value = _guarded(_set("", body.value, 2), body.value, ("param", "state"))
    return f"{head} " + _braced([*(_statement(s, 2) for s in body.statements), value])


def _plan(head: str, body: Iterable[ast.Statement], indent: int = 0) -> str:
    return f"{head} " + _braced([_statement(s, indent + 2) for s in body], indent)


def _braced(lines: Iterable[str], indent: int = 0) -> str:
    inside = "".join(f"{' ' * (indent + 2)}{line}\n" for line in lines)
    return "{\n" + inside + " " * indent + "}" if inside else "{ }"


# --- statements ----------------------------------------------------------------------------------


def _statement(s: ast.Statement, indent: int) -> str:
    match s:
        case ast.Bind(name, value):
            return _set(f"{name} = ", value, indent)
        case ast.Assign(place, value):
            head = _guarded(_at(place, _POSTFIX), place, (*PLAN_WORDS, "param", "state"))
            return _set(f"{head} <- ", value, indent)
        case ast.Param(name, type, initial, where):
            limit = f" where {_at(where)}" if where else ""
            return f"param {name}: {_type(type)} ~ {_at(initial)}{limit}"
        case ast.State(name, type, initial):
            written = _type(type) if isinstance(type, ast.Type) else _maybe("", type)
            return f"state {name}{written and ': '}{written} ~ {_at(initial)}"
        case ast.Each(parameter, gradient, at, body):
            head = f"each {parameter.name}, {gradient.name}{_maybe(' at ', at)}"
            return _plan(head, body, indent)
        case ast.Every(duration, body):
            return _plan(f"every {_at(duration)}", body, indent)
        case ast.When(condition, body):
            return _plan(f"when {_at(condition)}", body, indent)
        case ast.Learners():
            return _learners(s, indent)
        case _:
            return " ".join(_words(s, indent))


def _words(s: ast.Statement, indent: int) -> Iterator[str]:
    """The statements that are one line, piece by piece."""
    match s:
        case ast.FeedFrom(names, source):
            yield _set(f"feed {_names(names)} from ", source, indent)
        case ast.Minimize(name, value, over):
            head = f"minimize {name} = " if name else "minimize "
            yield _set(head, value, indent) + _maybe(" over ", over)
        case ast.Using(optimizer):
            yield _set("using ", optimizer, indent)
        case ast.Descend(place, along, optimizer):
            yield f"descend {_at(place)} along {_at(along)} using {_at(optimizer)}"
        case ast.Measure(measured, on, every):
            yield f"measure {', '.join(map(_measured, measured))} on {_at(on)}"
            if every is not None:
                yield "at end" if isinstance(every, str) else f"every {_at(every)}"
        case ast.Log(value, name, every):
            yield f"log {_at(value)}{_as(name)}{_maybe(' every ', every)}"
        case ast.Keep(which, value):
            yield f"keep {which} {_at(value)}"
        case ast.Seed(value):
            yield f"seed {_at(value)}"
        case ast.Precision(element):
            yield f"precision {element.name}"
        case ast.Use(strategy):
            yield _set("use ", strategy, indent)
        case _:
            yield from _stops(s)


def _stops(s: ast.Statement) -> Iterator[str]:
    match s:
        case ast.StopAfter(duration):
            yield f"stop after {_at(duration)}"
        case ast.StopWhen(condition):
            yield f"stop when {_at(condition)}"
        case ast.StopStalled(value, direction, duration):
            yield f"stop when {_at(value)} stops {direction} for {_at(duration)}"
        case _:
            raise TypeError(f"no statement: {s!r}")


def _learners(s: ast.Learners, indent: int) -> str:
    settings = "".join(f", {a.name} = {_at(a.value)}" for a in s.settings)
    head = f"learners {_at(s.count)} per device{_maybe(' on ', s.on)}{settings}"
    if s.body is None:
        return head + _maybe(" by ", s.by)
    return _plan(head, s.body, indent)


def _measured(m: ast.Measured) -> str:
    return _at(m.value) + _as(m.name)


def _as(name: str | None) -> str:
    return "" if name is None else f" as {_string(name)}"


def _maybe(before: str, e: ast.Expression | None) -> str:
    return before + _at(e) if e is not None else ""


def _names(names: Iterable[ast.Name]) -> str:
    return ", ".join(n.name for n in names)


def _guarded(text: str, e: ast.Expression, words: Iterable[str]) -> str:
    """Put parentheses round a name with which an expression would begin another statement."""
    first = _leftmost_name(e)
    alone = first not in words or not text.startswith(first) or _LEARNERS.fullmatch(text)
    return text if alone else f"({first}){text.removeprefix(first)}"


def _leftmost_name(e: ast.Expression) -> str:
    while True:
        match e:
            case ast.Name(name):
                return name
            case ast.Call(left, _) | ast.Index(left, _) | ast.Attribute(left, _):
                e = left
            case ast.Quantity(left, _) | ast.Range(left, _) | ast.Pipe(left, _):
                e = left
            case ast.Binary(_, left, _):
                e = left
            case _:
                return ""


def _set(head: str, e: ast.Expression, indent: int = 0) -> str:
    """Put an expression behind its head, on several lines where one would be too long."""
    text = head + _at(e)
    if indent + len(text) <= WIDTH:
        return text
    return head + f"\n{' ' * (indent + 2)}".join(_pieces(e))


def _pieces(e: ast.Expression) -> list[str]:
    """The lines of a long expression: the stages of a pipe, the branches of an `if`."""
    pieces: list[str] = []
    match e:
        case ast.Pipe():
            while isinstance(e, ast.Pipe):
                pieces.insert(0, f"|> {_at(e.into, _POSTFIX)}")
                e = e.value
            pieces.insert(0, _at(e, _PIPE))
        case ast.If():
            before = ""
            while isinstance(e, ast.If):
                pieces.append(f"{before}if {_at(e.condition)} then {_at(e.then)}")
                before, e = "else ", e.otherwise
            pieces.append(before + _at(e))
        case _:
            pieces.append(_at(e))
    return pieces


# --- expressions ---------------------------------------------------------------------------------


def _at(e: ast.Expression, level: int = _IF) -> str:
    """Write an expression where one of at least a level may stand: looser ones in parentheses."""
    text, own = _written(e)
    return text if own >= level else f"({text})"


def _written(e: ast.Expression) -> tuple[str, int]:
    """Write an expression, and say how tight it is."""
    match e:
        case ast.If(condition, then, otherwise):
            return f"if {_at(condition)} then {_at(then)} else {_at(otherwise)}", _IF
        case ast.Pipe(value, into):
            return f"{_at(value, _PIPE)} |> {_at(into, _POSTFIX)}", _PIPE
        case ast.Unary("not", operand):
            return f"not {_at(operand, _NOT)}", _NOT
        case ast.Unary(operator, operand):
            return f"{operator}{_at(operand, _NEGATION)}", _NEGATION
        case ast.Range(low, high):
            return f"{_at(low, _SUM)} .. {_at(high, _SUM)}", _RANGE
        case ast.Binary():
            return _binary(e), _LEVELS[e.operator]
        case _:
            return _postfix(e), _POSTFIX


def _binary(e: ast.Binary) -> str:
    level = _LEVELS[e.operator]
    left, right = level, level + 1
    if level == _COMPARISON:
        left = level + 1
    elif level == _POWER:
        negated = isinstance(e.right, ast.Unary) and e.right.operator == "-"
        left, right = _POSTFIX, _NEGATION if negated else _POWER
    space = "" if level == _POWER else " "
    return f"{_at(e.left, left)}{space}{e.operator}{space}{_at(e.right, right)}"


def _postfix(e: ast.Expression) -> str:
    match e:
        case ast.Number(_, text) | ast.Name(text):
            return text
        case ast.String(value):
            return _string(value)
        case ast.Boolean(value):
            return "true" if value else "false"
        case ast.Quantity(amount, unit):
            one = isinstance(amount, ast.Number) and amount.value == 1
            return f"{_at(amount, _POSTFIX)} {unit[:-1] if one else unit}"
        case ast.ListOf(items):
            return f"[{', '.join(map(_at, items))}]"
        case ast.Call(function, arguments):
            return f"{_at(function, _POSTFIX)}({', '.join(map(_argument, arguments))})"
        case ast.Index(value, items):
            return f"{_at(value, _POSTFIX)}[{', '.join(map(_item, items))}]"
        case ast.Attribute(value, name):
            return f"{_at(value, _POSTFIX)}.{name}"
        case _:
            raise TypeError(f"no expression: {e!r}")


def _argument(a: ast.Argument) -> str:
    return _at(a.value) if a.name is None else f"{a.name} = {_at(a.value)}"


def _item(item: ast.Expression | ast.Slice | ast.All | ast.Dots) -> str:
    match item:
        case ast.Slice(low, high):
            return f"{_maybe('', low)}:{_maybe('', high)}"
        case ast.All():
            return "*"
        case ast.Dots():
            return "..."
        case _:
            return _at(item)


def _string(value: str) -> str:
    return f'"{value.translate(_ESCAPES)}"'
