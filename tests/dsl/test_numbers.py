"""Written numbers keep all digits of the element in which they are used; f64 models see no f32."""

import numpy as np
import pytest

from tests.dsl.programs import trained

TENTH, THIRD = 0.1, 1 / 3
# What `net.c` of f64 becomes by an expression, x = [0.5, 2]; each would differ by 1e-9 through f32.
EXPRESSIONS: list[tuple[str, float]] = [
    ("0.1", TENTH),
    ("where(step < 5, 0.1, 0.2)", TENTH),
    ("where(step > 5, 0.1, 1 / 3)", THIRD),
    ("where(epoch < 1 and not (samples > 100), 0.1, step * 0.1)", TENTH),
    ("where(step < 5, 0.1, 0.2) * sum(x)", 2.5 * TENTH),
    ("sum(where(x > 1, 0.1, 1 / 3))", TENTH + THIRD),
    ("sum(where(x > 1 or x < 0.1, step * 0.1, 1 / 3))", THIRD),
    ("where(mean(x) > 1, 0.1, 0.2)", TENTH),
    ("max(step, 0.1)", TENTH),
    ("min(max(step, 0.1), 1 / 3)", TENTH),
    ("clip(step, 0.1, 0.2)", TENTH),
    ("sum(max(x, 0.6)) - 2.6", 0.6 + 2 - 2.6),
    ("sum([0.1, 1 / 3])", TENTH + THIRD),
    ("max([0.1, step])", TENTH),
    ("mean([0.1, step + 0.1])", TENTH),
    ("sum(mean(x) * [0.1, 0.3])", 0.5),
    ("sum(stack([0.1, mean(x)]))", TENTH + 1.25),
    ("cast(0.1, f64)", TENTH),
    ("cast([0.1, 0.2], f64)[1]", 0.2),
    ("same_number(0.1)", TENTH),
    ("same_number(step + 0.1)", TENTH),
    ("mse(0.1, 0.4)", (0.1 - 0.4) ** 2),
    ("warmup_constant(0.1, 5 steps, 1 / 3)", THIRD),
    ("cosine(0.1, 5 steps)", TENTH),
]
PLAN = """
data d = given {{ x: {element} }}
fn same_number(a: float) -> float = a
model m(x: {element}[N]) -> {element}[N] {{
  param c: {element} ~ ones
  c * x
}}
train {{
  net = m()
  feed x from d.train
  y = net(x)
  {body}
  stop after 1 step
}}
"""


def value_of(body: str, element: str) -> float:
    x = np.asarray([0.5, 2], np.float64 if element == "f64" else np.float32)
    outcome = trained(PLAN.format(body=body, element=element), {"d": {"x": x}})
    return float(outcome.variables["net.c"])


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_numbers_in_f64(expression: str, expected: float) -> None:
    assert value_of(f"net.c <- {expression}", "f64") == pytest.approx(expected, rel=0, abs=2e-16)


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_the_same_in_f32(expression: str, expected: float) -> None:
    if "f64" not in expression:
        found = value_of(f"net.c <- {expression}", "f32")
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_number_for_a_whole_layer_value() -> None:
    assert value_of("net <- 0.1", "f64") == TENTH
    assert value_of("net <- where(step < 5, 0.1, 0.2)", "f64") == TENTH


def test_a_rate_that_steps_is_exact() -> None:
    # c <- 1 - rate * d mean(c x) / dc
    body = "minimize mean(y)\n  using sgd(where(step < 5, 0.1, 0.2))"
    assert value_of(body, "f64") == 1 - 0.1 * 1.25


def test_a_logged_number_is_the_one_that_was_written() -> None:
    text = PLAN.format(body='net.c <- 1\n  log 0.1 as "rate"', element="f32")
    outcome = trained(text, {"d": {"x": np.ones(2, np.float32)}})
    assert [p.value for p in outcome.history if p.series == "rate"] == [TENTH]
