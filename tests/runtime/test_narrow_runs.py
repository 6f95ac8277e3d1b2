"""Whole runs with floats of 16 bits: compiled code beside numpy, resumed ones beside whole ones."""

from pathlib import Path

import numpy as np
import pytest

from fml.engine.runtime.checkpoint import read_checkpoint
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from tests.backends import BACKENDS, current_backend, on_each_backend, using
from tests.dsl.programs import lowered

EPSILON = {"f16": 2.0**-11, "bf16": 2.0**-8}
NARROW = pytest.mark.parametrize("element", EPSILON)

NETWORK = """
data d = given {{ x: f32[{sizes}]; y: label[4] }}
model m(x: f32[N, {sizes}]) -> f32[N, 4] =
  cast(x, {element}) |> {layers} |> cast(f32)
train {{
  net = m()
  feed x, y from d.train |> shuffle |> batch(8)
  minimize loss = cross_entropy(net(x), y, smoothing = 0.1)
  using momentum(0.02)
  measure cross_entropy(net(x), y) as "entropy" on d.train every 1 epoch
  stop after 3 epochs
}}"""
LAYERS = {
    "dense": (
        "3",
        "dense(16) |> relu |> batch_norm |> dropout(0.2) |> dense(8) |> layer_norm |> tanh "
        "|> dense(4)",
    ),
    "convolution": (
        "8, 8, 2",
        'conv(8, 3, pad = "same") |> relu |> batch_norm |> max_pool(2) |> conv(8, 3, stride = 2) '
        "|> sigmoid |> flatten |> dense(4)",
    ),
}
# Delays, draws, slots, what is done now and then, and learners that meet.
LEARNERS = """
data d = given {{ x: {element}[3]; y: {element} }}
model m(x: {element}[N, D]) -> {element}[N] {{
  param w: {element}[D] ~ normal(0, 0.5)
  state seen: {element} ~ zeros
  seen <- seen + 1
  dropout(0.3)(x) @ w
}}
train {{
  z = m()
  learners 2 per device {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(6)
    state drift: {element} ~ zeros
    minimize loss = mse(w(x), y)
    using momentum(0.05)
    every 3 steps {{ drift <- drift + norm(w) - previous(norm(w)) }}
  }}
  use sma(learners.w, z)
  measure mse(z(x), y) as "error" on d.train every 4 steps
  stop after {steps} steps
}}"""


def network(layers: str, element: str) -> Outcome:
    sizes, text = LAYERS[layers]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, *map(int, sizes.split(",")))).astype(np.float32)
    data = {"d": {"train": {"x": x, "y": rng.integers(0, 4, 64).astype(np.int32)}}}
    training = lowered(NETWORK.format(sizes=sizes, element=element, layers=text))
    return train(training, data, current_backend(), seed=1)


def learners(element: str, steps: int, **how: object) -> Outcome:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    data = {"d": {"train": {"x": x, "y": x @ np.asarray([1, -2, 0.5], np.float32)}}}
    training = lowered(LEARNERS.format(element=element, steps=steps))
    return train(training, data, current_backend(), seed=1, **how)


def assert_close(found: Outcome, wanted: Outcome, element: str) -> None:
    """A number of 16 bits may be rounded up by one and down by the other, which spreads."""
    assert found.variables.keys() == wanted.variables.keys()
    for name, value in wanted.variables.items():
        size = np.abs(np.asarray(value, np.float64)).max(initial=0)
        bound = 16 * EPSILON[element] * size if np.issubdtype(value.dtype, np.floating) else 0
        np.testing.assert_allclose(found.variables[name], value, 0, bound, err_msg=name)
    assert found.figures == pytest.approx(wanted.figures, rel=4 * EPSILON[element])


@NARROW
@pytest.mark.parametrize("layers", LAYERS)
def test_a_compiled_network_trains_as_in_numpy(layers: str, element: str) -> None:
    outcomes: dict[str, Outcome] = {}
    for name in BACKENDS:
        with using(name):
            outcomes[name] = network(layers, element)
    assert_close(outcomes["llvm"], outcomes["numpy"], element)


@NARROW
def test_compiled_learners_train_as_in_numpy(element: str) -> None:
    outcomes: dict[str, Outcome] = {}
    for name in BACKENDS:
        with using(name):
            outcomes[name] = learners(element, 14)
    assert outcomes["llvm"].variables["learners.drift"].any()
    assert_close(outcomes["llvm"], outcomes["numpy"], element)


@on_each_backend
@NARROW
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(element: str, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    learners(element, 5, checkpoint=path)
    resumed = learners(element, 11, resume=read_checkpoint(path))
    whole = learners(element, 11)
    assert resumed.variables.keys() == whole.variables.keys()
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value, err_msg=name)
    assert resumed.figures == whole.figures
