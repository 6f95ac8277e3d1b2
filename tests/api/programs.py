"""Small programs and data that several tests of the API train."""

from typing import Any

import numpy as np
import pytest

import fml

CLASSIFIER = """\
option lr = 0.5 in 0.001 .. 10   ## learning rate
option width = 4                 ## hidden units
option rounds = 3 epochs         ## how long
data points = given { x: f32[2]; y: label[3] }
model net(x: f32[N, D]) -> f32[N, 3] = x |> dense(width) |> relu |> dense(3)
train main {
  m = net()
  feed x, y from points.train |> shuffle |> batch(8)
  logits = m(x)
  minimize loss = cross_entropy(logits, y)
  using sgd(lr)
  stop after rounds
}
"""

LINE = """\
data line = csv("line.csv") {
  x: f32[1] = [t]
  y: f32    = v
}
model straight(x: f32[N, D]) -> f32[N] {
  param w: f32[D] ~ zeros
  param b: f32    ~ zeros
  x @ w + b
}
train {
  net = straight()
  feed x, y from line.train
  ŷ = net(x)
  minimize J = mean((ŷ - y)^2)
  using sgd(0.1)
  stop after 400 epochs
}
"""


FLOWERS = """\
option lr = 0.5 in 0.001 .. 10      ## learning rate
option kind = "plain" in ["plain", "wide"]
data flowers = csv("flowers.csv") {
  x: f32[2]   = [length, width] |> standardize
  y: label[3] = species
  split train 60%, valid 20%, test 20% by stratified(y, seed = 7)
}
model softmax(x: f32[N, D]) -> f32[N, 3] = x |> dense(3)
## The only plan.
train {
  net = softmax()
  feed x, y from flowers.train |> shuffle |> batch(8)
  logits = net(x)
  minimize loss = cross_entropy(logits, y)
  using momentum(lr)
  measure accuracy(logits, y) on flowers.valid
  stop after 12 epochs
  keep highest valid.accuracy
}
"""
SPECIES = ("aster", "bellis", "crocus")


def points(samples: int = 64) -> dict[str, Any]:
    """Three classes told apart by the sign of two numbers."""
    x = np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)
    return {"x": x, "y": (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)}


def line_csv(rows: int = 20) -> str:
    """`v = 3 t - 1`, exactly."""
    ts = [round(k / rows, 4) for k in range(rows)]
    return "t,v\n" + "".join(f"{t},{3 * t - 1:.6f}\n" for t in ts)


def flowers_csv() -> str:
    """Ninety flowers of three kinds, apart from one another."""
    rows = [
        f"{3 * k + (i % 6) * 0.1:.1f},{5 - k + (i % 5) * 0.1:.1f},{SPECIES[k]}"
        for i in range(30)
        for k in range(3)
    ]
    return "\n".join(["length,width,species", *rows]) + "\n"


def codes(caught: pytest.ExceptionInfo[fml.FmlError]) -> list[str]:
    """The codes of an error's diagnostics."""
    return [d.code for d in caught.value.diagnostics]
