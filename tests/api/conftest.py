"""What tests of the Python API share."""

from pathlib import Path

import pytest

import fml
from tests.api.programs import LINE, line_csv


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fml.Program:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(line_csv())
    Path("line.fml").write_text(LINE)
    return fml.load("line.fml")
