"""Programs from text, for the tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fml.dsl.program import check, lower
from fml.engine.ir.source import Source
from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.evaluate import predict
from fml.engine.runtime.first_values import new_store
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from fml.engine.sources.bind import bind
from fml.engine.sources.load import load
from tests.backends import current_backend

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def lowered(text: str, plan: str | None = None, **options: object) -> Training:
    """Check a text and lower a plan of it."""
    return lower(check(Source("test.fml", text), Path()), plan, options)


def example(name: str, plan: str | None = None, **options: object) -> Training:
    """Lower a plan of an example."""
    path = EXAMPLES / name
    text = path.read_text(encoding="utf-8")
    return lower(check(Source(name, text), EXAMPLES), plan, options)


def trained(text: str, data: Mapping[str, object], seed: int | None = None) -> Outcome:
    """Train a text's first plan on arrays handed over."""
    training = lowered(text)
    loaded = {
        name: load(dataset, data.get(name), EXAMPLES) for name, dataset in training.datasets.items()
    }
    return train(*bind(training, loaded), current_backend(), seed=seed)


def first_values(text: str) -> dict[str, Array]:
    """The variables of a text's first plan before its first step."""
    training = lowered(text)
    sizes = {str(STEPS_PER_EPOCH): 1, str(LEARNERS): 1}
    return new_store(training, current_backend(), training.seed, sizes).snapshot()


# Data and a model of three weights, to be followed by a plan; `str.format` takes what is in it.
LINE = """
data d = given {{
  x: f32[3]
  y: f32
}}
model line(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ normal(0, 1)
  x @ w
}}"""


def points(samples: int = 40, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Samples of a noisy line in three dimensions."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, 3)).astype(np.float32)
    y = x @ np.asarray([1, -2, 0.5], np.float32) + 0.1 * random.normal(size=samples)
    return {"x": x, "y": y.astype(np.float32)}


def applied(expression: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute an expression of x through a model; w is 1, so that there is something to train."""
    axes = ", ".join(str(size) for size in x.shape[1:])
    text = f"""
data d = given {{ v: f32[{axes}] }}
model m(v: f32[N, {axes}]) {{
  param w: f32 ~ ones
  x = v * w
  {expression}
}}
train {{
  net = m()
  feed v from d.train
  minimize sum(net(v))
  using sgd(0.1)
  stop after 1 step
}}"""
    training = lowered(text)
    (model,) = training.models
    return predict(training, model, {"net.w": np.float32(1)}, {"v": x}, current_backend())
