"""Random graphs that move entries about, between folds and maps: each backend computes the same."""

import random

import numpy as np
import pytest

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph
from fml.engine.ir.types import F32, tensor
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.record import Array
from tests.backends import on_each_backend
from tests.engine.evaluate import evaluate
from tests.plan.test_plans import execute


class RandomShapes:
    """Grows a graph of tensors of up to three axes, whose entries stay small."""

    def __init__(self, seed: int, nodes: int = 25) -> None:
        self.rng = random.Random(seed)
        self.b = Builder("random")
        self.given: dict[str, Array] = {}
        self.values: list[Value] = []
        for name, shape in {"x": (3, 4), "y": (2, 3, 4), "v": (4,)}.items():
            self.values.append(self.b.add("argument", tensor(F32, *shape), (), {"name": name}))
            self.given[name] = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        grow = [
            self._map, self._both, self._folded, self._normalised, self._turned, self._reshaped,
            self._moved, self._padded, self._sliced, self._joined,
        ]  # fmt: skip
        for _ in range(nodes):
            x = self.rng.choice([v for v in self.values if v.type.rank][-8:])
            self.values.append(self.rng.choice(grow)(x))
        outputs = self.rng.sample(self.values[3:], 4)
        self.graph: Graph = self.b.finish({f"out{n}": value for n, value in enumerate(outputs)})

    def _map(self, x: Value) -> Value:
        return x.call(self.rng.choice(["tanh", "negate", "abs", "sin"])) * 0.7

    def _both(self, x: Value) -> Value:
        like = [v for v in self.values if v.type == x.type or not v.type.rank]
        return x.call(self.rng.choice(["add", "multiply", "minimum"]), self.rng.choice(like)) * 0.5

    def _axis(self, x: Value) -> int:
        return self.rng.randrange(x.type.rank)

    def _fold(self, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        return x.call(self.rng.choice(["sum", "max"]), axes=axes, keep=keep).call("tanh")

    def _folded(self, x: Value) -> Value:
        axes = self.rng.sample(range(x.type.rank), self.rng.randint(1, x.type.rank))
        return self._fold(x, tuple(sorted(axes)), self.rng.random() < 0.5)

    def _normalised(self, x: Value) -> Value:
        axis = self._axis(x)
        return x - self._fold(x, (axis,), True).call("broadcast", shape=x.type.shape)

    def _turned(self, x: Value) -> Value:
        order = list(range(x.type.rank))
        self.rng.shuffle(order)
        return x.call("transpose", order=tuple(order))

    def _reshaped(self, x: Value) -> Value:
        count = int(np.prod(x.type.sizes))
        by = self.rng.choice([n for n in range(1, count + 1) if count % n == 0])
        return x.call("reshape", shape=(Dim.of(by), Dim.of(count // by)))

    def _moved(self, x: Value) -> Value:
        if self.rng.random() < 0.5:
            return x.call("flip", axis=self._axis(x))
        return x.call("roll", axis=self._axis(x), shift=self.rng.randint(-2, 2))

    def _padded(self, x: Value) -> Value:
        before, after = (tuple(self.rng.randint(0, 1) for _ in x.type.shape) for _ in range(2))
        return x.call("pad", before=before, after=after, value=self.rng.choice([0.0, 0.5]))

    def _sliced(self, x: Value) -> Value:
        starts = tuple(self.rng.randrange(size) for size in x.type.sizes)
        pairs = zip(starts, x.type.sizes, strict=True)
        stops = tuple(self.rng.randint(start + 1, size) for start, size in pairs)
        return x.call("slice", starts=starts, stops=stops)

    def _joined(self, x: Value) -> Value:
        others = [v for v in self.values if v.type == x.type] + [self.b.constant(0.25, x.type)]
        return x.call("concat", self.rng.choice(others), axis=self._axis(x))


@on_each_backend
@pytest.mark.parametrize("seed", range(30))
def test_random_shapes(seed: int) -> None:
    made = RandomShapes(seed)
    found, _ = execute(made.graph, made.given, times=2)
    for name, value in evaluate(made.graph, made.given).items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
