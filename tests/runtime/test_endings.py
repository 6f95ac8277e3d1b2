"""However a run ends, what it leaves can be used."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fml.engine.backends.interface import Backend, Code, Gathered, Given, Launch, Loop, Taken
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import NodeByNode, NumpyBackend
from fml.engine.ir.graph import Graph, Node, Phase
from fml.engine.ops.record import Array
from fml.engine.plan.task import Work
from fml.engine.runtime import trainer
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.section import Moment
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.trainer import train
from fml.engine.runtime.watch import Progress, Silent
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered, points
from tests.runtime.test_blocks import Blocks

TEXT = """
data points = given {{ x: f32[3]; y: f32 }}
model linear(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ ones
  x @ w
}}
train {{
  net = linear()
  feed x, y from points.train |> shuffle |> batch(5)
  minimize J = {loss}
  {update}
  measure mae(net(x), y) on points.valid
  stop after {steps} steps
}}
"""


def run(
    loss: str = "mse(net(x), y)",
    update: str = "using momentum(0.05)",
    steps: int = 20,
    backend: Backend | None = None,
    stepped: Callable[[Progress], None] | None = None,
) -> Outcome:
    class Watching(Silent):
        def stepped(self, progress: Progress) -> None:
            if stepped is not None:
                stepped(progress)

    training = lowered(TEXT.format(loss=loss, update=update, steps=steps))
    data = {"points": {"train": points(20), "valid": points(8, seed=1)}}
    return train(training, data, backend or current_backend(), listener=Watching())


def assert_same(one: Outcome, other: Outcome) -> None:
    for name, value in other.variables.items():
        np.testing.assert_array_equal(one.variables[name], value, err_msg=name)
    assert one.figures == other.figures


# --- Ctrl-C ------------------------------------------------------------------------------------


@on_each_backend
def test_an_interrupted_run_ends_like_one_that_was_to_stop_there() -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt(progress: Progress) -> None:
        if progress.step >= 7:
            signal.raise_signal(signal.SIGINT)

    outcome = run(stepped=interrupt)
    assert (outcome.interrupted, outcome.stopped_by) == (True, "interrupted")
    assert 7 <= outcome.progress.step <= 8  # where an epoch ends, if steps are taken together
    assert_same(outcome, run(steps=outcome.progress.step))
    assert signal.getsignal(signal.SIGINT) is before


@on_each_backend
def test_impatience_between_steps_ends_the_run_as_well() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step >= 7:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    outcome = run(stepped=interrupt)
    assert outcome.interrupted
    assert outcome.figures == {}  # which take a while
    whole = run(steps=outcome.progress.step)
    assert_same(replace(outcome, figures=whole.figures), whole)


class Breaking(NumpyBackend):
    """Presses Ctrl-C twice in the middle of the updates of one step."""

    def __init__(self, at: int) -> None:
        self.at, self.updates = at, 0

    def compile(self, graph: Graph) -> Code:
        backend = self

        class Counted(NodeByNode):
            def launch(self, work: Work, *views: Sequence[Array]) -> Launch:
                return backend.counting(graph[work.nodes[0]], super().launch(work, *views))

        return Counted(graph)

    def counting(self, node: Node, launch: Launch) -> Launch:
        if node.op != "assign" or node.phase is not Phase.UPDATE:
            return launch

        def breaking() -> None:
            launch()
            self.updates += 1
            if self.updates == self.at:
                raise KeyboardInterrupt

        return breaking


@pytest.mark.parametrize("at", [1, 2, 9])
def test_half_a_step_is_undone(at: int) -> None:
    outcome = run(backend=Breaking(at))
    updates = 2  # of the momentum and of the parameter
    steps = (at - 1) // updates
    assert (outcome.interrupted, outcome.progress.step) == (True, steps)
    if steps:
        assert_same(outcome, run(steps=steps))
    else:
        np.testing.assert_array_equal(outcome.variables["net.w"], np.ones(3))


class Cut(LlvmBackend):
    """Presses Ctrl-C twice when the steps taken together at one time are over, all or some."""

    def __init__(self, at: int, after: int) -> None:
        super().__init__()
        self.at, self.after, self.times = at, after, 0

    def loop(
        self,
        body: Sequence[Launch],
        given: Sequence[Given | Gathered] = (),
        taken: Sequence[Taken] = (),
    ) -> Loop:
        backend, loop = self, super().loop(body, given, taken)

        class Cutting:
            def run(self, iterations: int) -> int:
                backend.times += 1
                if backend.times == backend.at:
                    loop.run(min(iterations, backend.after))
                    raise KeyboardInterrupt
                return loop.run(iterations)

        return Cutting() if taken else loop


@pytest.mark.parametrize("after", [0, 1, 2, 9])
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_steps_that_are_taken_together_are_undone_together(
    monkeypatch: pytest.MonkeyPatch, epochs: int, after: int
) -> None:
    monkeypatch.setattr(trainer, "Pace", lambda durations: Blocks([99]))  # a whole epoch of 4 steps
    steps = 4 * epochs
    outcome = run(backend=Cut(epochs + 1, after))
    assert (outcome.interrupted, outcome.progress.step) == (True, steps)
    if steps:
        assert_same(outcome, run(steps=steps, backend=LlvmBackend()))
    else:
        np.testing.assert_array_equal(outcome.variables["net.w"], np.ones(3))


def press_twice() -> None:
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)


class Pressing(LlvmBackend):
    """Node by node, and many steps at a time; presses Ctrl-C twice in the middle of an update."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.updates = at, 0

    def compile(self, graph: Graph) -> Code:
        backend = self

        class Counted(NodeByNode):
            def launch(self, work: Work, *views: Sequence[Array]) -> Launch:
                launch, node = super().launch(work, *views), graph[work.nodes[0]]
                return backend.counting(launch) if node.op == "assign" else launch

        return Counted(graph)

    def counting(self, launch: Launch) -> Launch:
        def pressing() -> None:
            launch()
            self.updates += 1
            if self.updates == self.at:
                press_twice()

        return pressing


