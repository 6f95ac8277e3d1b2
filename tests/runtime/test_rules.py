"""The rules of a plan (language, section 5, Time) against loops written by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fml.engine.backends.null import NullBackend
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Duration, Unit
from fml.engine.runtime.section import Moment, is_due
from fml.engine.runtime.trainer import train
from fml.engine.sources.load import load
from tests.backends import on_each_backend
from tests.dsl.programs import EXAMPLES, example, lowered
from tests.runtime.counting import COUNTING, PEAK, count, run, series

# --- every, when, previous, before ---------------------------------------------------------------

PROGRAMS: list[tuple[str, str, list[float]]] = [
    # What c is after each of 8 steps; an epoch is 3 steps.
    ("the step itself", "net.c <- net.c + 1", [1, 2, 3, 4, 5, 6, 7, 8]),
    ("step is 0 in the first step", "net.c <- step", [0, 1, 2, 3, 4, 5, 6, 7]),
    ("epoch is a fraction", "net.c <- 3 * epoch", [0, 1, 2, 3, 4, 5, 6, 7]),
    ("samples", "net.c <- samples", [0, 4, 8, 12, 16, 20, 24, 28]),
    ("a duration in samples as steps of 4", "net.c <- steps(10 samples)", [2.5] * 8),
    ("a schedule over samples", "net.c <- 1 |> warmup(16 samples)", [0.25, 0.5, 0.75, *[1.0] * 5]),
    ("a drop after samples", "net.c <- 1 |> drop(to = 10%, at = [10 samples])",
     [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1]),
    ("every 3 steps fires after steps 3, 6", "every 3 steps { net.c <- net.c + 1 }",
     [0, 0, 1, 1, 1, 2, 2, 2]),
    ("every 1 step", "every 1 step { net.c <- net.c + 1 }", [1, 2, 3, 4, 5, 6, 7, 8]),
    ("every epoch", "every 1 epoch { net.c <- net.c + 1 }", [0, 0, 1, 1, 1, 2, 2, 2]),
    ("every two epochs", "every 2 epochs { net.c <- net.c + 1 }", [0, 0, 0, 0, 0, 1, 1, 1]),
    ("every part of an epoch", "every 0.5 epochs { net.c <- net.c + 1 }",
     [0, 1, 2, 2, 3, 4, 4, 5]),
    ("every 9 samples", "every 9 samples { net.c <- net.c + 1 }", [0, 0, 1, 1, 2, 2, 3, 3]),
    ("step has grown in a block", "every 1 step { net.c <- step }", [1, 2, 3, 4, 5, 6, 7, 8]),
    ("when", "when step >= 3 { net.c <- net.c + 1 }", [0, 0, 1, 2, 3, 4, 5, 6]),
    ("a block sees the step's update",
     "net.c <- net.c + 1\n  every 2 steps { net.c <- 10 * net.c }",
     [1, 20, 21, 220, 221, 2220, 2221, 22220]),
    ("blocks in the order of the text",
     "every 2 steps { net.c <- net.c + 1 }\n  every 2 steps { net.c <- 10 * net.c }",
     [0, 10, 10, 110, 110, 1110, 1110, 11110]),
    ("before is the start of the step",
     "net.c <- net.c + 1\n  state s: f32 ~ zeros\n"
     "  every 2 steps { s <- s + net.c - before(net.c) }\n"
     "  every 4 steps { net.c <- net.c + 100 * s }",
     [1, 2, 3, 204, 205, 206, 207, 608]),
    ("previous is this place's last execution",
     "state n: f32 ~ zeros\n  n <- n + 1\n  every 2 steps { net.c <- n - previous(n) }",
     [0, 0, 0, 2, 2, 2, 2, 2]),
    ("previous in the step", "state n: f32 ~ zeros\n  n <- n + 1\n  net.c <- n - previous(n)",
     [0, 1, 1, 1, 1, 1, 1, 1]),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("what", "body", "expected"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_when_things_happen(what: str, body: str, expected: list[float]) -> None:
    found = [count(run(f"{body}\n  stop after {n} steps")) for n in range(1, 9)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# What a series is, with its steps: n is 1, 2, 3, ... step by step, and an epoch is 3 steps.
GROWING = "state n: f32 ~ zeros\n  n <- n + 1\n  stop after 8 steps\n  "
PREVIOUS: list[tuple[str, str, str, list[tuple[int, float]]]] = [
    # The first time, previous(e) is e.
    ("in a log", "log n^2 - previous(n^2) as \"d\" every 2 steps", "d",
     [(2, 0), (4, 12), (6, 20), (8, 28)]),
    ("in a log of every epoch", "log 10 * n + previous(n) as \"d\"", "d", [(3, 33), (6, 63)]),
    ("in a log of the batch", "log mean(n * x) - previous(mean(n * x)) as \"d\" every 3 steps", "d",
     [(3, 0), (6, 3)]),
    ("of what a plan binds", "a = n * mean(x)\n  log a - previous(a) as \"d\" every 2 steps", "d",
     [(2, 0), (4, 2), (6, 2), (8, 2)]),
    ("in a measurement", "measure n * mean(x) - previous(n * mean(x)) as \"d\" "
     "on points.valid every 2 steps", "valid.d", [(2, 0), (4, 2), (6, 2), (8, 2)]),
    ("of a measured figure that a plan binds", "a = n * mean(x)\n  d = a - previous(a)\n"
     "  measure d on points.valid", "valid.d", [(3, 0), (6, 3)]),
    ("of an instance", "net.c <- n\n  log norm(net - previous(net)) as \"d\" every 4 steps", "d",
     [(4, 0), (8, 4)]),
    ("of a counter", "log step - previous(step) as \"d\" every 3 steps", "d", [(3, 0), (6, 3)]),
    ("each place its own", "log n - previous(n) as \"d\" every 4 steps\n"
     "  log n - previous(n) as \"e\" every 1 step", "d", [(4, 0), (8, 4)]),
    ("inside itself", "log n - previous(previous(n)) as \"d\" every 2 steps", "d",
     [(2, 0), (4, 2), (6, 4), (8, 4)]),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("what", "body", "name", "expected"), PREVIOUS)
def test_previous_is_the_last_time_that_a_figure_was_taken(
    what: str, body: str, name: str, expected: list[tuple[int, float]]
) -> None:
    assert series(run(GROWING + body), name) == expected


@on_each_backend
def test_two_splits_remember_their_own() -> None:
    twice = "\n  ".join(
        f'measure n * sum(x) - previous(n * sum(x)) as "d" on points.{split} every 4 steps'
        for split in ("train", "valid")
    )
    outcome = run(GROWING + twice)  # of 12 and of 2 samples
    assert series(outcome, "train.d") == [(4, 0), (8, 48)]
    assert series(outcome, "valid.d") == [(4, 0), (8, 8)]
    # The figures of the end know nothing earlier, and neither do those that are measured again.
    assert (outcome.figures["train.d"], outcome.figures["valid.d"]) == (0, 0)


@on_each_backend
def test_a_split_that_is_measured_in_pieces_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    body = 'measure n * mean(x) - previous(n * mean(x)) as "d" on points.valid every 4 steps'
    monkeypatch.setattr("fml.engine.runtime.measuring.BYTES_AT_ONCE", 8)
    assert series(run(GROWING + body, valid=11), "valid.d") == [(4, 0), (8, 4)]


@on_each_backend
def test_previous_in_a_condition_is_that_of_the_step_before() -> None:
    falls = PEAK + "stop when valid.c < previous(valid.c)\n  stop after 60 steps"
    outcome = run(falls)  # the peak is epoch 6
    assert (outcome.progress.step, outcome.stopped_by) == (21, "valid.c < previous(valid.c)")


@pytest.mark.parametrize(
    "place", ["net.c <- {}", 'log {} as "d"', 'measure {} as "d" on points.valid']
)
def test_previous_of_a_batch_is_a_diagnostic(place: str) -> None:
    with pytest.raises(FmlError, match="E0332") as caught:
        run(GROWING + place.format("mean(x - previous(x))"))
    assert len(caught.value.diagnostics) == 1


# --- stop ----------------------------------------------------------------------------------------

# The series is 1, 2, 3, 3, 3, ... epoch by epoch.
FLAT = """every 1 epoch { net.c <- min(epoch, 3) }
  measure mean(ŷ) as "c" on points.valid
