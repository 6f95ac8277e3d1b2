"""Whole runs of plans with learners."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fml.engine.backends.interface import Backend
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ir.training import Role, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.checkpoint import read_checkpoint
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.free_memory import available_nbytes
from fml.engine.runtime.learners import Trial, choose_learners
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.runtime.watch import Silent
from fml.engine.sources.bind import bind
from fml.engine.sources.load import load
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import EXAMPLES, LINE, lowered, points

TEXT = """
data d = given {{
  x: f32[3]
  y: f32
}}
model line(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ normal(0, 1)
  (x |> batch_norm |> dropout(0.1)) @ w
}}
train {{
  z = line()
  learners {learners} {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    minimize loss = mse(w(x), y)
    using momentum(0.02)
  }}
  use {strategy}
  measure mse(z(x), y) as "fit" on d.train every 1 epoch
  {stop}
}}"""
STRATEGIES = [
    "sma(learners.w, z, tau = 2 steps)",
    "easgd(learners.w, z)",
]


def plan(
    learners: str = "3 per device",
    strategy: str = STRATEGIES[0],
    steps: int = 14,
    text: str = TEXT,
) -> Training:
    stop = f"stop after {steps} steps"
    return lowered(text.format(learners=learners, strategy=strategy, stop=stop))


def given(training: Training, samples: Mapping[str, Array] | None = None) -> tuple[Training, Data]:
    arrays = {"train": points(70) if samples is None else samples}
    loaded = {name: load(data, arrays, EXAMPLES) for name, data in training.datasets.items()}
    return bind(training, loaded)


def run(training: Training, backend: Backend | None = None, **how: Any) -> Outcome:
    return train(*given(training), backend or current_backend(), **how)


@on_each_backend
def test_a_duration_in_samples_counts_those_of_all_learners() -> None:
    text = TEXT.replace("  {stop}", '  log steps(120 samples) as "s" every 7 steps\n  {stop}')
    (first, _) = [p.value for p in run(plan("3 per device", text=text)).history if p.series == "s"]
    assert first == 120 / (3 * 4)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.variables.keys() == other.variables.keys()
    for name, value in one.variables.items():
        np.testing.assert_array_equal(value, other.variables[name], name)
    assert one.figures == other.figures


@on_each_backend
def test_samples_and_epochs_are_those_of_all_learners() -> None:
    progress = run(plan("3 per device")).progress
    assert (progress.step, progress.samples) == (14, 14 * 3 * 4)
    assert progress.epoch == 14 / (70 // 12)
    assert run(plan("3 per device"), devices=2).progress.samples == 14 * 6 * 4


@on_each_backend
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(
    strategy: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.safetensors"
    whole = run(plan(strategy=strategy, steps=14))
    for steps in (3, 6):
        run(plan(strategy=strategy, steps=steps), checkpoint=path)
        rest = run(plan(strategy=strategy, steps=14), resume=read_checkpoint(path))
        assert_same(rest, whole)
        ends = {(point.series, point.step): point.value for point in whole.history}
        assert all(ends[point.series, point.step] == point.value for point in rest.history)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_bits_do_not_depend_on_the_number_of_cores(strategy: str) -> None:
    assert_same(
        run(plan(strategy=strategy), LlvmBackend(1)), run(plan(strategy=strategy), LlvmBackend(2))
    )


@pytest.mark.parametrize("cores", [1, 2])
def test_more_learners_than_cores(cores: int) -> None:
    training = plan("32 per device", text=TEXT.replace("batch(4)", "batch(2)"))
    assert run(training, LlvmBackend(cores)).progress.step == 14


@on_each_backend
def test_one_learner_with_alpha_0_is_plain_descent() -> None:
    alone = (
        LINE
        + """
