"""Whole steps, measurements and logs of programs: compiled code beside numpy."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

import fml
from fml.engine.ir.training import Training
from fml.engine.ir.types import Element, Label, TensorType
from fml.engine.ops.record import Array
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.trainer import Trainer
from tests.backends import BACKENDS
from tests.dsl.programs import EXAMPLES, lowered

NETWORK = """
data d = given { x: f32[6, 6, 2]; y: label[5]; z: label[4] }
model net(x: f32[N, 6, 6, 2], z: label[4][N]) -> f32[N, 5] {
  picture = x |> conv(3, 3, stride = 2, bias = false) |> batch_norm |> relu |> flatten
  word = z |> embedding(4, element = f32) |> layer_norm
  concat([picture |> dense(7) |> tanh, word], over = 1) |> dropout(0.2) |> dense(5)
}
train {
  net = net()
  feed x, y, z from d.train |> shuffle |> batch(6)
  scores = net(x, z)
  minimize loss = cross_entropy(scores, y, smoothing = 0.1) + 1e-3 * l2(net.**.W)
  using OPTIMIZER
  measure accuracy(scores, y) on d.valid
  log norm(grad(loss, net)) as "slope" every 1 step
  stop after 3 epochs
}
"""
OPTIMIZERS = ["sgd(0.1)", "nesterov(0.1)", "clip_norm(1) |> adamw(0.01)", "lamb(0.01)"]
PROGRAMS: Mapping[str, Callable[[], Training]] = {
    **{
        f"{file}-{plan}": lambda file=file, plan=plan: fml.load(EXAMPLES / f"{file}.fml").lower(
            plan
        )
        for file, plan in (
            ("linear_regression", None), ("logistic_regression", None), ("perceptron", None),
            ("softmax_regression", None), ("mlp_regularised", None),
            ("mlp_regularised", "baseline"), ("lenet_fashion", None),
        )
    },
    **{o: lambda o=o: lowered(NETWORK.replace("OPTIMIZER", o)) for o in OPTIMIZERS},
}  # fmt: skip
SAMPLES = 40


def random_data(training: Training) -> Data:
    """Samples for every split that a plan uses; batches fit into them."""
    rng = np.random.default_rng(4)

    def values(type: TensorType) -> Array:
        sizes = (SAMPLES, *type.sizes)
        if isinstance(type.element, Label):
            return rng.integers(0, type.element.classes.size, sizes).astype(np.int32)
        assert isinstance(type.element, Element)
        return rng.normal(size=sizes).astype(type.dtype)

    splits = {(feed.data, feed.split) for feed in training.feeds}
    splits |= {(measure.data, measure.split) for measure in training.measures}
    return {
        name: {
            split: {field.name: values(field.type) for field in dataset.fields}
            for data, split in sorted(splits)
            if data == name
        }
        for name, dataset in training.datasets.items()
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_steps_of_programs_are_those_of_numpy(program: str) -> None:
    training = PROGRAMS[program]()
    smaller = tuple(replace(feed, batch=min(feed.batch or 10, 10)) for feed in training.feeds)
    training = replace(training, feeds=smaller)
    data = random_data(training)
    numpy, llvm = (Trainer(training, data, make(), 3) for make in BACKENDS.values())
    for step in range(3):
        moment = replace(numpy.moment, step=step)
        llvm.store.restore(numpy.store.snapshot())
        for trainer in (numpy, llvm):
            assert trainer.steps.run(moment, 0.0, 1) == 1
        for name, value in numpy.store.snapshot().items():
            assert_close(llvm.store[name], value, name)
        for name, table in numpy.steps.figures.items():
            assert_close(llvm.steps.figures[name][0], table[0], name)
        llvm.store.restore(numpy.store.snapshot())
        for one, other in zip(numpy.watched.measurements, llvm.watched.measurements, strict=True):
            figures = other.take(moment)
            for name, value in one.take(moment).items():
                assert_close(np.asarray(figures[name]), np.asarray(value), name)


def assert_close(found: Array, expected: Array, name: str) -> None:
    """Up to the rounding of sums, which do not add up in the same order."""
    size = np.abs(expected).max(initial=1e-3)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * size, err_msg=name)
