"""Warnings of updates that are never due (W0603): of those, and of no others."""

from pathlib import Path

import pytest

import fml
from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.runtime.watch import Silent, Start
from tests.api.programs import CLASSIFIER, points
from tests.api.test_cli import fml as command

# Of 24 samples an epoch is three steps.
DURATIONS = [
    "2 steps",
    "4 steps",
    "0.5 epochs",
    "1 epoch",
    "1.4 epochs",
    "20 samples",
    "40 samples",
]


class Warned(Silent):
    """Keeps what a run is warned of."""

    def __init__(self) -> None:
        self.warnings: tuple[Diagnostic, ...] = ()

    def started(self, start: Start) -> None:
        self.warnings = start.warnings


@pytest.mark.parametrize("end", DURATIONS)
def test_what_is_not_done_once_is_warned_of_and_nothing_else(end: str) -> None:
    counting = "state n: f32 ~ zeros\n  every {} {{ n <- n + 1 }}\n  stop after {}"
    for due in DURATIONS:
        text = CLASSIFIER.replace("stop after rounds", counting.format(due, end))
        program, warned = fml.loads(text), Warned()
        data = {"points": points(24)}
        run = program.train(data=data, device="numpy", on_event=warned)
        is_done = run.variables["n"] > 0
        told = [warning.message.partition(" is")[0] for warning in warned.warnings]
        assert told == ([] if is_done else [f"`every {due}`"])
        # The text tells some of them without the data.
        assert not (is_done and program.check()), due


DILOCO = CLASSIFIER.replace("stop after", "learners 2 per device by diloco({tau})\n  stop after")


def test_learners_that_never_meet_are_told_wherever_the_length_of_the_run_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "blobs(samples = 64) { x: f32[2] = [x1, x2]; y: label[3] = label }"
    text = DILOCO.replace("given { x: f32[2]; y: label[3] }", source)
    Path("net.fml").write_text(text.replace("{tau}", ""))
    # In 3 epochs of 4 steps; the text alone does not tell.
    assert "W0603" not in command(capfd, "check", "net.fml").err
    for asked in (["train", "net.fml"], ["train", "net.fml", "--dry-run"], ["plan", "net.fml"]):
        said = command(capfd, *asked).err
        assert "`every 500 steps` is never due: the run ends after 3 epochs (12 steps)" in said
        assert "the learners do not meet there" in said
        assert "`tau`" in said
        # Options that make the run longer, or the way out taken.
        Path("short.fml").write_text(text.replace("{tau}", "tau = 2 steps"))
        assert "W0603" not in command(capfd, asked[0], "short.fml", *asked[2:]).err
    Path("net.fml").write_text(text.replace("{tau}", "").replace("3 epochs", "12 steps"))
    assert "the run ends after 12 steps" in command(capfd, "check", "net.fml").err
    longer = command(capfd, "train", "net.fml", "rounds=500 steps", "--dry-run")
    assert "W0603" not in longer.err
