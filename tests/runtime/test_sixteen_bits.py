"""Training in f16 and bf16: every optimizer goes down about as far as in f32."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fml.dsl.modules import std_index
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from tests.backends import current_backend, on_each_backend, using
from tests.dsl.programs import lowered, trained

# The optimizers of std, each with a rate at which the loss goes down in 100 epochs.
UPDATES = {
    "sgd": "sgd(0.05)",
    "momentum": "momentum(0.02)",
    "nesterov": "nesterov(0.02)",
    "nesterov_of": "nesterov_of(0.02)",
    "adagrad": "adagrad(0.05)",
    "rmsprop": "rmsprop(0.003)",
    "adam": "adam(0.003)",
    "adamw": "adamw(0.003)",
    "lars": "lars(1)",
    "lamb": "lamb(0.01)",
    "lion": "lion(0.001)",
    "clip_norm": "clip_norm(0.1) |> adam(0.003)",
    "clip_value": "clip_value(0.1) |> sgd(0.1)",
    "decay": "decay(1e-4) |> sgd(0.05)",
}
PLAN = """
data d = given {{ x: {element}[3]; y: {element} }}
model m(x: float[N, D]) -> float[N] {{
  param a: float[D, 8] ~ glorot_uniform {where}
  param b: float[8] ~ glorot_uniform
  tanh(x @ a) @ b
}}
train {{
  net = m()
  feed x, y from d.train |> batch(20)
  minimize loss = mse(net(x), y)
  using {optimizer}
  {more}
  stop after {epochs} epochs
}}"""


def points() -> dict[str, NDArray[np.float32]]:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    return {"x": x, "y": np.tanh(x @ np.asarray([1, -2, 0.5], np.float32))}


def run(
    element: str, optimizer: str, more: str = "", where: str = "", epochs: int = 100
) -> Outcome:
    return _run(current_backend().name, element, optimizer, more, where, epochs)


@cache
def _run(backend: str, element: str, optimizer: str, more: str, where: str, epochs: int) -> Outcome:
    text = PLAN.format(
        element=element, optimizer=optimizer, more=more, where=where, epochs=epochs
    )  # fmt: skip
    with using(backend):
        return trained(text, {"d": points()})


def loss(outcome: Outcome) -> float:
    return outcome.figures["train.loss"]


def test_every_optimizer_of_std_is_tried() -> None:
    assert {n for n, e in std_index().items() if e.file == "optimizers.fml"} == UPDATES.keys()


@on_each_backend
@pytest.mark.parametrize("element", ["f16", "bf16"])
@pytest.mark.parametrize("name", UPDATES)
def test_the_loss_goes_down_as_far_as_in_f32(name: str, element: str) -> None:
    start = loss(run("f32", "sgd(0)", epochs=1))
    wide, narrow = loss(run("f32", UPDATES[name])), loss(run(element, UPDATES[name]))
    assert wide < 0.2 * start
    # Of the figure itself, bf16 keeps 8 bits; the rest is what the forward pass loses.
    assert narrow == pytest.approx(wide, rel=0.05, abs=0.02 * start)


def test_steps_too_small_for_a_16_bit_number_add_up() -> None:
    outcome = run("bf16", "sgd(0)", more="", epochs=1)
    start = np.asarray(outcome.variables["net.b"], np.float32)
    # 1e-5 is less than half the distance to the next bf16 of any |b| above 0.005.
    optimizer = "lion(1e-5, weight_decay = 0)"
    moved = np.asarray(run("bf16", optimizer, epochs=2000).variables["net.b"], np.float32)
    assert np.abs(moved - start).max() > 0.01


@on_each_backend
def test_a_parameter_that_something_else_changes_is_taken_as_it_is() -> None:
    # After 3 of 4 steps: what the slot kept no longer rounds to it, and must not come back.
    outcome = run("f16", "sgd(0)", more="every 3 steps { net.b <- 0.5 }", epochs=2)
    assert np.all(np.asarray(outcome.variables["net.b"], np.float32) == 0.5)


@on_each_backend
def test_a_constraint_holds_for_what_is_stored() -> None:
    outcome = run("f16", "adam(0.05)", where="where max_norm(0.5)")
    lengths = np.linalg.norm(np.asarray(outcome.variables["net.a"], np.float64), axis=0)
    assert lengths.max() <= 0.5 + 1e-3
    assert loss(outcome) < loss(run("f32", "sgd(0)", epochs=1))


def test_slots_of_16_bit_parameters_are_f32_and_those_of_others_as_they_were() -> None:
    slots: dict[str, dict[str, str]] = {}
    for element in ("f16", "f32", "f64"):
        text = PLAN.format(
            element=element, optimizer="momentum(0.1)", more="", where="", epochs=1
        )  # fmt: skip
        variables = lowered(text).variables
        slots[element] = {
            n: str(v.type.element) for n, v in variables.items() if n.startswith("momentum.")
        }
    of = "momentum.net.b"
    assert {k: v for k, v in slots["f16"].items() if of in k} == {
        f"{of}.m": "f32",
        f"{of}.w": "f32",
    }
    assert {k: v for k, v in slots["f32"].items() if of in k} == {f"{of}.m": "f32"}
    assert {k: v for k, v in slots["f64"].items() if of in k} == {f"{of}.m": "f64"}


LINE = """
data d = given { x: f16; y: f16 }
model line(x: f16[N]) -> f16[N] {
  param w: f16 ~ zeros
  w * x
}
train {
  net = line()
  feed x, y from d.train |> batch(10)
  minimize loss = mse(net(x), y)
  using OPTIMIZER
  stop after 200 epochs
}
"""


@on_each_backend
@pytest.mark.parametrize("optimizer", ["adam(0.1)", "sgd(0.03)", "momentum(0.005)"])
def test_steps_too_small_for_sixteen_bits_add_up(optimizer: str) -> None:
    """Above 32 two f16 are 1/32 apart: the last steps are much smaller than that."""
    x = np.linspace(-1, 1, 40, dtype=np.float32)
    text, data = LINE.replace("OPTIMIZER", optimizer), {"d": {"x": x, "y": 40.0 * x}}
    narrow, wide = trained(text, data), trained(text.replace("f16", "f32"), data)
    assert float(wide.variables["net.w"]) > 36
    assert abs(narrow.variables["net.w"] - wide.variables["net.w"]) <= 2 / 32


FIGURES = """
data d = given {{ x: {element}[1]; y: {element} }}
model m(x: float[N, D]) -> float[N] {{ param a: float[D] ~ ones; x @ a }}
train {{
  net = m()
  feed x, y from d.train
  minimize loss = mse(net(x), y) + 0.5 * l2(net)
  using sgd(0)
  measure mean(y), -2 * mean(y) / 3 + 1 as "both", max(y) as "most" on d.train
  stop after 1 epoch
}}"""


@on_each_backend
@pytest.mark.parametrize("element", ["f16", "bf16"])
def test_figures_of_whole_splits_are_not_rounded(element: str) -> None:
    """The mean of 1, 2 and 2, which 16 bits do not have; the loss is that of x = 2, and 1/2."""
    y = np.asarray([1, 2, 2], np.float32)
    data = {"d": {"train": {"x": np.full((3, 1), 2, np.float32), "y": y}}}
    figures = train(lowered(FIGURES.format(element=element)), data, current_backend()).figures
    assert figures["train.mean"] == pytest.approx(5 / 3, rel=1e-6)
    assert figures["train.both"] == pytest.approx(1 - 10 / 9, rel=1e-5)
    assert figures["train.loss"] == pytest.approx(1 / 3 + 0.5, rel=1e-6)
    assert figures["train.most"] == 2
