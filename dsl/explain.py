"""What to say about a text that is not fml: faults of the reader -> diagnostics.

Everything is said in the language's words; Lark's names of terminals stay in here.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from lark import Token

from fml.dsl.habits import habit
from fml.dsl.layout import BRACKETS, OPENS, SEPARATOR
from fml.engine.ir.diagnostics import Diagnostic, Mark, did_you_mean
from fml.engine.ir.source import Source, Span

DECLARATION_WORDS = (
    "option", "import", "from", "data", "fn", "layer", "model", "optimizer", "strategy", "train",
)  # fmt: skip
PLAN_WORDS = (
    "feed", "minimize", "using", "descend", "measure", "stop", "keep", "log", "every", "when",
    "seed", "precision", "each", "use", "learners",
)  # fmt: skip
STATEMENT_WORDS = (*PLAN_WORDS, "param", "state", "split")
EXPRESSION_WORDS = frozenset({"if", "then", "else", "and", "or", "not", "true", "false"})

_HOMES = {
    **dict.fromkeys(PLAN_WORDS, "in a plan, `train { ... }`"),
    **dict.fromkeys(DECLARATION_WORDS, "outside all braces"),
    "param": "in a layer or model",
    "state": "in a layer, plan, strategy or optimizer",
    "split": "in `data ... { ... }`",
}
_SYMBOLS = {
    "_PUT": "<-", "_ARROW": "->", "_PIPE": "|>", "_RANGE": "..", "_DOTS": "...", "_EQUALS": "=",
    "ABOVE": "<..", "BELOW": "..<", "BETWEEN": "<..<",
    "_COMMA": ",", "_COLON": ":", "_TILDE": "~", "_DOT": ".", "_LPAR": "(", "_RPAR": ")",
    "_LSQB": "[", "_RSQB": "]", "_LBRACE": "{", "_RBRACE": "}", "PLUS": "+", "MINUS": "-",
    "STAR": "*", "SLASH": "/", "AT": "@", "CARET": "^", "WILD": "*",
}  # fmt: skip
_KINDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": 'a string in `"`', "UNIT": "a unit",
    "DIRECTION": "`falling` or `rising`", "WHICH": "`lowest` or `highest`",
    "$END": "the end of the file",
}  # fmt: skip
_EXPRESSION = frozenset({
    "NAME", "NUMBER", "STRING", "TRUE", "FALSE", "_LPAR", "_LSQB", "MINUS", "NOT", "_IF",
})  # fmt: skip
_OPERATORS = frozenset({
    "PLUS", "MINUS", "STAR", "SLASH", "AT", "CARET", "COMPARE", "AND", "OR", "_PIPE", "_RANGE",
    "UNIT", "_DOT", "_LPAR", "_LSQB",
})  # fmt: skip
_STATEMENTS = "a plan holds statements: `name = value`, `place <- value`, `minimize ...`"
_DECLARATIONS = "a file holds declarations: `name = value`, `data`, `fn`, `model`, `train`, ..."
_INSTEAD = {
    "&": "write `and`", "|": "write `or`, or `|>` for a pipe", "!": "write `not`, or `!=`",
    "%": "write a percentage without a space, `10%`, and a remainder as `mod(a, b)`",
    "'": 'strings stand in `"`', "“": 'strings stand in `"`', "”": 'strings stand in `"`',
    "\\": "a line goes on behind an operator or a comma, and inside brackets",
    "×": "write `*`", "·": "write `*`", "÷": "write `/`", "−": "write `-`", "–": "write `-`",
    "²": "write `^2`", "³": "write `^3`", "≤": "write `<=`", "≥": "write `>=`", "≠": "write `!=`",
    "←": "write `<-`", "→": "write `->`", "∥": "write `norm(x)`", "\u00a0": "write a plain space",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where a text stopped being fml, and what the parser knew there.

    `token` is what fits nowhere: of type `$CHARACTER` where no token begins at all, `$END` at
    the end. `expected` would have fitted; `beginnings` would have fitted where the statement
    began, with `first`. `last` came before the token; `opened` are the open brackets.
    """

    source: Source
    text: str
    token: Token
    expected: frozenset[str]
    beginnings: frozenset[str]
    opened: tuple[Token, ...]
    first: Token | None
    last: Token | None

    @property
    def declaration(self) -> Token | None:
        """What came last if that begins a line like a declaration, but was read as a name."""
        last = self.last
        if last is None or last.type != "NAME" or last not in DECLARATION_WORDS:
            return None
        return last if self._begins_line(last) else None

    @property
    def next_statement(self) -> Token | None:
        """The name before an unexpected `=` or `<-` if it begins a line, in the middle of this."""
        last = self.last
        if last is None or last is self.first or last.type != "NAME" or self.in_bracket:
            return None
        follows = self.token.type in {"_EQUALS", "_PUT"} and self._begins_line(last)
        return last if follows else None

    @property
    def in_bracket(self) -> bool:
        """The innermost open bracket is no brace."""
        return bool(self.opened) and self.opened[-1].type in BRACKETS

    @property
    def begins_statement(self) -> bool:
        """What fits nowhere is a word that begins statements, at the beginning of a line."""
        words = {*STATEMENT_WORDS, *DECLARATION_WORDS}
        return self.token in words and self._begins_line(self.token)

    def _begins_line(self, token: Token) -> bool:
        position = token.start_pos or 0
        return not self.text[self.text.rfind("\n", 0, position) + 1 : position].strip()


