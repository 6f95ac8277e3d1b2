"""The grammar: no ambiguity, nothing in it that no text uses, tables that are the grammar."""

import json
from pathlib import Path

import pytest
from lark import Lark, Tree
from lark.tree import Meta

from fml import grammar
from fml.dsl.reader import readable
from fml.dsl.tables import GRAMMAR, TABLES, load_parser, make_parser, write_tables

HERE = Path(__file__).parent
FOLDER = Path(grammar.__file__).parent
TEXT = (FOLDER / GRAMMAR).read_text(encoding="utf-8")
CORPUS = sorted((HERE / "corpus").glob("*.fml"))
# Wrong, but only later stages than the grammar say so.
ACCEPTED = [HERE / "diagnostics/syntax" / f"{name}.fml" for name in (
    "body_without_value", "comparisons_chained",
)]  # fmt: skip


def test_grammar_is_unambiguous() -> None:
    make_parser(TEXT, strict=True)


def test_every_rule_is_used_by_the_corpus() -> None:
    parser = make_parser(TEXT)
    unused = set(parser._callbacks)
    for rule, callback in list(parser._callbacks.items()):
        parser._callbacks[rule] = lambda c, r=rule, f=callback: (unused.discard(r), f(c))[1]
    for file in [*CORPUS, *ACCEPTED]:
        parser.parse(readable(file.read_text(encoding="utf-8")), start="start")
    parser.parse("1\n", start="expression")
    assert not unused


def trees(parser: Lark) -> list[tuple[Tree, list[tuple[int, ...]]]]:
    """The trees of the corpus, with the places of all their parts."""
    texts = [readable(file.read_text(encoding="utf-8")) for file in CORPUS]
    made = [parser.parse(text, start="start") for text in texts]
    return [(tree, [place(part.meta) for part in tree.iter_subtrees()]) for tree in made]


def place(meta: Meta) -> tuple[int, ...]:
    return () if meta.empty else (meta.line, meta.column, meta.end_line, meta.end_column)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / GRAMMAR).write_text(TEXT, encoding="utf-8")
    write_tables(tmp_path, tmp_path)
    return tmp_path


def test_shipped_tables_parse_as_the_grammar_does(folder: Path) -> None:
    loaded = load_parser(folder)
    assert loaded.source_path == "<deserialized>"
    assert trees(loaded) == trees(make_parser(TEXT))


def test_absent_tables_are_made(folder: Path) -> None:
    (folder / TABLES).unlink()
    assert trees(load_parser(folder)) == trees(make_parser(TEXT))


def test_tables_of_another_grammar_are_not_used(folder: Path) -> None:
    changed = TEXT.replace('_TRAIN: "train"', '_TRAIN: "teach"')
    assert changed != TEXT
    (folder / GRAMMAR).write_text(changed, encoding="utf-8")
    assert load_parser(folder).parse("teach { }\n", start="start").children


def test_tables_of_another_lark_are_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lark.__version__", "0.0")
    assert load_parser(folder).source_path != "<deserialized>"


def test_tables_are_data_alone(folder: Path) -> None:
    assert set(json.loads((folder / TABLES).read_text())) == {"made_of", "data", "memo"}
