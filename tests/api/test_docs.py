"""The Python of README and docs/python.md runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def samples(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(import fml\n.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_samples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    found = samples(page)
    assert found
    for sample in found:
        names: dict[str, object] = {}
        exec(sample, names)
        assert (tmp_path / "iris.safetensors").stat().st_size > 0
