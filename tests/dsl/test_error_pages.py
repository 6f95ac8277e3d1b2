"""The error index: every code has a page, and the examples of every page do what it says."""

import re
from pathlib import Path

import pytest

from fml.dsl.program import check
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source
from tests.dsl.programs import trained

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/errors").glob("*.md")
}
# Told while data are loaded, graphs specialised, or runs begun: their own tests prove these pages.
LATER = {code for code in PAGES if re.match(r"E0[57]|W05", code)} - {"E0541", "E0542", "E0543"}
LATER |= {"E0329", "E0330", "E0602"}


def example(page: str, heading: str) -> str | None:
    found = re.search(rf"## {heading}\n+```fml\n(.*?)```", page, re.DOTALL)
    return found[1] if found else None


RUN = ("E0330", "E0520", "E0521")
CHECKED = sorted(PAGES.keys() - LATER)


def codes_of(text: str) -> list[str]:
    try:
        program = check(Source("page.fml", text), ROOT / "examples")
    except FmlError as errors:
        return [d.code for d in errors.diagnostics]
    return [d.code for d in (*program.warnings, *program.never_due)]


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    used: set[str] = set()
    for folder in ("api", "dsl", "engine"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r'"([EW]0\d{3})"', path.read_text(encoding="utf-8")))
    assert used == PAGES.keys()


def test_every_page_begins_with_its_code_and_has_both_examples() -> None:
    for code, page in PAGES.items():
        assert page.startswith(f"# {code}: "), code
        assert "## Wrong" in page, code
        assert "## Right" in page, code


@pytest.mark.parametrize("code", CHECKED)
def test_the_wrong_example_gives_the_code_and_only_it(code: str) -> None:
    wrong = example(PAGES[code], "Wrong")
    assert wrong is not None
    assert set(codes_of(wrong)) == {code}


@pytest.mark.parametrize("code", CHECKED)
def test_the_right_example_checks(code: str) -> None:
    right = example(PAGES[code], "Right")
    assert right is not None
    assert codes_of(right) == []


def codes_of_run(text: str | None) -> list[str]:
    assert text is not None
    try:
        trained(text, {})
    except FmlError as errors:
        return [d.code for d in errors.diagnostics]
    return []


@pytest.mark.parametrize("code", RUN)
def test_a_run_tells_wrong_from_right(code: str) -> None:
    assert codes_of_run(example(PAGES[code], "Wrong")) == [code]
    assert codes_of_run(example(PAGES[code], "Right")) == []
