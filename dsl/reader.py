"""Text -> Lark's tree: feeds the parser, and goes on behind a fault at the next statement.

At every `{` and every end of a statement the parser's state is kept; behind a fault the rest of
the broken statement is skipped and the parser begins anew from there, so that one reading finds
every fault of a file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken
from lark.parsers.lalr_analysis import Shift

from fml.dsl.explain import (
    DECLARATION_WORDS,
    EXPRESSION_WORDS,
    STATEMENT_WORDS,
    Fault,
    explain,
    too_deep,
)
from fml.dsl.layout import OPENS, SEPARATOR, Nesting
from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ir.source import Source

MAX_NESTING = 100
MAX_STACK = 4000  # of the parser: more than any text within the other limits needs
MAX_FAULTS = 50

_WORD = re.compile(r"[^\x00-/:-@\[-^`{-\x7F]*")  # what a name goes on with, in any script
_WORD_ENDS = r"(?!\w|[ \t]*(?:=(?!=)|<-))"
_DECLARES = re.compile(rf"(?:{'|'.join(DECLARATION_WORDS)}){_WORD_ENDS}")
_BINDS = re.compile(r"\w+[ \t]*=(?!=)")
_BEGINS = re.compile(rf"(?:\}}|(?:{'|'.join((*DECLARATION_WORDS, *STATEMENT_WORDS))}){_WORD_ENDS})")
_GOES_ON = re.compile(r"(?:\s|#[^\n]*\n)*(?:\|>|(?:then|else)\b)")
_PIECES = re.compile(
    r'(?P<blank>"(?:[^"\\\n]|\\.)*"|#[^\n]*)|(?P<begin>\{)|(?P<end>\})|(?P<open>[(\[])'
    r"|(?P<close>[)\]])|(?P<separator>\n\s*|;)|(?P<operator>[-+*/@^=<>,~:|])|(?P<other>[^\s])"
)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The parser before a statement: its two stacks, and how many brackets are open."""

    states: Sequence[int]
    values: Sequence[Any]
    depth: int


class Reader:
    """One text on its way through the parser; `found` are its faults so far."""

    def __init__(self, lark: Lark, source: Source, start: str) -> None:
        self.source = source
        self.text = readable(source.text)
        self.found: list[Diagnostic] = []
        # Lark's own driver of the parser drops what comes behind a fault; its parts do not.
        interactive = cast(Any, lark).parse_interactive(self.text, start)
        self._parser: Any = interactive.parser_state
        self._at: Any = interactive.lexer_thread.state
        self._lexer: Any = interactive.lexer_thread.lexer.lexer
        self._nesting = Nesting()
        self._first: Token | None = None
        self._last: Token | None = None
        self._checkpoints = [self._checkpoint()]

    def read(self) -> Tree[Token] | None:
        """Return the tree, which has gaps where there are faults; None where it has no end."""
        while True:
            try:
                for token in self._lexer.lex(self._at, self._parser):
                    self._take(token)
                return self._parser.feed_token(Token("$END", "", len(self.text)), True)
            except UnexpectedInput as unexpected:
                fault = self._fault(unexpected)
                self.found.append(explain(fault))
                if fault.token.type == "$END" or len(self.found) == MAX_FAULTS:
                    return None
                self._recover(fault)
            except _TooDeepError as deep:
                self.found.append(too_deep(self.source, deep.token))
                return None

    # --- forward ---------------------------------------------------------------------------------

    def _take(self, token: Token) -> None:
        if not self._nesting.passes(token):
            return
        opens = token.type in OPENS and len(self._nesting.opened) == MAX_NESTING
        if opens or len(self._parser.state_stack) > MAX_STACK:
            raise _TooDeepError(token)
        token = self._whole_word(token)
        if token.type == "NAME" and (not token.isidentifier() or token in EXPRESSION_WORDS):
            raise UnexpectedToken(token, frozenset[str]())
        before = self._checkpoint()
        try:
            self._parser.feed_token(token)
        except UnexpectedInput:
            # Reductions may have happened before the parser saw that the token fits nowhere.
            self._restore(before)
            raise
        self._nesting.follow(token)
        self._first = self._first or token
        self._last = token
        self._keep(token)

    def _whole_word(self, token: Token) -> Token:
        """Return the name that a word of the language only begins, as in `per devices`.

        Where no name fits, Lark's lexer looks for words alone, and takes `device` off the front.
        """
        if token.type == "NAME" or not token.isidentifier():
            return token
        start = token.start_pos or 0
        found = _WORD.match(self.text, start)
        if found is None or found[0] == token:
            return token
        return Token.new_borrow_pos("NAME", found[0], token)

    def _keep(self, token: Token) -> None:
        """Keep the parser's state if a statement may begin behind a token."""
        if token.type == SEPARATOR:
            self._checkpoints[-1] = self._checkpoint()
        elif token.type == "_LBRACE":
            self._checkpoints.append(self._checkpoint())
        elif token.type == "_RBRACE":
            self._checkpoints.pop()
            return
        else:
            return
        self._first = None

    def _checkpoint(self) -> _Checkpoint:
        return _Checkpoint(
            tuple(self._parser.state_stack),
            tuple(self._parser.value_stack),
            len(self._nesting.opened),
        )

    def _restore(self, checkpoint: _Checkpoint) -> None:
        self._parser.state_stack[:] = checkpoint.states
        self._parser.value_stack[:] = checkpoint.values

    # --- faults ----------------------------------------------------------------------------------

    def _fault(self, unexpected: UnexpectedInput) -> Fault:
        if isinstance(unexpected, UnexpectedToken):
            token = cast(Any, unexpected).token
        else:
            position = unexpected.pos_in_stream or 0
            token = Token("$CHARACTER", self.text[position], position)
        return Fault(
            source=self.source,
            text=self.text,
            token=token,
            expected=self._accepted(self._parser.state_stack),
            beginnings=self._accepted(self._checkpoints[-1].states),
            opened=tuple(self._nesting.opened),
            first=self._first,
            last=self._last,
        )

    def _accepted(self, states: Sequence[int]) -> frozenset[str]:
        table = self._parser.parse_conf.states
        end = self._parser.parse_conf.end_state
        choices = [name for name in table[states[-1]] if name.isupper()]
        return frozenset(name for name in choices if _accepts(table, states, name, end))

    def _recover(self, fault: Fault) -> None:
        """Go on behind the broken statement, or at a declaration inside what was never closed."""
        start = fault.token.start_pos or 0
        inside = len(self._checkpoints) > 1
        if inside and fault.declaration is not None:
            position, top = fault.declaration.start_pos or 0, True
        elif fault.next_statement is not None:
            position, top = fault.next_statement.start_pos or 0, False
        elif self.text[start - 1 : start] == "\n" and _DECLARES.match(self.text, start):
            position, top = start, True
        else:
            brackets = len(self._nesting.opened) - self._checkpoints[-1].depth
            position, top = statement_end(self.text, start, brackets, inside)
        if top:
            del self._checkpoints[1:]
        self._restore(self._checkpoints[-1])
        self._nesting.back_to(self._checkpoints[-1].depth)
        self._first = None
        counter = self._at.line_ctr
        counter.char_pos = position
        counter.line = self.text.count("\n", 0, position) + 1
        counter.line_start_pos = self.text.rfind("\n", 0, position) + 1
        counter.column = position - counter.line_start_pos + 1