def assert_undone(outcome: Outcome, steps: int) -> None:
    assert (outcome.interrupted, outcome.progress.step) == (True, steps)
    whole = run(steps=steps, backend=Pressing(0))
    assert_same(outcome, replace(whole, figures={}))


def test_all_steps_are_taken_again_though_they_have_been_told_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first Ctrl-C tells the steps to end, and the second one takes them back."""
    monkeypatch.setattr(trainer, "Pace", lambda durations: Blocks([99]))  # a whole epoch of 4 steps
    assert_undone(run(backend=Pressing(19)), 8)  # two updates a step


def test_all_steps_are_taken_again_though_the_next_were_told_to_end_before_they_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both come while the samples of the next steps are chosen."""
    fill = Steps.fill

    def pressing(steps: Steps, moment: Moment, seconds_before: float, count: int) -> None:
        fill(steps, moment, seconds_before, count)
        if moment.step == 8:
            monkeypatch.setattr(Steps, "fill", fill)
            press_twice()

    monkeypatch.setattr(trainer, "Pace", lambda durations: Blocks([99]))
    monkeypatch.setattr(Steps, "fill", pressing)
    assert_undone(run(backend=Pressing(0)), 8)


# --- figures that are not finite ---------------------------------------------------------------

FAULTS = [
    # What is not finite, the step it shows in, what is named, and the parameters left.
    ("a loss of no number", {"loss": "mean(log(net(x) - 1e9))"}, 0, "`log`", 1.0),
    (
        "a loss that overflows at once",
        {"loss": "mean(exp(1000 + net(x)))"}, 0, "`exp`", 1.0,
    ),
    (
        "an update that overflows while the loss is finite",
        # w: 1, 1e30, inf. The loss of step 1 is finite, its update is at fault.
        {"loss": "mean(net(x))", "update": "net.w <- 1e30 * net.w"}, 2, "in step 1", 1e30,
    ),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("what", "changes", "step", "named", "left"), FAULTS)
def test_a_figure_that_is_not_finite(
    what: str, changes: dict[str, str], step: int, named: str, left: float
) -> None:
    outcome = run(**changes)
    assert outcome.failure is not None, what
    assert outcome.failure.code == "E0703"
    assert f"at step {step}" in outcome.failure.message
    assert outcome.stopped_by == outcome.failure.message
    (note,) = outcome.failure.notes
    assert named in note
    assert outcome.failure.span is not None
    np.testing.assert_allclose(outcome.variables["net.w"], np.full(3, left), rtol=1e-6)


@pytest.mark.parametrize("at", [4, 5])
def test_impatience_while_a_fault_is_looked_for_leaves_the_last_moment(at: int) -> None:
    """Three updates are those of the run; from the fourth on, steps are taken again."""
    update = "net.w <- 1e30 * net.w"
    outcome = run(loss="mean(net(x))", update=update, backend=Breaking(at))
    assert (outcome.interrupted, outcome.progress.step) == (True, 2)
    before = run(loss="mean(net(x))", update=update, steps=2)
    np.testing.assert_array_equal(outcome.variables["net.w"], before.variables["net.w"])


@on_each_backend
@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        ("mean(log(net(x) - 1e9))", "the logarithm of 0 or less"),
        ("mean(exp(1000 + net(x)))", "the exponential is too large"),
        ("mean(1 / (0 * net(x)))", "something is divided by 0"),
        ("mean(sqrt(0 * net(x)))", "no finite gradient at 0"),
        ("mean(1e30 * 1e30 * net(x))", "the first values of the parameters"),
    ],
)
def test_before_any_update_the_rate_is_not_to_blame(loss: str, cause: str) -> None:
    outcome = run(loss=loss, update="using sgd(0.1)")
    assert outcome.failure is not None
    assert "the rate is not to blame" in outcome.failure.help
    assert cause in outcome.failure.help
    diverged = run(update="using sgd(1e4)", steps=200)
    assert diverged.failure is not None
    assert diverged.failure.help.startswith("lower the rate")


@on_each_backend
def test_a_run_that_diverges_leaves_finite_parameters_and_figures() -> None:
    outcome = run(update="using sgd(1e4)", steps=200)
    assert outcome.failure is not None
    assert not outcome.interrupted
    assert all(np.isfinite(value).all() for value in outcome.variables.values())
    assert outcome.history
    assert np.isfinite(outcome.figures["valid.mae"])
