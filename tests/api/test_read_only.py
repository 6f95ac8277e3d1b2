"""Where nobody may write there is a diagnostic, and what was written before is still there.

Nothing is read-only to root, so whatever is tried is tried by a child without its rights.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from fml.cli import main
from tests.api.programs import line_csv
from tests.api.test_resuming import TEXT, left_behind

# All modules are loaded, and a run is made, with all rights: without them the code itself may be
# out of reach.
DRIVER = """
import importlib, os, pkgutil, sys
from pathlib import Path
import fml
for module in pkgutil.walk_packages(fml.__path__, "fml."):
    if not module.name.endswith(("__main__", "parquet", "images")):
        importlib.import_module(module.name)
from fml.cli import main
from fml.engine.runtime import pace, saving, trainer
pace.SECONDS_AT_ONCE = 0  # each step for itself
saving.LEAST_SECONDS_BETWEEN_CHECKPOINTS, saving.SHARE_FOR_CHECKPOINTS = 0, 1e9
name = "again" if Path("runs/a").exists() else "a"
assert main(["train", "line.fml", "--quiet", "--run", name]) == 0
assert main(["train", "nowhere.fml"]) == 2
fml.load("line.fml").visualize("drawn.dot")
fml.load("line.fml").visualize("drawn.svg")
if os.getuid() == 0:
    for path in (Path(), *Path().rglob("*")):
        os.chown(path, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
folder, step = Path(sys.argv[1]), int(sys.argv[2])
def lock():
    folder.chmod(0o555)
if step:
    real, left = trainer.Trainer._some_steps, step
    def counted(self):
        global left
        left -= 1
        if not left:
            lock()
        real(self)
    trainer.Trainer._some_steps = counted
else:
    lock()
if sys.argv[3] == "save":
    try:
        fml.open_run("runs/a").save(sys.argv[4])
    except fml.FmlError as fault:
        sys.exit(str(fault))
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A folder that another user can reach, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        monkeypatch.setenv("HOME", name)
        Path("line.csv").write_text(line_csv(40))
        Path("line.fml").write_text(TEXT)
        Path("locked").mkdir()
        yield Path(name)
        for path in (Path(name), *(p for p in Path(name).rglob("*") if p.is_dir())):
            path.chmod(0o755)


def told(folder: str, step: int, *arguments: str) -> str:
    """What a command says that fails as a folder becomes read-only, at a step or, by 0, before."""
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, folder, str(step), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode in {1, 2}, child.stderr
    assert "E0732" in child.stderr
    assert "Permission denied" in child.stderr
    assert "Traceback" not in child.stderr
    assert "bug" not in child.stderr
    Path(folder).chmod(0o755)
    return child.stderr


def test_no_run_begins_where_runs_may_not_be_written(folder: Path) -> None:
    assert "`runs" in told("runs", 0, "train", "line.fml", "--quiet", "--run", "b")
    assert os.listdir("runs") == ["a"]
    assert main(["eval", "runs/a"]) == 0


@pytest.mark.parametrize("locked", ["runs/b", "runs/b/checkpoints"])
def test_a_run_that_may_not_write_any_more_goes_on_once_it_may(folder: Path, locked: str) -> None:
    said = told(locked, 25, "train", "line.fml", "--quiet", "--run", "b")
    assert "fml train --resume" in said
    assert main(["eval", "runs/b"]) == 0
    assert "runs/b" in told(locked, 0, "train", "--quiet", "--resume", "runs/b")
    assert main(["train", "--quiet", "--resume", "runs/b"]) == 0
    assert left_behind("b") == left_behind("a")


@pytest.mark.parametrize(
    "arguments",
    [
        ["save", "locked/model.safetensors"],
        ["predict", "runs/a", "line.csv", "-o", "locked/predictions.csv"],
        ["visualize", "line.fml", "-o", "locked/graph.svg"],
        ["visualize", "line.fml", "-o", "locked/graph.dot"],
    ],
    ids=lambda arguments: arguments[-1],
)
def test_nothing_is_written_where_nothing_may_be(folder: Path, arguments: list[str]) -> None:
    assert arguments[-1] in told("locked", 0, *arguments)
    assert not os.listdir("locked")
