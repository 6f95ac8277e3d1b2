"""What a plan measures, logs and keeps, against numbers counted by hand."""

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.runtime.trainer import train
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import lowered, points, trained
from tests.runtime.counting import COUNTING, PEAK, count, run, series

KEEPS = [
    ("the highest", PEAK + "keep highest valid.c\n  stop after 9 epochs", 10.0),
    ("the lowest", PEAK + "keep lowest valid.c\n  stop after 9 epochs", 5.0),
    ("the last by default", PEAK + "stop after 9 epochs", 7.0),
    ("the last if nothing was measured", PEAK + "keep highest valid.c\n  stop after 2 steps", 0.0),
]


@on_each_backend
@pytest.mark.parametrize(("what", "body", "kept"), KEEPS)
def test_keep(what: str, body: str, kept: float) -> None:
    outcome = run(body)
    assert count(outcome) == kept, what
    assert outcome.figures["valid.c"] == kept


@on_each_backend
@pytest.mark.parametrize(
    ("keep", "figure"), [("highest", "min(mean(ŷ), 3)"), ("lowest", "max(-mean(ŷ), -3)")]
)
def test_ties_keep_the_first(keep: str, figure: str) -> None:
    body = f"""every 1 epoch {{ net.c <- epoch }}
  measure {figure} as "capped" on points.valid
  keep {keep} valid.capped
  stop after 8 epochs"""
    assert count(run(body)) == 3


@on_each_backend
@pytest.mark.parametrize(("keep", "kept"), [("highest", 5), ("lowest", 2)])
def test_a_figure_that_is_no_number_is_not_kept(keep: str, kept: float) -> None:
    body = f"""every 1 epoch {{ net.c <- epoch }}
  measure sqrt(mean(ŷ) - 1.5) as "root" on points.valid
  keep {keep} valid.root
  stop after 5 epochs"""
    assert count(run(body)) == kept


@on_each_backend
def test_measures_are_taken_when_they_are_due_and_at_the_end() -> None:
    body = """net.c <- step + 1
  measure mean(ŷ) as "each" on points.valid
  measure mean(ŷ) as "often" on points.train every 2 steps
  measure sum(ŷ) as "once" on points.valid at end
  log net.c as "logged" every 3 steps
  stop after 7 steps"""
    outcome = run(body, valid=5)
    assert series(outcome, "valid.each") == [(3, 3), (6, 6)]
    assert series(outcome, "train.often") == [(2, 2), (4, 4), (6, 6)]
    assert series(outcome, "logged") == [(3, 3), (6, 6)]
    assert series(outcome, "valid.once") == []
    figures = {name: outcome.figures[name] for name in ("valid.each", "train.often", "valid.once")}
    assert figures == {"valid.each": 7, "train.often": 7, "valid.once": 35}


@on_each_backend
def test_what_is_minimised_is_averaged_over_the_epoch() -> None:
    body = """net.c <- step + 1
  minimize loss = mean((ŷ - 1)^2)
  using sgd(0)
  stop after 7 steps"""
    # ŷ is bound before the assignment: in step s it is s.
    losses = [(s - 1) ** 2 for s in range(7)]
    expected = [(3, np.mean(losses[:3])), (6, np.mean(losses[3:6]))]
    np.testing.assert_allclose(series(run(body), "train.loss"), expected, rtol=1e-6)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_splits_that_are_not_there(split: str) -> None:
    body = 'net.c <- 1\n  measure mean(ŷ) as "c" on points.valid\n  stop after 1 step'
    training = lowered(COUNTING.format(body=body, batch=4))
    ones = {"x": np.ones(4, np.float32)}
    data = {name: ones for name in ("train", "valid") if name != split}
    with pytest.raises(FmlError, match=f"E0521.*`{split}`"):
        train(training, {"points": data}, current_backend())


@on_each_backend
def test_what_depends_on_the_batch_is_logged_as_the_step_had_it() -> None:
    body = """
      minimize loss = mean(ŷ^2) + net.c
      using sgd(0.1)
      log loss every 1 step
      log norm(grad(loss, net)) as "slope" every 2 steps
      log net.c as "c" every 1 step
      stop after 6 steps
    """
    outcome = run(body)
    c, losses, slopes, values = 0.0, list[tuple[int, float]](), list[tuple[int, float]](), []
    for step in range(1, 7):
        losses.append((step, c**2 + c))
        if step % 2 == 0:
            slopes.append((step, abs(2 * c + 1)))
        c -= 0.1 * (2 * c + 1)
        values.append((step, c))
    for name, expected in (("loss", losses), ("slope", slopes), ("c", values)):
        found = series(outcome, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [v for _, v in found] == pytest.approx([v for _, v in expected], rel=1e-5)


@on_each_backend
def test_a_log_changes_nothing() -> None:
    text = """
    data points = given {{ x: f32[3]; y: f32 }}
    model net(x: f32[N, D]) -> f32[N] {{
      param w: f32[D] ~ normal(0, 0.5)
      state seen: f32 ~ zeros
      seen <- seen + 1
      dropout(0.3)(x) @ w
    }}
    train {{
      net = net()
      feed x, y from points.train |> shuffle |> batch(6)
      minimize loss = mse(net(x), y)
      using momentum(0.05)
      {log}
      stop after 8 steps
    }}
    """
    with_log, without = (
        trained(text.format(log=log), {"points": points()})
        for log in ('log mse(net(x), y) as "again" every 1 step', "")
    )
    for name, value in without.variables.items():
        np.testing.assert_array_equal(with_log.variables[name], value)
    assert len(series(with_log, "again")) == 8