"""

STOPS: list[tuple[str, str, int, str]] = [
    # A body, the step it stops after (an epoch is 3 steps), and why.
    ("steps", "stop after 7 steps", 7, "after 7 steps"),
    ("epochs", "stop after 2 epochs", 6, "after 2 epochs"),
    ("an epoch", "stop after 1 epoch", 3, "after 1 epoch"),
    ("samples, reached within a step", "stop after 17 samples", 5, "after 17 samples"),
    ("no time at all", "stop after 0.000001 seconds", 1, "after 1e-06 seconds"),
    ("the first of two", "stop after 2 epochs\n  stop after 5 steps", 5, "after 5 steps"),
    ("when", PEAK + "stop when valid.c >= 8", 12, "valid.c >= 8"),
    ("when, false until it is measured", PEAK + "stop when valid.c < 100", 3, "valid.c < 100"),
    ("when both of two", PEAK + "stop when valid.c > 6 and step > 8", 9,
     "valid.c > 6 and step > 8"),
    ("no rise", PEAK + "stop when valid.c stops rising for 2 epochs", 24,
     "valid.c stopped rising for 2 epochs"),
    ("no fall", PEAK + "stop when valid.c stops falling for 3 epochs", 12,
     "valid.c stopped falling for 3 epochs"),
    ("no rise, in steps", PEAK + "stop when valid.c stops rising for 4 steps", 22,
     "valid.c stopped rising for 4 steps"),
    ("no rise, in samples", PEAK + "stop when valid.c stops rising for 12 samples", 21,
     "valid.c stopped rising for 12 samples"),
    ("a tie is no rise", FLAT + "stop when valid.c stops rising for 2 epochs", 15,
     "valid.c stopped rising for 2 epochs"),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("what", "body", "step", "why"), STOPS, ids=[s[0] for s in STOPS])
def test_stop(what: str, body: str, step: int, why: str) -> None:
    outcome = run(body + "\n  stop after 60 steps")
    assert (outcome.progress.step, outcome.stopped_by) == (step, why)
    assert not outcome.interrupted
    assert outcome.failure is None


# --- when something is due -----------------------------------------------------------------------

TIMES = [
    # Seconds at the step before and now, and whether `every 30 seconds` is due.
    (0.0, 29.0, False), (29.0, 31.0, True), (31.0, 59.0, False), (59.0, 61.0, True),
    (61.0, 200.0, True),
]  # fmt: skip


def test_rounding_neither_delays_nor_doubles() -> None:
    """3 / 10 / 0.1 is 2.9999999999999996: `every 0.1 epochs` is every step of ten all the same."""
    for steps_per_epoch in range(1, 40):
        moment, tenth = Moment(0, steps_per_epoch, 4), Duration(1 / steps_per_epoch, Unit.EPOCHS)
        assert all(is_due(tenth, moment, step) for step in range(1, 200))
        half = replace(tenth, amount=2 / steps_per_epoch)
        assert [n for n in range(1, 200) if is_due(half, moment, n)] == [*range(2, 200, 2)]


@pytest.mark.parametrize(("before", "now", "due"), TIMES)
def test_every_so_many_seconds(before: float, now: float, due: bool) -> None:
    moment = Moment(5, 3, 4, seconds=now)
    assert is_due(Duration(30, Unit.SECONDS), moment, 5, before) is due


# --- seeds ---------------------------------------------------------------------------------------

DRAWING = """state n: f32[40] ~ normal(0, 1)
  net.c <- net.c + mean(dropout(0.5)(n))
  stop after 3 steps"""


@on_each_backend
def test_the_same_seed_gives_the_same_bits() -> None:
    counts = [count(run(DRAWING, seed=seed)) for seed in (1, 1, 2, 2**63 + 1, -1)]
    assert counts[0] == counts[1] == counts[3]  # seeds are words of 63 bits
    assert len({*counts}) == 3


@on_each_backend
def test_the_plan_s_own_seed_is_the_default() -> None:
    assert count(run("seed 9\n  " + DRAWING)) == count(run(DRAWING, seed=9))


# --- whole plans ---------------------------------------------------------------------------------

EXAMPLE_PLANS = [
    ("linear_regression.fml", None), ("logistic_regression.fml", None),
    ("softmax_regression.fml", None), ("perceptron.fml", None),
    ("mlp_regularised.fml", None), ("mlp_regularised.fml", "baseline"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "plan"), EXAMPLE_PLANS)
def test_examples_run_dry(name: str, plan: str | None) -> None:
    training = example(name, plan)
    stop = lowered(COUNTING.format(body="net.c <- 1\n  stop after 2 steps", batch=4)).stops
    data = {n: load(d, None, EXAMPLES).splits for n, d in training.datasets.items()}
    outcome = train(replace(training, stops=stop), data, NullBackend())
    assert outcome.progress.step == 2
    assert all(not np.any(value) for value in outcome.variables.values())  # nothing is computed