def explain(fault: Fault) -> Diagnostic:
    """Say what is wrong at a fault, and the way out."""
    token = fault.token
    if token.type == "$END":
        return _at_end(fault)
    if token.type == "$CHARACTER":
        return _character(fault, token.start_pos or 0)
    if token.type == "NAME" and not token.isidentifier():
        length = next(n for n in range(1, len(token) + 1) if not token[:n].isidentifier())
        return _character(fault, (token.start_pos or 0) + length - 1)
    meant = habit(fault.text, token, fault.first, fault.last)
    if meant is not None:
        mark = Mark(_span(fault, meant.token))
        return Diagnostic("E0102", meant.message, (mark,), (), meant.help)
    if token in EXPRESSION_WORDS and fault.expected >= {"NAME"} and token.type == "NAME":
        return Diagnostic(
            "E0102", f"`{token}` is a word of the language, and no name",
            (Mark(_span(fault, token)),), (), f"call it `{token}_`",
        )  # fmt: skip
    return _misplaced(fault) or _run_on(fault) or _inside_bracket(fault) or _unexpected(fault)


def too_deep(source: Source, token: Token) -> Diagnostic:
    """Say that what begins with a token is nested beyond all reading."""
    line, column = token.line or 1, token.column or 1
    span = Span(source, line, column, line, column + 1)
    return Diagnostic(
        "E0107", "this is nested too deeply", (Mark(span),), (), "bind an inner part to a name"
    )


def surrogate(source: Source, position: int) -> Diagnostic:
    """Say that half a character, or a byte that is none, stands at a position."""
    code = ord(source.text[position])
    # Bytes that cannot be decoded come as these (PEP 383).
    byte = f"the byte 0x{code - 0xDC00:02X} is not UTF-8" if 0xDC80 <= code <= 0xDCFF else ""
    return Diagnostic(
        "E0101", byte or f"U+{code:04X} is half a character, and no text",
        (Mark(_place(source, source.text, position, 1)),), (), "save the file as UTF-8",
    )  # fmt: skip


# --- one kind of fault each ----------------------------------------------------------------------


def _at_end(fault: Fault) -> Diagnostic:
    if fault.opened:
        bracket = fault.opened[-1]
        closing = {"(": ")", "[": "]", "{": "}"}[str(bracket)]
        return Diagnostic(
            "E0103", f"`{bracket}` is never closed", (Mark(_span(fault, bracket)),), (),
            f"close it with `{closing}`",
        )  # fmt: skip
    return Diagnostic(
        "E0102", "the text ends in the middle of a statement", (Mark(_behind(fault)),), (),
        _expected(fault.expected - {SEPARATOR}),
    )  # fmt: skip


def _character(fault: Fault, position: int) -> Diagnostic:
    character = fault.text[position]
    mark = Mark(_place(fault.source, fault.text, position, 1))
    if character == '"':
        return Diagnostic(
            "E0109", "this string is not closed on its line", (mark,), (),
            'end it with `"`; a `"` inside is written `\\"`, a new line `\\n`',
        )  # fmt: skip
    shown = f"`{character}`"
    if not character.isprintable():
        name = unicodedata.name(character, "a control character").lower()
        shown = f"U+{ord(character):04X} ({name})"
    return Diagnostic(
        "E0101", f"{shown} has no meaning here", (mark,), (),
        _INSTEAD.get(character, "take it out, or put it in a string or comment"),
    )  # fmt: skip


def _misplaced(fault: Fault) -> Diagnostic | None:
    """The statement's first word was taken for a name, but is (nearly) a word that begins one."""
    braces = [b for b in fault.opened if b.type == "_LBRACE"]
    if braces and fault.declaration and not fault.in_bracket:
        return Diagnostic(
            "E0103", f"`{{` is not closed before `{fault.declaration}`",
            (Mark(_span(fault, braces[-1]), "opened here"),
             Mark(_span(fault, fault.declaration), "a declaration begins")), (),
            "close it with `}`",
        )  # fmt: skip
    first = fault.first
    if first is None or first.type != "NAME" or fault.last is not first or fault.in_bracket:
        return None
    words = _words(fault.beginnings)
    near = did_you_mean(str(first), words)
    if first in _HOMES:
        near = f"`{first}` stands {_HOMES[str(first)]}"
    in_plan = "_MINIMIZE" in fault.beginnings
    if not near and (in_plan or not braces) and fault.token.type in {"NAME", "NUMBER", "STRING"}:
        near = _STATEMENTS if in_plan else _DECLARATIONS
    if not near or not fault.expected & {"_EQUALS", "_COLON"}:
        return None
    what = "statement" if braces else "declaration"
    return Diagnostic(
        "E0102", f"`{first}` begins no {what} here", (Mark(_span(fault, first)),), (), near
    )


