"""The parser's tables: made when the package is built and shipped as JSON, or else made here.

JSON, because a pickle in a place that others can write to would run their code.
"""

import hashlib
import json
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from fml.dsl.layout import Layout

GRAMMAR = "fml.lark"
TABLES = "fml.tables.json"


def load_parser(folder: Path) -> Lark:
    """Return the parser of a folder's grammar.

    It comes from the tables beside the grammar if they were made of this grammar by this Lark,
    and is made of the grammar otherwise.
    """
    grammar = (folder / GRAMMAR).read_text(encoding="utf-8")
    tables = folder / TABLES
    if tables.is_file():
        stored = json.loads(tables.read_text(encoding="utf-8"), object_hook=_with_numbers)
        if stored["made_of"] == _made_of(grammar):
            load = cast(Any, Lark)._load_from_dict
            return _handing_on(load(stored["data"], stored["memo"], postlex=Layout()))
    return _handing_on(make_parser(grammar))


def _handing_on(parser: Lark) -> Lark:
    """Let rules that leave no trace in the tree hand on their one part as it is.

    An operand goes through twelve of them, one for each level of precedence, and Lark asks each
    for the places of its parts: a quarter of the time of parsing.
    """
    callbacks = cast("dict[Rule, Any]", cast(Any, parser)._callbacks)
    for rule in callbacks:
        part = rule.expansion[0] if len(rule.expansion) == 1 else None
        if part is not None and not part.is_term and rule.options.expand1 and not rule.alias:
            callbacks[rule] = itemgetter(0)
    return parser


def make_parser(grammar: str, *, strict: bool = False) -> Lark:
    """Make the parser of a grammar's text; `strict` refuses every ambiguity."""
    return Lark(
        grammar,
        start=["start", "expression"],
        parser="lalr",
        lexer="contextual",
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=Layout(),
        strict=strict,
    )


def write_tables(folder: Path, target: Path) -> None:
    """Write the tables of a folder's grammar into another folder; the package's build calls it."""
    grammar = (folder / GRAMMAR).read_text(encoding="utf-8")
    data, memo = cast(Any, make_parser(grammar)).memo_serialize([TerminalDef, Rule])
    del data["options"]["postlex"]
    made = {"made_of": _made_of(grammar), "data": data, "memo": memo}
    (target / TABLES).write_text(json.dumps(made, separators=(",", ":")), encoding="utf-8")


def _with_numbers(written: dict[str, Any]) -> dict[Any, Any]:
    """Make numbers of the keys that were numbers before JSON made strings of them."""
    return {int(key) if key.isdecimal() else key: value for key, value in written.items()}


def _made_of(grammar: str) -> str:
    return hashlib.sha256(f"{lark.__version__}\n{grammar}".encode()).hexdigest()