train {{
  z = line()
  {learners}
  minimize loss = mse(z(x), y)
  using momentum(0.02)
  {stop}
}}"""
    )
    feed = "feed x, y from d.train |> shuffle |> batch(4)"
    plain = run(plan(feed, text=alone))
    text = TEXT.replace("(x |> batch_norm |> dropout(0.1)) @ w", "x @ w")
    learner = run(plan("1 per device", "easgd(learners.w, z, alpha = 0)", text=text))
    np.testing.assert_array_equal(learner.variables["w.w"][0], plain.variables["z.w"])


@on_each_backend
def test_a_checkpoint_of_other_learners_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    run(plan("2 per device"), checkpoint=path)
    written = read_checkpoint(path)
    with pytest.raises(FmlError, match=r"E0711.*the number of learners differs"):
        run(plan("3 per device"), resume=written)
    with pytest.raises(FmlError, match=r"E0711.*the number of devices differs"):
        run(plan("1 per device"), resume=written, devices=2)


@on_each_backend
def test_what_is_kept_is_the_central_model_with_the_means_of_its_replicas_states() -> None:
    training = plan("2 per device")
    outcome = run(training)
    states = {n: v.replica_of for n, v in training.variables.items() if v.role is Role.STATE}
    replicas = {name: central for name, central in states.items() if central is not None}
    assert replicas
    for name, central in replicas.items():
        own = outcome.variables[name]
        assert (own[0] != own[1]).any()
        np.testing.assert_allclose(outcome.variables[central], own.mean(axis=0), 1e-5)


def test_measuring_does_not_change_what_comes_of_a_run() -> None:
    often = TEXT.replace("every 1 epoch", "every 1 step")
    once, always = run(plan()), run(plan(text=often))
    for name, value in once.variables.items():
        np.testing.assert_array_equal(value, always.variables[name], name)


# --- how many ------------------------------------------------------------------------------------


class Notes(Silent):
    def __init__(self) -> None:
        self.words: list[str] = []

    def noted(self, words: str) -> None:
        self.words.append(words)


def test_auto_finds_a_number_and_says_why_and_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    path, notes = tmp_path / "last.safetensors", Notes()
    outcome = run(plan("auto per device"), checkpoint=path, listener=notes)
    learners = len(outcome.variables["w.w"])
    assert outcome.progress.samples == 14 * learners * 4
    assert len(notes.words) == 1
    assert f"auto: {learners} learner" in notes.words[0]
    again = run(plan("auto per device", steps=17), resume=read_checkpoint(path), listener=notes)
    assert len(again.variables["w.w"]) == learners
    assert len(notes.words) == 1


def no_samples() -> FmlError:
    return error("E0520", "too few")


AUTO: list[tuple[str, list[float | Exception], int | None, int, str]] = [
    # What it is about, samples a second of 1, 2, 4 ... learners of 10 bytes, bytes, the choice.
    (
        "as long as more are faster",
        [100, 180, 300, 290, 900],
        None,
        4,
        "8 are not 5% faster than 4",
    ),
    ("a little faster is not enough", [100, 101, 900], None, 1, "1 learner trains fastest"),
    ("more than cores", [10, 20, 40, 80, 160, 320, 100], 10**9, 32, "32 320, 64 100"),
    ("memory for 2 and not for 4", [100, 200, 400], 39, 2, "for 4 there is not enough memory"),
    (
        "memory that runs out",
        [100, 200, MemoryError()],
        None,
        2,
        "for 4 there is not enough memory",
    ),
    ("no samples for more", [100, 200, no_samples()], None, 2, "for 4 there are too few samples"),
]


@pytest.mark.parametrize(("what", "speeds", "available", "chosen", "said"), AUTO)
def test_learners_are_doubled_while_samples_come_faster_and_there_is_memory(
    what: str, speeds: list[float | Exception], available: int | None, chosen: int, said: str
) -> None:
    left = iter(speeds)

    def tried(per_device: int) -> Trial:
        speed = next(left)
        if isinstance(speed, Exception):
            raise speed
        return Trial(speed, 10 * per_device)

    choice = choose_learners(tried, available)
    assert choice.per_device == chosen, what
    assert said in str(choice)


@pytest.mark.parametrize("fault", [no_samples(), MemoryError(), error("E0715", "broken")])
def test_one_learner_that_cannot_train_is_a_fault(fault: Exception) -> None:
    def tried(per_device: int) -> Trial:
        raise fault

    with pytest.raises(type(fault)):
        choose_learners(tried, None)


def test_free_memory_is_the_least_that_the_system_tells(tmp_path: Path) -> None:
    system, groups = tmp_path / "meminfo", tmp_path / "cgroup"
    assert available_nbytes(system, groups) is None
    system.write_text("MemTotal: 90 kB\nMemAvailable:   64 kB\n")
    assert available_nbytes(system, groups) == 64 * 1024
    groups.mkdir()
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.current").write_text("1000\n")
    assert available_nbytes(system, groups) == 64 * 1024
    (groups / "memory.max").write_text("5000\n")
    assert available_nbytes(system, groups) == 4000


# --- faults --------------------------------------------------------------------------------------

FAULTY = (
    LINE
    + """
