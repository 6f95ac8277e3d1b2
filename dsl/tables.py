"""The parser's tables: made at build time and shipped as JSON, or else made of the grammar.

JSON, because a pickle in a place that others can write to would run their code.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

TABLES = "fml.tables.json"
_STARTS = ["start", "expr"]


def load_tables(postlex: object) -> Lark:
    """Return the parser; from the shipped tables if they were made of this grammar and Lark."""
    folder = resources.files("fml.grammar")
    grammar = (folder / "fml.lark").read_text(encoding="utf-8")
    shipped = folder / TABLES
    if shipped.is_file():
        stored: dict[str, Any] = json.loads(shipped.read_text(encoding="utf-8"))
        if stored["made_of"] == _made_of(grammar):
            parser = Lark.__new__(Lark)
            memo = {int(k): v for k, v in stored["memo"].items()}
            parser._load({"data": stored["data"], "memo": memo}, postlex=postlex)  # pyright: ignore
            return parser
    return make_parser(grammar, postlex)


def make_parser(grammar: str, postlex: object, *, strict: bool = False) -> Lark:
    """Make the parser of a grammar's text."""
    return Lark(
        grammar,
        start=_STARTS,
        parser="lalr",
        lexer="contextual",
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=postlex,  # pyright: ignore[reportArgumentType]
        strict=strict,
    )


def write_tables(grammar: Path, target: Path) -> None:
    """Write the tables of a grammar file; called while the package is built."""
    text = grammar.read_text(encoding="utf-8")
    data, memo = make_parser(text, _Plain()).memo_serialize([TerminalDef, Rule])
    made = {"made_of": _made_of(text), "data": data, "memo": memo}
    target.write_text(json.dumps(made), encoding="utf-8")


class _Plain:
    """Stands for the layout filter while tables are made: they hold only what it accepts."""

    always_accept = ("_NL", "_SEMI")

    def process(self, stream: Any) -> Any:
        return stream


def _made_of(grammar: str) -> str:
    return hashlib.sha256(f"{lark.__version__}\n{grammar}".encode()).hexdigest()
