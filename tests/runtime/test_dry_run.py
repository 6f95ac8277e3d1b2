"""Every plan of every example is compiled and walked without data, learners included."""

from pathlib import Path

import pytest

import fml
from fml.cli import main
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.diagnostics import FmlError
from fml.engine.runtime.dry_run import dry_run
from fml.engine.runtime.trainer import Trainer
from tests.api.programs import CLASSIFIER, points
from tests.dsl.programs import lowered

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*.fml"))
CSV = '= csv("nowhere.csv") { x: f32[2] = [a, b]; y: label[3] = c }'
PLANS = [(path, plan) for path in EXAMPLES for plan in fml.load(path).plans]


@pytest.mark.parametrize(
    ("path", "plan"), PLANS, ids=lambda p: p.stem if isinstance(p, Path) else p or "plan"
)
def test_every_plan_of_the_examples_runs_dry(path: Path, plan: str) -> None:
    program = fml.load(path)
    dry = program.dry_run(plan or None)
    parameters = program.summary(plan or None).parameters
    assert dry.footprint.variables >= 4 * parameters > 0
    assert dry.step_tasks > 10
    assert dry.footprint.workspace > 0
    has_learners = program.lower(plan or None).learners is not None
    assert ("for one learner" in str(dry)) == has_learners


def test_a_dry_run_plans_what_is_run() -> None:
    training = lowered(CLASSIFIER)
    data = {"points": dict.fromkeys(("train", "valid", "test"), points(8))}
    trainer = Trainer(training, data, NumpyBackend(), 0)
    dry = dry_run(training)
    assert dry.step_tasks == len(trainer.step.executable.plan.tasks)
    assert dry.footprint == trainer.footprint()


def test_the_command_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.fml").write_text(CLASSIFIER.replace("= given { x: f32[2]; y: label[3] }", CSV))
    assert main(["train", "net.fml", "--dry-run", "width=7"]) == 0
    assert "no data were read" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_sizes_that_do_not_fit_are_told() -> None:
    text = CLASSIFIER.replace("dense(3)", "dense(width / 3)").replace("-> f32[N, 3]", "")
    with pytest.raises(FmlError, match="E0"):
        fml.loads(text).dry_run()
