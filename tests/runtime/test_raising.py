"""Operations that raise in a step: named, the run ended before it, or the learner restarted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fml.engine.backends import numpy as oracle
from fml.engine.backends.interface import Backend, Code, Launch
from fml.engine.backends.llvm import Clustered, LlvmBackend
from fml.engine.backends.numpy import NodeByNode, NumpyBackend
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Attributes, Graph
from fml.engine.ir.training import Training
from fml.engine.ir.types import TensorType
from fml.engine.kernels.llvm.host import Host
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.plan.task import Work
from fml.engine.profile import measure
from fml.engine.runtime import steps
from fml.engine.runtime.checkpoint import read_checkpoint
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered
from tests.runtime.test_learner_runs import Notes, given

LINE = """
data d = given {{ x: f32[3]; y: f32 }}
model line(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ uniform(0, 1)
  x @ w
}}"""
# `log` of a number that is not positive raises, by a record of the tests alone.
LEARNERS = (
    LINE
    + """
train {{
  z = line()
  learners 3 per device {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    state n: f32 ~ zeros
    n <- n + 1
    rough = log(where(learners.index == 1, {spoilt}, 1))
    minimize loss = mse(w(x), y) + 0 * rough
    using momentum(0.02)
  }}
  use sma(learners.w, z)
  stop after {steps} steps
}}"""
)
ALONE = (
    LINE
    + """