class _TooDeepError(Exception):
    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.token = token


def readable(text: str) -> str:
    """Return a text whose last line ends, without byte order mark, every place where it was."""
    text = " " + text[1:] if text.startswith("\ufeff") else text
    return text if text.endswith("\n") else text + "\n"


def statement_end(text: str, start: int, brackets: int, inside: bool) -> tuple[int, bool]:
    """Return where to go on behind a statement broken at `start`, and if that is a declaration.

    `brackets` of the statement are open at `start`; `inside` says that it stands in a block. A
    `}` that ends the block is not skipped.
    """
    depth, goes_on = 0, False
    for piece in _PIECES.finditer(text, start):
        match piece.lastgroup:
            case "begin":
                depth += 1
            case "end" if depth:
                depth -= 1
            case "end" if inside:
                return piece.start(), False
            case "open":
                brackets += 1
            case "close":
                brackets = max(0, brackets - 1)
            case "separator":
                end = piece.end()
                in_first_column = text[end - 1] == "\n"
                if in_first_column and _DECLARES.match(text, end):
                    return end, True
                if in_first_column and not inside and not depth and _BINDS.match(text, end):
                    return end, False
                ends = not depth and (not goes_on or piece[0] == ";")
                ends = ends and (not brackets or bool(_BEGINS.match(text, end)))
                if ends and not _GOES_ON.match(text, end):
                    return end, False
                continue
            case _:
                pass
        goes_on = piece.lastgroup == "operator" or (goes_on and piece.lastgroup == "blank")
    return len(text), False


def _accepts(
    table: Mapping[int, Mapping[str, tuple[Any, Any]]],
    states: Sequence[int],
    terminal: str,
    end_state: int,
) -> bool:
    """Tell whether the parser could go on with a terminal, reducing as it would."""
    stack = list(states)
    while True:
        if terminal not in table[stack[-1]]:
            return False
        action, argument = table[stack[-1]][terminal]
        if action is Shift:
            return True
        if argument.expansion:
            del stack[-len(argument.expansion) :]
        stack.append(table[stack[-1]][argument.origin.name][1])
        if terminal == "$END" and stack[-1] == end_state:
            return True
