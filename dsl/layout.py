"""Which line ends end a statement: a filter between the lexer and the parser.

A separator counts for nothing inside `( )` and `[ ]` and behind a token that cannot end a
statement; the grammar itself lets a line go on that begins with `|>`, `then` or `else`.
"""

from collections.abc import Iterator

from lark import Token
from lark.lark import PostLex

SEPARATOR = "_SEP"
OPENS = {"_LPAR": "_RPAR", "_LSQB": "_RSQB", "_LBRACE": "_RBRACE"}
BRACKETS = frozenset({"_LPAR", "_LSQB"})
_ENDS = frozenset({
    "NAME", "NUMBER", "STRING", "TRUE", "FALSE", "UNIT", "WILD", "_END", "ABOVE",
    "_RPAR", "_RSQB", "_RBRACE",
})  # fmt: skip


class Nesting:
    """How deep in brackets a text is, and whether a separator would end something here.

    `opened` are the brackets that are open, outermost first.
    """

    def __init__(self) -> None:
        self.opened: list[Token] = []
        self.last = SEPARATOR
        self.is_allowed = False

    def passes(self, token: Token) -> bool:
        """Tell whether the parser is to see a token.

        A `;` inside a bracket passes, for the parser to stumble over.
        """
        if token.type != SEPARATOR:
            return True
        if self.opened and self.opened[-1].type in BRACKETS:
            return token == ";"
        # Behind `in` a range may go on without end: `option lr = 0.1 in 0 ..`.
        return self.last in _ENDS or (self.last == "_RANGE" and self.is_allowed)

    def follow(self, token: Token) -> None:
        """Take note of a token that passed."""
        if token.type in OPENS:
            self.opened.append(token)
        elif self.opened and OPENS[self.opened[-1].type] == token.type:
            self.opened.pop()
        if token.type in {"_IN", SEPARATOR}:
            self.is_allowed = token.type == "_IN"
        self.last = token.type

    def back_to(self, depth: int) -> None:
        """Forget the brackets opened beyond a depth, as if a statement had just ended there."""
        del self.opened[depth:]
        self.last = SEPARATOR


class Layout(PostLex):
    """The filter in the form that Lark wants (its `postlex`)."""

    always_accept = (SEPARATOR,)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Yield one text's tokens without the separators that end nothing."""
        nesting = Nesting()
        for token in stream:
            if nesting.passes(token):
                yield token
                nesting.follow(token)
