"""A disk that is full: what is said, and what is left of the run."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fml.cli import main
from tests.api.killing import left_behind, line_in


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line_in(tmp_path, monkeypatch)


def full_after(count: int) -> Callable[[int], None]:
    """`os.fsync` on a disk that has room for so many files."""
    real, left = os.fsync, [count]

    def fsync(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    return fsync


@pytest.mark.parametrize("written", range(8))
def test_a_disk_that_is_full_at_the_start_leaves_nothing_to_go_on_with(
    written: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fsync", full_after(written))
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 2
    said = capsys.readouterr().err
    assert "E0732" in said
    assert "No space left on device" in said
    # What is advised is what can be done.
    assert ("--resume" in said) is Path("runs/a").exists() is (written > 5)


def test_a_full_disk_keeps_what_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("fml.engine.runtime.saving.LEAST_SECONDS_BETWEEN_CHECKPOINTS", 0)
        patched.setattr("fml.engine.runtime.saving.SHARE_FOR_CHECKPOINTS", 1e9)
        patched.setattr(os, "fsync", full_after(12))
        assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 2
    said = capsys.readouterr().err
    assert "E0732" in said
    assert "No space left on device" in said
    assert "fml train --resume" in said
    assert main(["eval", "runs/a"]) == 0
    assert main(["train", "--quiet", "--resume", "runs/a"]) == 0
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    assert left_behind("a") == left_behind("whole")
