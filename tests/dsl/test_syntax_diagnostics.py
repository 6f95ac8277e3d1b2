"""What is said about texts that are not fml: every file of `diagnostics/syntax`, word by word."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fml.dsl.parse import parse
from fml.dsl.report import render
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source

HERE = Path(__file__).parent
FILES = sorted((HERE / "diagnostics/syntax").glob("*.fml"))
PAGES = sorted((HERE.parent.parent / "docs/errors").glob("E01*.md"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_syntax_diagnostics(path: Path, golden: Callable[[Path, str], None]) -> None:
    with pytest.raises(FmlError) as caught:
        parse(Source(path.name, path.read_text(encoding="utf-8")))
    golden(path.with_suffix(".txt"), render(caught.value.diagnostics))


def test_every_code_has_its_page_and_its_case() -> None:
    dsl = Path(parse.__code__.co_filename).parent
    used = {
        code
        for name in ("explain", "parse", "tree", "tree_expressions")
        for code in re.findall(r'"(E01\d\d)"', (dsl / f"{name}.py").read_text(encoding="utf-8"))
    }
    shown = {c for p in FILES for c in re.findall(r"E01\d\d", p.with_suffix(".txt").read_text())}
    assert used == shown == {p.stem for p in PAGES}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_pages_show_what_is_wrong_and_what_is_right(path: Path) -> None:
    wrong, right = re.findall(r"```fml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    with pytest.raises(FmlError) as caught:
        parse(Source("wrong.fml", wrong))
    assert {d.code for d in caught.value.diagnostics} == {path.stem}
    parse(Source("right.fml", right))
