"""Whole runs end where mathematics and scikit-learn say they must."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression

from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.sources.load import LoadedData, load
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import EXAMPLES, example, lowered

PENALTY = 0.02  # of the weights, not of the intercept

SOFTMAX = f"""
data flowers = given {{ x: f32[4]; y: label[3] }}
model softmax_regression(x: f32[N, D]) -> f32[N, 3] {{
  param W: f32[D, 3] ~ zeros
  param b: f32[3] ~ zeros
  x @ W + b
}}
train {{
  net = softmax_regression()
  feed x, y from flowers.train
  minimize J = cross_entropy(net(x), y) + {PENALTY} * l2(net.W)
  using momentum(0.3)
  stop after 600 steps
}}
"""

SIGMOID = f"""
data cells = given {{ x: f32[30]; y: label[2] }}
model logistic_regression(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ zeros
  param b: f32 ~ zeros
  x @ w + b
}}
train {{
  net = logistic_regression()
  feed x, y from cells.train
  minimize J = binary_cross_entropy(net(x), y) + {PENALTY} * l2(net.w)
  using momentum(0.1)
  stop after 600 steps
}}
"""

TWO_CLASSES = """
model logistic_regression(x: f32[N, D]) -> f32[N, 2] {
  param W: f32[D, 2] ~ zeros
  param b: f32[2] ~ zeros
  x @ W + b
}
"""


def run(text: str, name: str, x: np.ndarray, y: np.ndarray) -> Outcome:
    data = {name: {"train": {"x": x.astype(np.float32), "y": y.astype(np.int32)}}}
    return train(lowered(text), data, current_backend())


def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def scikit_learn(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    """The same objective: mean cross-entropy + PENALTY |w|², the intercept not penalised."""
    inverse = 1 / (2 * PENALTY * len(y))
    return LogisticRegression(C=inverse, tol=1e-10, max_iter=10_000).fit(x, y)


@on_each_backend
def test_linear_regression_ends_at_the_normal_equations() -> None:
    training = example("linear_regression.fml", η=0.4)
    data: dict[str, LoadedData] = {
        name: load(dataset, None, EXAMPLES) for name, dataset in training.datasets.items()
    }
    outcome = train(training, {n: d.splits for n, d in data.items()}, current_backend())
    (loaded,) = data.values()
    fields = loaded.splits["train"]
    x = np.column_stack([fields["x"], np.ones(len(fields["y"]))]).astype(float)
    solution = np.linalg.solve(x.T @ x, x.T @ fields["y"].astype(float))
    found = [*outcome.variables["net.w"], float(outcome.variables["net.b"])]
    np.testing.assert_allclose(found, solution, rtol=1e-3)
    residuals = fields["y"] - x @ solution
    np.testing.assert_allclose(outcome.figures["train.J"], np.mean(residuals**2), rtol=1e-4)


@on_each_backend
def test_softmax_regression_ends_at_scikit_learn_s_optimum() -> None:
    x, y = load_iris(return_X_y=True)
    x = standardized(x)
    outcome, peer = run(SOFTMAX, "flowers", x, y), scikit_learn(x, y)
    np.testing.assert_allclose(outcome.variables["net.W"].T, peer.coef_, rtol=1e-3, atol=1e-4)
    # Intercepts are told apart from a common shift only by where descent begins.
    b = outcome.variables["net.b"]
    expected = peer.intercept_ - peer.intercept_.mean()
    np.testing.assert_allclose(b - b.mean(), expected, rtol=1e-3, atol=1e-4)


@on_each_backend
def test_logistic_regression_ends_at_scikit_learn_s_optimum() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x = standardized(x)
    outcome, peer = run(SIGMOID, "cells", x, y), scikit_learn(x, y)
    np.testing.assert_allclose(outcome.variables["net.w"], peer.coef_[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outcome.variables["net.b"], peer.intercept_[0], rtol=1e-3)


@on_each_backend
@pytest.mark.parametrize("steps", [1, 10, 100])
def test_two_classes_by_softmax_are_logistic_regression(steps: int) -> None:
    """Without penalty: logits ±z/2 have the same loss, and half the gradient each."""
    x, y = load_breast_cancer(return_X_y=True)
    x = standardized(x)[:, :30]
    text = SIGMOID.replace(f" + {PENALTY} * l2(net.w)", "").replace("600", str(steps))
    begin, end = text.index("model"), text.index("train {")
    softmax = text[:begin] + TWO_CLASSES + text[end:].replace("binary_cross", "cross")
    one = run(text, "cells", x, y).variables
    # The difference of two logits moves twice as fast as a single one.
    two = run(softmax.replace("momentum(0.1)", "momentum(0.05)"), "cells", x, y).variables
    difference = two["net.W"][:, 1] - two["net.W"][:, 0]
    np.testing.assert_allclose(difference, one["net.w"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(two["net.b"][1] - two["net.b"][0], one["net.b"], rtol=1e-4)


@on_each_backend
def test_a_perceptron_separates_what_can_be_separated() -> None:
    training = example("perceptron.fml")
    data = {n: load(d, None, EXAMPLES).splits for n, d in training.datasets.items()}
    outcome = train(training, data, current_backend())
    assert outcome.figures["train.mistakes"] == 0