train {{
  z = line()
  state n: f32 ~ zeros
  n <- n + 1
  feed x, y from d.train |> shuffle |> batch(4)
  minimize loss = mse(z(x), y) + 0 * log({spoilt})
  using momentum(0.02)
  {more}
  stop after {steps} steps
}}"""
)


def plan(text: str, spoilt: str, steps: int = 14, more: str = "") -> Training:
    return lowered(text.format(spoilt=spoilt, steps=steps, more=more))


class Interpreted(LlvmBackend):
    """The loops of compiled code around operations that numpy computes, which may raise."""

    def compile(self, graph: Graph) -> Code:
        return NodeByNode(graph)


def interpreting() -> Backend:
    """The current backend, with operations that numpy computes."""
    return Interpreted() if isinstance(current_backend(), LlvmBackend) else current_backend()


def run(training: Training, backend: Backend | None = None, **how: Any) -> Outcome:
    return train(*given(training), backend or interpreting(), **how)


@pytest.fixture(autouse=True)
def _log_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    cause: Exception = IndexError("no such logarithm")

    def compute(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
        if (inputs[0] <= 0).any():
            raise cause
        return np.log(inputs[0])

    ops = {**OPS, "log": replace(OPS["log"], compute=compute, scalar=None)}
    monkeypatch.setattr(oracle, "OPS", ops)


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name)


@on_each_backend
def test_a_learner_that_raises_is_named_and_the_run_ends_before_the_step(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    # n is 6 in step 5.
    outcome = run(plan(LEARNERS, "6 - n"), checkpoint=path)
    assert outcome.failure is not None
    assert outcome.failure.code == "E0715"
    assert outcome.failure.message == "`log` raised IndexError at step 5 of learner 1"
    assert outcome.stopped_by == outcome.failure.message
    assert "no such logarithm" in outcome.failure.notes
    assert outcome.failure.span is not None
    assert outcome.failure.span.text.startswith("log(where")
    assert outcome.progress.step == 5
    good = run(plan(LEARNERS, "6 - n", steps=5))
    same(outcome.variables, good.variables)
    saved = read_checkpoint(path)
    assert saved.state["step"] == 5
    assert saved.variables.keys() == good.variables.keys()


@on_each_backend
def test_a_learner_that_raises_is_restarted_and_the_run_goes_on() -> None:
    notes = Notes()
    outcome = run(plan(LEARNERS, "6 - n"), on_fault="restart", listener=notes)
    assert outcome.failure is None
    assert outcome.progress.step == 14
    assert [words.split(":")[0] for words in notes.words] == [
        "`log` raised IndexError at step 5 of learner 1",
        "`log` raised IndexError at step 10 of learner 1",
    ]
    # What it counts began anew twice; the others have gone on.
    np.testing.assert_array_equal(outcome.variables["learners.n"], [14, 4, 14])
    assert np.isfinite(outcome.variables["w.w"]).all()


@on_each_backend
def test_figures_are_taken_once_though_a_learner_is_restarted_right_behind_them() -> None:
    more = 'measure mse(z(x), y) as "fit" on d.train every 5 steps\n  stop after'
    text = LEARNERS.replace("stop after", more)
    outcome = run(lowered(text.format(spoilt="6 - n", steps=14)), on_fault="restart")
    found = [(point.series, point.step) for point in outcome.history]
    assert found == [(name, step) for step in (5, 10) for name in ("train.loss", "train.fit")]


@on_each_backend
def test_a_learner_that_raises_again_at_once_ends_the_run() -> None:
    notes = Notes()
    outcome = run(plan(LEARNERS, "0 * n"), on_fault="restart", listener=notes)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.progress.step) == ("E0715", 0)
    assert len(notes.words) == 1


@on_each_backend
@pytest.mark.parametrize("on_fault", ["stop", "restart"])
def test_a_run_without_learners_ends_before_the_step(on_fault: str) -> None:
    outcome = run(plan(ALONE, "6 - n"), on_fault=on_fault)
    assert outcome.failure is not None
    assert outcome.failure.message == "`log` raised IndexError at step 5"
    same(outcome.variables, run(plan(ALONE, "6 - n", steps=5)).variables)


@on_each_backend
def test_what_raises_while_it_is_measured_is_named() -> None:
    more = 'measure mean(log(y - 1e9)) as "rough" on d.train every 1 epoch'
    with pytest.raises(FmlError, match=r"E0715: `log` raised IndexError \(test\.fml:14:16\)"):
        run(plan(ALONE, "1", steps=20, more=more))


@on_each_backend
def test_no_memory_for_an_operation_is_said_of_the_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compute(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
        raise MemoryError("Unable to allocate 1 TiB")

    ops = {**OPS, "log": replace(OPS["log"], compute=compute, scalar=None)}
    monkeypatch.setattr(oracle, "OPS", ops)
    outcome = run(plan(ALONE, "n"))
    assert outcome.failure is not None
    assert outcome.failure.code == "E0714"
    assert outcome.failure.message == "there is not enough memory for `log` at step 0"


def test_what_raises_in_a_profile_is_named() -> None:
    training, data = given(plan(ALONE, "0 * n"))
    with pytest.raises(FmlError, match="E0715: `log` raised IndexError at step 0"):
        measure.profile(training, data, NumpyBackend(), device="numpy", seconds=0.01)


class Gone(np.ndarray):
    """Samples of which some cannot be read."""

    reads = 0

    def __getitem__(self, key: Any) -> Any:
        self.reads += 1
        if self.reads == 8:
            raise OSError("the disk has gone")
        return np.asarray(self)[key]


@on_each_backend
def test_samples_that_cannot_be_read_are_of_the_learner_that_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Converted batch by batch: the eighth is that of the second learner in step 2.
    monkeypatch.setattr(steps, "CONVERTED_BYTES", 0)
    training, data = given(plan(LEARNERS, "9"))
    x = np.asarray(data["d"]["train"]["x"], np.float64).view(Gone)
    split = {"x": x, "y": data["d"]["train"]["y"]}
    outcome = train(training, {"d": {"train": split}}, interpreting())
    assert outcome.failure is not None
    assert outcome.failure.message == "`feed` raised OSError at step 2 of learner 1"
    assert "the disk has gone" in outcome.failure.notes
    assert outcome.progress.step == 2


# --- while `auto` tries numbers of learners -------------------------------------------------------

AUTO = LEARNERS.replace("3 per device", "auto per device")
BY_THE_FIRST = AUTO.replace("index == 1", "index == 0")


@on_each_backend
@pytest.mark.parametrize("spoilt", ["6 - n", "0 * n"], ids=["later", "at_once"])
def test_what_raises_while_numbers_of_learners_are_tried_ends_the_run_where_it_does(
    spoilt: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.safetensors"
    outcome = run(plan(BY_THE_FIRST, spoilt), checkpoint=path)
    step = 5 if spoilt == "6 - n" else 0
    assert outcome.failure is not None
    assert outcome.failure.code == "E0715"
    assert outcome.failure.message == f"`log` raised IndexError at step {step} of learner 0"
    assert outcome.progress.step == read_checkpoint(path).state["step"] == step


@on_each_backend
def test_what_raises_while_numbers_of_learners_are_tried_is_restarted_in_the_run() -> None:
    notes = Notes()
    outcome = run(plan(BY_THE_FIRST, "6 - n"), on_fault="restart", listener=notes)
    assert outcome.failure is None
    assert outcome.progress.step == 14
    assert notes.words[0].startswith("auto: ")
    assert notes.words[1].startswith("`log` raised IndexError at step 5 of learner 0: learner 0")


@on_each_backend
def test_so_many_learners_as_raise_at_once_are_not_taken() -> None:
    notes = Notes()
    outcome = run(plan(AUTO, "0 * n"), listener=notes)
    assert (outcome.failure, outcome.progress.step) == (None, 14)
    assert len(outcome.variables["w.w"]) == 1
    assert "for 2, `log` raised IndexError at step 0 of learner 1" in notes.words[0]


# --- beside compiled code ------------------------------------------------------------------------


class PartlyNative(LlvmBackend):
    """Compiled code, but for clusters with a logarithm, which Python calls and which may raise.

    `faults` are the calls that do, counted from 1.
    """

    def __init__(self, *faults: int) -> None:
        super().__init__()
        self.faults, self.calls = faults, 0

    def compile(self, graph: Graph) -> Code:
        backend = self

        class Partly(Clustered):
            def launch(self, work: Work, *views: Sequence[Array]) -> Launch:
                launch = super().launch(work, *views)
                if all(graph[node].op != "log" for node in work.nodes):
                    return launch

                def call() -> None:
                    backend.calls += 1
                    if backend.calls in backend.faults:
                        raise ZeroDivisionError
                    launch()

                return call

        return Partly(graph, Host.native(), 1)


def test_what_raises_between_kernels_is_named_too() -> None:
    """Nine calls are three steps of three learners; then taken again: two steps, and on."""
    training = plan(LEARNERS, "9")
    outcome = run(training, PartlyNative(8))
    assert outcome.failure is not None
    assert "raised ZeroDivisionError at step 2 of learner 1" in outcome.failure.message
    same(outcome.variables, run(plan(LEARNERS, "9", steps=2), LlvmBackend()).variables)


def test_a_step_that_raises_when_it_is_taken_again_is_gone_back_behind() -> None:
    """The tenth call is that of the first learner in step 0, taken again."""
    outcome = run(plan(LEARNERS, "9"), PartlyNative(8, 10))
    assert outcome.failure is not None
    assert outcome.progress.step <= 1
    assert "of learner" in outcome.failure.message


def test_a_restarted_run_goes_on_from_the_very_step() -> None:
    notes = Notes()
    outcome = run(plan(LEARNERS, "9"), PartlyNative(8), on_fault="restart", listener=notes)
    assert (outcome.failure, outcome.progress.step) == (None, 14)
    assert "restarted from the central model at step 2" in notes.words[0]
    np.testing.assert_array_equal(outcome.variables["learners.n"], [14, 12, 14])
