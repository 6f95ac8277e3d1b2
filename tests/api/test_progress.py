"""What is said of a run while it goes on: where it is, and how far with its figures."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

import fml
from fml import progress
from fml.engine.ir.training import Training
from fml.engine.runtime import measuring
from fml.engine.runtime.footprint import Footprint
from fml.engine.runtime.watch import Listener, Point, Progress, Start
from tests.api.programs import CLASSIFIER, points
from tests.dsl.programs import LINE, lowered

MEMORY = Footprint(1, 1, 1, 1, 1, 1)
PER_EPOCH = 25
PLAN = (
    LINE
    + """
train {{
  net = line()
  feed x, y from d.train |> batch(4)
  minimize loss = mse(net(x), y)
  using sgd(0.1)
  measure mae(net(x), y) on d.valid
  stop after {limit}
  keep lowest valid.mae
}}"""
)


def plan(limit: str) -> Training:
    return lowered(PLAN.format(limit=limit))


def at(step: int) -> Progress:
    return Progress(step, step / PER_EPOCH, 4 * step, 1.0, {})


def lines(limit: str, steps: Sequence[int]) -> list[str]:
    """What is written of figures taken after these steps, each better than those before."""
    console = Console(file=io.StringIO())
    listener = progress.PlainLines(plan(limit), console)
    listener.started(Start(at(0), PER_EPOCH, MEMORY))
    for step in steps:
        listener.stepped(at(step))
        listener.measured((Point("valid.mae", step, step / PER_EPOCH, 4 * step, 1.0, 1 / step),))
    listener.finished()
    return console.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]


PLACES = [
    ("4 epochs", 50, "epoch 2/4, step 50: valid.mae 0.02, best 0.02 in epoch 2"),
    ("100 steps", 50, "epoch 2/4, step 50: valid.mae 0.02, best 0.02 in epoch 2"),
    ("30 steps", 20, "epoch 0, step 20/30: valid.mae 0.05, best 0.05 at step 20"),
    ("1.5 epochs", 25, "epoch 1, step 25/38: valid.mae 0.04, best 0.04 in epoch 1"),
    ("2 hours", 50, "epoch 2, step 50: valid.mae 0.02, best 0.02 in epoch 2"),
]


@pytest.mark.parametrize(("limit", "step", "line"), PLACES)
def test_a_run_that_ends_within_an_epoch_counts_its_steps(
    limit: str, step: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    assert lines(limit, [step]) == [line]


def drawn(listener: Listener, console: Console) -> str:
    assert isinstance(listener, progress.LiveLine)
    with console.capture() as captured:
        console.print(listener._line())  # pyright: ignore[reportPrivateUsage]
    return captured.get().strip()


def test_figures_of_a_large_split_say_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_MEASURING_IS_SAID", 0.0)
    console = Console(file=io.StringIO(), width=100)
    training = plan("30 steps")
    plain, live = progress.PlainLines(training, console), progress.LiveLine(training, console)
    for listener in (plain, live):
        listener.stepped(at(20))
        listener.measuring("valid", 0, 60_000)
        listener.measuring("valid", 12_000, 60_000)
    said = "measuring valid: 12,000 of 60,000 samples"
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn(live, console) == f"epoch 0  {said}"
    live.measuring("valid", 60_000, 60_000)
    assert "measuring" not in drawn(live, console)
    # One that is soon over is not worth a word.
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_MEASURING_IS_SAID", 60.0)
    live.measuring("valid", 12_000, 60_000)
    assert "measuring" not in drawn(live, console)


def test_measuring_alone_says_how_far_a_large_split_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_MEASURING_IS_SAID", 0.0)
    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", 1)  # a sample at a time
    run = fml.loads(CLASSIFIER).train(data={"points": {"train": points(16)}})
    for is_terminal in (False, True):
        console = Console(file=io.StringIO(), width=100, force_terminal=is_terminal)
        with progress.measuring_alone(run.training, console) as listener:
            assert run.evaluate(on_event=listener) == run.figures
            listener.measuring("valid", 12_000, 60_000)
        said = console.file.getvalue()  # type: ignore[attr-defined]
        assert "measuring valid: 12,000 of 60,000 samples" in said
        if not is_terminal:
            counts = "".join(f"measuring train: {n} of 16 samples\n" for n in range(16))
            assert said.startswith(counts)