def _run_on(fault: Fault) -> Diagnostic | None:
    """A statement that was not complete when the next began."""
    following = fault.next_statement
    if following is None:
        return None
    return Diagnostic(
        "E0102", f"the statement before `{following}` is not complete",
        (Mark(_span(fault, following)),), (),
        "behind an operator, `=` or `,` a statement goes on on the next line",
    )  # fmt: skip


def _inside_bracket(fault: Fault) -> Diagnostic | None:
    if not fault.in_bracket:
        return None
    bracket = fault.opened[-1]
    closable = OPENS[bracket.type] in fault.expected and "NAME" not in fault.expected
    shown = _shown(fault.token)
    message = f"`{bracket}` is not closed before {shown}" if closable else (
        f"{shown} is not expected inside this `{bracket}`"
    )  # fmt: skip
    marks = Mark(_span(fault, bracket), "opened here"), Mark(_span(fault, fault.token))
    # A statement that begins on a line of its own is not what was misspelt.
    closes = closable and fault.begins_statement
    way_out = f"close it with `{_SYMBOLS[OPENS[bracket.type]]}`" if closes else _way_out(fault)
    return Diagnostic("E0103", message, marks, (), way_out)


def _unexpected(fault: Fault) -> Diagnostic:
    if fault.token.type == SEPARATOR:
        message, span = "the statement is not complete", _behind(fault)
    else:
        message, span = f"{_shown(fault.token)} is not expected here", _span(fault, fault.token)
    return Diagnostic("E0102", message, (Mark(span),), (), _way_out(fault))


def _way_out(fault: Fault) -> str:
    token, expected = fault.token, fault.expected
    if token.type == "_PUT":
        compares = "COMPARE" in expected
        return "`<-` is one symbol: write `< -` to compare" if compares else _expected(expected)
    if token.type == "_EQUALS" and "COMPARE" in expected:
        return "write `==` to compare"
    if "_PUT" in expected and (token.type == SEPARATOR or fault.last is fault.first):
        return _STATEMENTS
    if token.isidentifier() and fault.last is not None:
        near = did_you_mean(str(token), _words(expected))
        if near:
            return near
    return _expected(expected)


# --- words ---------------------------------------------------------------------------------------


def _words(terminals: Iterable[str]) -> list[str]:
    """The words of the language among terminals."""
    found: list[str] = []
    for name in terminals:
        if name in {"DIRECTION", "WHICH"}:
            found += ["falling", "rising"] if name == "DIRECTION" else ["lowest", "highest"]
        elif name == "UNIT":
            found += ["steps", "epochs", "samples", "seconds", "minutes", "hours"]
        elif name not in _SYMBOLS and name not in _KINDS and name not in {"COMPARE", SEPARATOR}:
            found.append(name.strip("_").lower())
    return found


def _expected(terminals: frozenset[str]) -> str:
    """Say what could have stood at a fault; nothing if that is nearly everything."""
    rest = set(terminals)
    said: list[str] = []
    for whole, words in ((_EXPRESSION, "an expression"), (_OPERATORS, "an operator")):
        if len(rest & whole) > len(whole) // 2:
            said.append(words)
            rest -= whole
    if SEPARATOR in rest:
        said.append("a new line")
        rest -= {SEPARATOR, "$END"}
    said += sorted({_named(name) for name in rest})
    if not said or len(said) > 7:
        return ""
    listed = ", ".join(said[:-1]) + (" or " if len(said) > 1 else "") + said[-1]
    return f"expected {listed}"


def _named(terminal: str) -> str:
    if terminal in _KINDS:
        return _KINDS[terminal]
    return f"`{_SYMBOLS.get(terminal, terminal.strip('_').lower())}`"


def _shown(token: Token) -> str:
    return f"`{token}`" if token.strip() else "the end of the line"


# --- places --------------------------------------------------------------------------------------


def _span(fault: Fault, token: Token) -> Span:
    return _place(fault.source, fault.text, token.start_pos or 0, len(token))


def _behind(fault: Fault) -> Span:
    """The column behind what came last."""
    last = fault.last
    return _place(fault.source, fault.text, (last.end_pos or 0) if last else 0, 1)


def _place(source: Source, text: str, position: int, length: int) -> Span:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return Span(source, line, column, line, column + length)