train {{
  z = line()
  learners {learners} {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    state n: f32 ~ zeros
    n <- n + 1
    rough = log(where(learners.index == 1, {spoilt}, 1))
    minimize loss = mse(w(x), y) + rough
    using momentum(0.02)
  }}
  use {strategy}
  {stop}
}}"""
)


def faulty(spoilt: str) -> Training:
    return plan("3 per device", text=FAULTY.replace("{spoilt}", spoilt))


@on_each_backend
def test_a_loss_that_is_not_finite_names_step_node_and_learner() -> None:
    outcome = run(faulty("4 - n"))
    assert outcome.failure is not None
    # n is 4 in step 3: the logarithm of 0.
    assert "at step 3 of learner 1" in outcome.failure.message
    assert any("`log`" in note and "learner 1" in note for note in outcome.failure.notes)
    assert outcome.progress.step == 3
    assert np.isfinite(outcome.variables["w.w"]).all()


@on_each_backend
def test_a_learner_is_restarted_from_the_central_model_and_the_run_goes_on() -> None:
    notes = Notes()
    outcome = run(faulty("4 - n"), on_fault="restart", listener=notes)
    assert outcome.failure is None
    assert outcome.progress.step == 14
    assert notes.words
    assert all("learner 1 restarted from the central model" in words for words in notes.words)
    # What it counts begins anew; the others have gone on.
    n = outcome.variables["learners.n"]
    assert n[0] == n[2] == 14
    assert n[1] < 4
    assert np.isfinite(outcome.variables["w.w"]).all()


@on_each_backend
def test_a_fault_that_a_restart_does_not_mend_ends_the_run() -> None:
    notes = Notes()
    outcome = run(faulty("0 * n"), on_fault="restart", listener=notes)
    assert outcome.failure is not None
    assert outcome.failure.code == "E0703"
    assert len(notes.words) == 1


@on_each_backend
def test_a_learner_that_fails_step_after_step_ends_the_run() -> None:
    notes = Notes()
    # n is 1 in each step behind a restart, and 2 in the one after it.
    outcome = run(faulty("2 - n"), on_fault="restart", listener=notes)
    assert outcome.failure is not None
    assert outcome.failure.code == "E0703"
    steps = [int(words.rpartition("at step ")[2]) for words in notes.words]
    assert steps == [1, 2, 3]
    assert outcome.progress.step == 4


# --- the sample with rules of its own ------------------------------------------------------------


@on_each_backend
def test_the_sample_with_its_own_rules_resumes_with_the_same_bits(tmp_path: Path) -> None:
    """Its strategy, its optimizer and the gradient of a gradient are all written in the file."""
    path = tmp_path / "last.safetensors"

    def sample(steps: int) -> Training:
        written = (EXAMPLES / "own_rules.fml").read_text(encoding="utf-8")
        return lowered(written.replace("stop after 40 epochs", f"stop after {steps} steps"))

    random = np.random.default_rng(0)
    samples = {
        "x": random.normal(size=(60, 8)).astype(np.float32),
        "y": random.normal(size=60).astype(np.float32),
    }
    backend = current_backend()
    whole = train(*given(sample(11), samples), backend)
    train(*given(sample(4), samples), backend, checkpoint=path)
    rest = train(*given(sample(11), samples), backend, resume=read_checkpoint(path))
    assert_same(rest, whole)
