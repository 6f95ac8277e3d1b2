"""Source -> syntax tree, or diagnostics: the first stage, which no input can crash."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from fml.dsl import ast
from fml.dsl.layout import InsideBracket, Layout, TooDeep
from fml.dsl.tables import load_tables
from fml.dsl.tree import ToSyntax
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.source import Source, Span

Parsed = TypeVar("Parsed")
_DECLARATIONS = (
    "option", "import", "from", "data", "fn", "layer", "model", "optimizer", "strategy", "train",
)  # fmt: skip
_TOP = re.compile(rf"^(?:(?:{'|'.join(_DECLARATIONS)})\b|[^\W\d]\w*[ \t]*=(?!=))", re.MULTILINE)
_STATEMENTS = (
    "param", "state", "feed", "minimize", "using", "descend", "measure", "stop", "keep", "log",
    "every", "when", "seed", "precision", "each", "use", "learners", "split", "if",
)  # fmt: skip
_WORDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": "a string", "UNIT": "a unit such as `epochs`",
    "_NL": "a new line", "_SEMI": "`;`", "$END": "the end of the file", "COMPARE": "a comparison",
    "DIRECTION": "`falling` or `rising`", "WHICH": "`lowest` or `highest`", "WILD": "`*`",
}  # fmt: skip
_BEGINS_EXPRESSION = frozenset({"NAME", "NUMBER", "STRING", "_LPAR", "_LSQB", "MINUS", "TRUE"})
_OPERATORS = frozenset({
    "PLUS", "MINUS", "STAR", "SLASH", "AT", "CARET", "COMPARE", "AND", "OR", "_PIPE", "_RANGE",
    "UNIT", "_DOT", "_LPAR", "_LSQB",
})  # fmt: skip


def parse(source: Source) -> ast.File:
    """Return a file's syntax tree.

    Raises:
        FmlError: what is not fml, the first fault of each declaration, in order.
    """
    try:
        return _parse(source, "start", lambda tree: tree)
    except FmlError as first:
        found = [*first.diagnostics]
        for part in _parts(source):
            try:
                _parse(part, "start", lambda tree: tree)
            except FmlError as more:
                found += [_in_whole(d, source) for d in more.diagnostics]
        # A part that is whole beside a fault elsewhere has nothing to add.
        raise FmlError(found) from None


def parse_expression(source: Source) -> ast.Expression:
    """Return one expression, as of `name=value` on a command line.

    Raises:
        FmlError: it is no expression.
    """
    return _parse(source, "expr", lambda tree: tree)


def _parse(source: Source, start: str, wanted: Callable[[object], object]) -> "ast.File":
    text = source.text.removeprefix("\ufeff")
    try:
        text.encode("utf-8")
        tree = cast("Tree[Token]", _lark().parse(text, start=start))
        made = ToSyntax(source).transform(tree)
    except UnicodeEncodeError as bad:
        raise _at(source, bad.start, "E0101", "this is not a character of any text") from None
    except InsideBracket as inside:
        raise _unclosed(source, inside.bracket) from None
    except TooDeep as deep:
        raise _at_token(source, deep.bracket, "E0107", "nested too deeply") from None
    except RecursionError:
        raise _at(source, 0, "E0107", "this is nested too deeply to be read") from None
    except VisitError as wrapped:
        if isinstance(wrapped.orig_exc, FmlError):
            raise wrapped.orig_exc from None
        if isinstance(wrapped.orig_exc, RecursionError):
            raise _at(source, 0, "E0107", "this is nested too deeply to be read") from None
        raise
    except UnexpectedInput as unexpected:
        raise _explain(source, text, unexpected) from None
    return cast("ast.File", wanted(made))


@cache
def _lark() -> Lark:
    return load_tables(Layout())


# --- several faults of one file ----------------------------------------------------------------


def _parts(source: Source) -> Iterable[Source]:
    """The declarations, each on the lines that it has in the whole file."""
    starts = [m.start() for m in _TOP.finditer(source.text)]
    for start, end in zip(starts, [*starts[1:], len(source.text)], strict=False):
        above = source.text.count("\n", 0, start)
        yield Source(source.name, "\n" * above + source.text[start:end])


def _in_whole(diagnostic: Diagnostic, source: Source) -> Diagnostic:
    """The same diagnostic with its marks in the whole file."""
    marks = tuple(
        Mark(
            Span(source, m.span.line, m.span.column, m.span.end_line, m.span.end_column), m.text
        )
        for m in diagnostic.marks
    )
    return Diagnostic(diagnostic.code, diagnostic.message, marks, diagnostic.notes, diagnostic.help)


# --- what was not understood -------------------------------------------------------------------


def _explain(source: Source, text: str, unexpected: UnexpectedInput) -> FmlError:
    opened = _open_bracket(text, unexpected.pos_in_stream or 0)
    match unexpected:
        case UnexpectedToken(token=token) if token.type == "$END" or not token:
            if opened is not None:
                return _at(source, opened, "E0103", f"`{text[opened]}` is never closed")
            end = len(text.rstrip())
            return _at(source, max(end - 1, 0), "E0102", "the text ends in the middle", _expected(unexpected))
        case UnexpectedEOF():
            return _at(source, max(len(text) - 1, 0), "E0102", "the text ends in the middle")
        case UnexpectedToken(token=token):
            return _unexpected(source, token, _expected(unexpected), opened, text)
        case UnexpectedCharacters():
            return _unexpected_character(source, text, unexpected)
        case _:
            return _at(source, 0, "E0101", "this is not fml")


def _unexpected(
    source: Source, token: Token, expected: str, opened: int | None, text: str
) -> FmlError:
    word = str(token) if token.type not in {"_NL", "_SEMI"} else "the end of the statement"
    shown = f"`{word}`" if token.type not in {"_NL", "_SEMI"} else word
    notes = []
    if opened is not None and text[opened] in "([":
        line = text.count("\n", 0, opened) + 1
        column = opened - (text.rfind("\n", 0, opened) + 1) + 1
        return FmlError([Diagnostic(
            "E0103", f"`{text[opened]}` is not closed before {shown}",
            (Mark(Span(source, line, column, line, column + 1), "opened here"),
             Mark(_token_span(source, token), "found this")), (), expected,
        )])  # fmt: skip
    near = did_you_mean(str(token), _STATEMENTS) if token.type == "NAME" else ""
    return FmlError([Diagnostic(
        "E0102", f"{shown} is not expected here", (Mark(_token_span(source, token)),), tuple(notes), near or expected
    )])  # fmt: skip


def _unexpected_character(
    source: Source, text: str, unexpected: UnexpectedCharacters
) -> FmlError:
    at = unexpected.pos_in_stream or 0
    character = text[at] if at < len(text) else ""
    if character == '"':
        return _at(source, at, "E0101", "this string is not closed on its line", "end it with `\"`")
    word = re.match(r"[^\W\d]\w*", text[at:])
    if word:
        before = text[text.rfind("\n", 0, at) + 1 : at].strip()
        at_start = not before or before.endswith(("{", ";"))
        near = did_you_mean(word[0], _DECLARATIONS if at_start else _STATEMENTS)
        return _at(source, at, "E0102", f"`{word[0]}` is not expected here",
                   near or _expected_of(unexpected.allowed or ()), len(word[0]))
    number = re.match(r"[\d.][\w.]*", text[at:])
    if number and at + len(number[0]) <= len(text) and _is_allowed(unexpected):
        return _at(source, at, "E0101", f"`{number[0]}` is not a number", "", len(number[0]))
    shown = character if character.isprintable() else f"U+{ord(character or ' '):04X}"
    known = any(character in symbol for symbol in "+-*/@^=<>!(){}[],:~.|;")
    if known or number:
        what = number[0] if number else character
        return _at(source, at, "E0102", f"`{what}` is not expected here",
                   _expected_of(unexpected.allowed or ()), len(what))
    return _at(source, at, "E0101", f"the character `{shown}` has no meaning in fml")


def _is_allowed(unexpected: UnexpectedCharacters) -> bool:
    return "NUMBER" in (unexpected.allowed or ())


def _expected(unexpected: UnexpectedToken) -> str:
    return _expected_of(unexpected.accepts or unexpected.expected)


def _expected_of(names: Iterable[str]) -> str:
    """Say in the language's words what could stand here."""
    allowed = set(names) - {"GOES_ON", "BLANK", "COMMENT"}
    words: list[str] = []
    if allowed >= _BEGINS_EXPRESSION:
        words.append("an expression")
        allowed -= _BEGINS_EXPRESSION | {"NOT", "_IF", "FALSE", "TRUE"}
    if len(allowed & _OPERATORS) > 6:
        words.append("an operator")
        allowed -= _OPERATORS | {"NOT"}
    if allowed >= {"_NL", "_SEMI"}:
        words.append("the end of the statement")
        allowed -= {"_NL", "_SEMI"}
    words += sorted(_word(name) for name in allowed)
    if not words or len(words) > 8:
        return ""
    listed = ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]
    return f"expected {listed}"


