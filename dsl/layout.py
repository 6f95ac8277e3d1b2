"""Which line ends end a statement: a filter between the lexer and the parser.

A separator counts for nothing inside `( )` and `[ ]` and behind a token that cannot end a
statement; the grammar itself lets a line go on that begins with `|>`, `then` or `else`.
"""

from collections.abc import Iterator

from lark import Token

SEPARATORS = ("_NL", "_SEMI")
MAX_NESTING = 100
_OPENS = {"_LPAR": "_RPAR", "_LSQB": "_RSQB", "_LBRACE": "_RBRACE"}
_CLOSES = frozenset(_OPENS.values())
_BRACKETS = frozenset({"_LPAR", "_LSQB"})
_ENDS = frozenset({
    "NAME", "NUMBER", "STRING", "TRUE", "FALSE", "UNIT", "WILD", "WHICH", "DIRECTION", "_END",
    "_DEVICE", "LEARNERS", "_RPAR", "_RSQB", "_RBRACE",
})  # fmt: skip


class InsideBracket(Exception):
    """A `;`, or the end of the file, inside a bracket that stays open."""

    def __init__(self, bracket: Token) -> None:
        super().__init__(bracket)
        self.bracket = bracket


class TooDeep(Exception):
    """More brackets inside each other than anybody can read."""

    def __init__(self, bracket: Token) -> None:
        super().__init__(bracket)
        self.bracket = bracket


class Layout:
    """Lark's `postlex`: passes on every token but the separators that end nothing."""

    always_accept = SEPARATORS

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Filter one file's tokens.

        Raises:
            InsideBracket: a `;` inside an open bracket.
            TooDeep: brackets nested deeper than `MAX_NESTING`.
        """
        opened: list[Token] = []
        last = "_SEMI"
        for token in stream:
            if token.type in SEPARATORS:
                inside = bool(opened) and opened[-1].type in _BRACKETS
                if inside and token.type == "_SEMI":
                    raise InsideBracket(opened[-1])
                if inside or last not in _ENDS:
                    continue
            elif token.type in _OPENS:
                opened.append(token)
                if len(opened) > MAX_NESTING:
                    raise TooDeep(token)
            elif token.type in _CLOSES and opened and _OPENS[opened[-1].type] == token.type:
                opened.pop()
            last = token.type
            yield token
