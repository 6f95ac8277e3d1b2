"""Dependencies point one way, and a planted forbidden import is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"api": "fml", "dsl": "fml/dsl", "engine": "fml/engine", "grammar": "fml/grammar"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over a copy of the packages."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--config", str(folder / "pyproject.toml"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for source, target in PACKAGES.items():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, tmp_path / target, dirs_exist_ok=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_no_import_points_the_wrong_way(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("engine/ir/dims.py", "from fml.dsl import ast"),
        ("engine/ir/dims.py", "from fml.engine.ops.table import OPS"),
        ("engine/plan/memory.py", "from fml.engine.runtime.executor import Executable"),
        ("dsl/program.py", "from fml.engine.runtime.trainer import train"),
        ("engine/ops/unary.py", "import torch"),
        ("engine/kernels/loops.py", "import llvmlite"),
        ("engine/kernels/loops.py", "from fml.engine.ops.table import OPS"),
    ],
)
def test_a_planted_import_is_found(copy: Path, module: str, line: str) -> None:
    path = copy / "fml" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    result = lint(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout or "2 broken" in result.stdout
