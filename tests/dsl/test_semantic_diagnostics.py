"""What a reader is told about a program that means nothing: golden text, one small file a fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fml.dsl.program import check
from fml.dsl.report import render
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source

FOLDER = Path(__file__).parent / "diagnostics" / "semantic"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.fml")), ids=lambda path: path.stem)
def test_diagnostics(path: Path, golden: Callable[[Path, str], None]) -> None:
    with pytest.raises(FmlError) as caught:
        check(Source(path.name, path.read_text(encoding="utf-8")), FOLDER)
    golden(path.with_suffix(".txt"), render(caught.value.diagnostics).replace(str(FOLDER), "here"))
