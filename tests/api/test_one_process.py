"""One process at a time trains in a folder; others may look on."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fml
from fml.cli import main
from fml.engine.ir.diagnostics import FmlError
from tests.api.killing import Stop, left_behind, line_in, waiting
from tests.api.programs import CLASSIFIER, points


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line_in(tmp_path, monkeypatch)


def test_one_process_at_a_time_trains_in_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "line.fml", "--quiet", "--run", "whole"]) == 0
    with waiting("step", 12, "line.fml", "--run", "a") as process:
        before = {p: p.read_bytes() for p in Path("runs/a").rglob("*") if p.is_file()}
        assert main(["train", "--resume", "a"]) == 2
        said = capsys.readouterr().err
        assert "E0708" in said
        assert f"process {process} on" in said
        assert {p: p.read_bytes() for p in Path("runs/a").rglob("*") if p.is_file()} == before
        # Those that only read look on.
        assert main(["eval", "a"]) == 0
        assert f"the run is being trained by process {process} on" in capsys.readouterr().err
        assert main(["predict", "a", "line.csv", "-o", "out.csv"]) == 0
    with waiting("step", 3, "--resume", "a"):
        assert main(["train", "--resume", "a"]) == 2
        assert "E0708" in capsys.readouterr().err
    assert main(["train", "--quiet", "--resume", "a"]) == 0
    assert left_behind("a") == left_behind("whole")


@pytest.mark.parametrize("event", ["fsync", "compile"])
def test_a_run_that_is_about_to_begin_is_locked(
    event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with waiting(event, 1, "line.fml", "--run", "a"):
        assert main(["train", "--resume", "a"]) == 2
        assert "E0708" in capsys.readouterr().err
        assert main(["eval", "a"]) == 2
        assert "E0706" in capsys.readouterr().err


def test_one_process_does_not_train_twice_in_a_folder() -> None:
    class Again(Stop):
        """Wants to go on with the run that is at work."""

        def started(self, start: object) -> None:
            with pytest.raises(FmlError, match="E0708"):
                fml.resume("runs/a", {"points": points()})

    program = fml.loads(CLASSIFIER)
    assert program.train(data={"points": points()}, run="a", on_event=Again(2)).interrupted
    assert not fml.resume("runs/a", {"points": points()}).interrupted


FORKED = """
import os, sys, time
from fml.cli import main
from fml.engine.runtime import pace, trainer
pace.SECONDS_AT_ONCE = 0  # each step for itself
real = trainer.Trainer._some_steps
def forked(self):
    if self.moment.step == 3:
        child = os.fork()
        if child:
            print(child, flush=True)
        time.sleep(600)
    real(self)
trainer.Trainer._some_steps = forked
main(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_that_outlives_a_killed_run_does_not_hold_its_lock() -> None:
    command = [sys.executable, "-c", FORKED, "train", "line.fml", "--quiet", "--run", "a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        fork = int(run.stdout.readline())
        run.kill()
        run.wait()
        try:
            assert main(["train", "--quiet", "--resume", "a"]) == 0
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_file_system_without_locks_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fml.engine.runtime.lock._lock", none)
    assert main(["train", "line.fml", "--quiet", "--run", "a"]) == 0
