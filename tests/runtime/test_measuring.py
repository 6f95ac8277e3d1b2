"""Figures of whole splits: the same in pieces as in one, in memory that does not grow with them."""

from collections.abc import Callable

import numpy as np
import pytest

from fml.engine.backends.null import NullBackend
from fml.engine.runtime import measuring
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.first_values import new_store
from fml.engine.runtime.measuring import Measurement
from fml.engine.runtime.section import Moment
from fml.engine.runtime.variables import VariableStore
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import example, lowered

NET = """
data d = given { x: f32[6, 6, 1]; y: label[3]; z: f32 }
model net(x: f32[N, H, W, C]) -> f32[N, 3] =
  x |> conv(4, 3) |> relu |> max_pool(2) |> flatten |> dropout(0.5) |> dense(3)
fn spread(a: f32[N]) -> f32 = mean((a - mean(a))^2)
train {
  net = net()
  feed x, y, z from d.train |> batch(4)
  scores = net(x)
  minimize loss = cross_entropy(scores, y) + 0.1 * l2(net)
  using sgd(0.1)
  measure accuracy(scores, y), spread(logsumexp(scores)), mean(x) as "shade",
    r2(logsumexp(scores), z) on d.test
  stop after 1 step
}
"""


def figures(
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[str, int, int], None] = lambda split, done, samples: None,
) -> dict[str, float]:
    monkeypatch.setattr(measuring, "BYTES_AT_ONCE", at_once)
    training = lowered(NET)
    random = np.random.default_rng(3)
    fields = {
        "x": random.normal(size=(23, 6, 6, 1)).astype(np.float32),
        "y": random.integers(0, 3, 23).astype(np.int32),
        "z": random.normal(size=23).astype(np.float32),
    }
    data: Data = {"d": {"train": fields, "test": fields}}
    store = new_store(training, current_backend(), 1, {"steps_per_epoch": 1})
    found: dict[str, float] = {}
    for one in measuring.measurements(
        training, data, {"steps_per_epoch": 1}, current_backend(), store
    ):
        found |= one.take(Moment(0, 1, 1), told)
    return found


# One sample at a time, some, all but one, and all; a sample of this network is about 3,000 bytes.
@on_each_backend
@pytest.mark.parametrize("at_once", [1, 20_000, 69_000])
def test_figures_in_pieces_are_those_of_one_batch(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = figures(1 << 40, monkeypatch)
    assert {name.partition(".")[2] for name in whole} >= {
        "accuracy", "spread", "shade", "r2", "loss",
    }  # fmt: skip
    assert figures(at_once, monkeypatch) == pytest.approx(whole, rel=1e-5)


def test_it_is_told_how_many_samples_have_been_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, int, int]] = []
    figures(20_000, monkeypatch, lambda *how_far: said.append(how_far))
    assert {split for split, _, _ in said} == {"train", "test"}
    for split in ("train", "test"):
        done = [count for one, count, samples in said if one == split]
        assert done == sorted(set(done))
        assert (done[0], done[-1]) == (0, 23)
        assert len(done) > 3
    assert {samples for _, _, samples in said} == {23}


@pytest.mark.parametrize(
    ("file", "plan"), [("lenet_crossbow.fml", "crossbow"), ("resnet_fashion.fml", None)]
)
def test_memory_does_not_grow_with_the_split(file: str, plan: str | None) -> None:
    training = example(file, plan)
    measure = next(m for m in training.measures if m.split == "valid")
    nothing = np.zeros((), np.float32)
    fields = {
        "x": np.broadcast_to(nothing, (10_000, 28, 28, 1)),
        "y": np.broadcast_to(np.zeros((), np.int32), (10_000,)),
    }
    data: Data = {"fashion": {"valid": fields}}
    backend = NullBackend()
    store = VariableStore(training.variables, backend)
    made = Measurement(measure, data, {"steps_per_epoch": 1}, backend, store)
    # In one batch, the first convolution alone makes 10,000 x 28 x 28 x 32 numbers: 1 GB.
    assert len(made.sections) == 2
    assert 0 < store.workspace.nbytes < 2 * measuring.BYTES_AT_ONCE
    assert made.joined_nbytes < 2_000_000
