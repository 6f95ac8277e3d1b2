"""A plan without descent: a parameter counts, and series are made of it as a case likes."""

import numpy as np

from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.trainer import train
from tests.backends import current_backend
from tests.dsl.programs import lowered

COUNTING = """
data points = given {{ x: f32 }}
model net(x: f32[N]) -> f32[N] {{
  param c: f32 ~ zeros
  c * x
}}
train {{
  net = net()
  feed x from points.train |> batch({batch})
  ŷ = net(x)
  {body}
}}
"""
SAMPLES = 12


def run(body: str, batch: int = 4, valid: int = 2, seed: int | None = None) -> Outcome:
    training = lowered(COUNTING.format(body=body, batch=batch))
    ones = {"x": np.ones(SAMPLES, np.float32)}
    data = {"points": {"train": ones, "valid": {"x": np.ones(valid, np.float32)}}}
    return train(training, data, current_backend(), seed=seed)


def count(outcome: Outcome) -> float:
    return float(outcome.variables["net.c"])


def series(outcome: Outcome, name: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in outcome.history if p.series == name]


# The series that `measure` takes each epoch is 10 - |6 - epoch|: it rises, peaks in epoch 6, falls.
PEAK = """every 1 epoch { net.c <- 10 - abs(6 - epoch) }
  measure mean(ŷ) as "c" on points.valid
"""