def _word(name: str) -> str:
    if name in _WORDS:
        return _WORDS[name]
    pattern = _patterns().get(name, name.strip("_").lower())
    return f"`{pattern}`"


@cache
def _patterns() -> dict[str, str]:
    return {t.name: t.pattern.value for t in _lark().terminals if t.pattern.type == "str"}


def _open_bracket(text: str, before: int) -> int | None:
    """Where the innermost bracket stands that is open at a position, or None."""
    opened: list[int] = []
    for match in re.finditer(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|[()\[\]{}]', text[:before]):
        if match[0] in "([{":
            opened.append(match.start())
        elif match[0] in ")]}" and opened:
            opened.pop()
    return opened[-1] if opened else None


def _unclosed(source: Source, bracket: Token) -> FmlError:
    return _at_token(source, bracket, "E0103", f"`{bracket}` is not closed before the `;`")


def _at_token(source: Source, token: Token, code: str, message: str) -> FmlError:
    return FmlError([Diagnostic(code, message, (Mark(_token_span(source, token)),))])


def _token_span(source: Source, token: Token) -> Span:
    line, column = token.line or 1, token.column or 1
    if token.type in {"_NL", "_SEMI"}:
        return Span(source, line, column, line, column + 1)
    return Span(source, line, column, token.end_line or line, token.end_column or column + 1)


def _at(
    source: Source, position: int, code: str, message: str, help: str = "", length: int = 1
) -> FmlError:
    text = source.text.removeprefix("\ufeff")
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    span = Span(source, line, column, line, column + length)
    return FmlError([Diagnostic(code, message, (Mark(span),), (), help)])
