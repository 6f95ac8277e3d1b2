"""Paths with wildcards: `net.**.W` is the tree of the trained parameters that fit."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fml.dsl.values import fits
from tests.dsl.programs import points, trained

TEXT = """\
data d = given {{ x: f32[3]; y: f32 }}
layer block(u: dim)(x: f32[N, D]) = x |> dense(u) |> tanh
model net(x: f32[N, D]) -> f32[N] {{
  h = x |> block(4) |> block(3)
  head = dense(1)
  squeeze(head(h), over = 1)
}}
train {{
  net = net()
  feed x, y from d.train |> batch(8)
  {statements}
  stop after 3 steps
}}
"""
WEIGHTS = ("net.block_0.dense.W", "net.block_1.dense.W", "net.head.W")
BIASES = ("net.block_0.dense.b", "net.block_1.dense.b", "net.head.b")


def variables(*statements: str) -> dict[str, np.ndarray]:
    text = TEXT.format(statements="\n  ".join(statements))
    return dict(trained(text, {"d": points()}).variables)


@pytest.mark.parametrize(
    ("pattern", "path", "is_fit"),
    [
        ("W", "W", True),
        ("W", "dense.W", False),
        ("**.W", "W", True),
        ("**.W", "a.b.W", True),
        ("**.W", "a.b.W_0", False),
        ("*.W", "a.W", True),
        ("*.W", "W", False),
        ("*.W", "a.b.W", False),
        ("a.**.W", "a.W", True),
        ("a.**.W", "b.W", False),
        ("**.dense", "a.dense.W", True),  # what lies in a layer that fits
        ("*", "a.b.W", True),
        ("**", "W", True),
        ("**.a.**.W", "a.b.a.c.W", True),
    ],
)
def test_a_pattern_fits_names_and_what_lies_in_them(pattern: str, path: str, is_fit: bool) -> None:
    assert fits(tuple(pattern.split(".")), tuple(path.split("."))) == is_fit


@pytest.mark.parametrize(
    ("selected", "written"),
    [
        ("l2(net.**.W)", "l2(net.block_0.dense.W) + l2(net.block_1.dense.W) + l2(net.head.W)"),
        ("l2(net.*.W)", "l2(net.head.W)"),
        ("l2(net.**.dense)", "l2(net.block_0) + l2(net.block_1)"),
        ("l2(net.block_0.**)", "l2(net.block_0)"),
        ("l2(net.**)", "l2(net)"),
    ],
)
def test_a_path_is_the_tree_of_what_it_selects(selected: str, written: str) -> None:
    found, expected = (
        variables(f"minimize loss = mse(net(x), y) + 0.1 * ({penalty})", "using sgd(0.1)")
        for penalty in (selected, written)
    )
    for name, value in expected.items():
        assert_allclose(found[name], value, rtol=1e-6, atol=1e-7)


def test_only_what_over_selects_is_trained() -> None:
    loss = "minimize loss = mse(net(x), y)"
    start = variables(f"{loss} over net.**.W", "using sgd(0)")
    end = variables(f"{loss} over net.**.W", "using sgd(0.1)")
    assert all((end[name] != start[name]).any() for name in WEIGHTS)
    assert all((end[name] == 0).all() for name in BIASES)


def test_gradients_and_assignments_go_parameter_by_parameter() -> None:
    by_hand = variables(
        "loss = mse(net(x), y)",
        "net.**.W <- net.**.W - 0.1 * grad(loss, net.**.W)",
        "measure mse(net(x), y) on d.train",
    )
    by_sgd = variables("minimize loss = mse(net(x), y) over net.**.W", "using sgd(0.1)")
    for name in (*WEIGHTS, *BIASES):
        assert_array_equal(by_hand[name], by_sgd[name])


def test_a_selection_is_logged() -> None:
    text = TEXT.format(
        statements="minimize loss = mse(net(x), y)\n  using sgd(0.1)\n"
        '  log norm(net.**.W) as "size" every 1 step'
    )
    outcome = trained(text, {"d": points()})
    (last,) = (p.value for p in outcome.history if p.series == "size" and p.step == 3)
    weights = np.concatenate([outcome.variables[name].ravel() for name in WEIGHTS])
    assert_allclose(last, np.linalg.norm(weights), rtol=1e-6)
