"""The pages of the errors about data: the wrong example gives the error, the right one loads."""

import re
import sys
from pathlib import Path

import pytest

from fml.engine.ir.diagnostics import FmlError
from tests.sources.datasets import loaded

PAGES = Path(__file__).parent.parent.parent / "docs" / "errors"
CODES = [f"E050{n}" for n in range(1, 10)] + ["E0510", "E0511", "E0513", "W0501"]


def found(text: str) -> list[str]:
    try:
        return [warning.code for warning in loaded(text).warnings]
    except FmlError as errors:
        return [diagnostic.code for diagnostic in errors.diagnostics]


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_is_wrong_and_the_right_one_loads(code: str) -> None:
    page = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {code}: ")
    examples = dict(re.findall(r"## (Wrong|Right)\n```fml\n(.*?)```", page, re.DOTALL))
    assert found(examples["Wrong"]) == [code]
    assert found(examples["Right"]) == []


def test_the_example_of_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    test_the_wrong_example_is_wrong_and_the_right_one_loads("E0512")
