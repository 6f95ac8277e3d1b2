"""Random graphs that have something for every pass to do, and inputs with NaN and infinities."""

import math
import random

import numpy as np

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph
from fml.engine.ir.types import BOOL, F32, TensorType, tensor
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.record import Array

SIZES = {"N": 3}
SPECIAL = [0.0, 1.0, -1.0, 0.5, math.nan, math.inf, -math.inf, 3e38]
UNARY = ["negate", "abs", "exp", "tanh", "floor", "stop_gradient"]
BINARY = ["add", "subtract", "multiply", "maximum", "minimum"]


class RandomGraph:
    """Grows a graph over [N, 2], [2] and scalar values, and the values of its arguments.

    No zero is divided by: x + 0 may turn -0 into 0, and nothing else tells the two apart.
    """

    def __init__(self, seed: int, nodes: int = 25) -> None:
        self.rng = random.Random(seed)
        self.b = b = Builder("random")
        self.given: dict[str, Array] = {}
        self.values: list[Value] = []
        for name, shape in {"x": ("N", 2), "y": ("N", 2), "v": (2,), "s": ()}.items():
            self._argument(name, tensor(F32, *shape))
        self.variable = b.add("variable", tensor(F32, 2), (), {"name": "w", "role": "param"})
        self.given["w"] = self._numbers(self.variable.type)
        self.values.append(self.variable)
        for _ in range(nodes):
            self.values.append(self._next())
        new = self.rng.choice([v for v in self.values if v.type == self.variable.type])
        changed = b.call("assign", self.variable, new, name="w")
        outputs = self.rng.sample(self.values, 4)
        self.graph: Graph = b.finish(
            {"w": changed, **{f"out{i}": v for i, v in enumerate(outputs)}}
        )

    def _argument(self, name: str, type_: TensorType) -> None:
        self.values.append(self.b.add("argument", type_, (), {"name": name}))
        self.given[name] = self._numbers(type_)

    def _numbers(self, type_: TensorType) -> Array:
        sizes = type_.substitute(SIZES).sizes
        numbers = [
            self.rng.choice([*SPECIAL, self.rng.gauss(0, 2)]) for _ in range(math.prod(sizes))
        ]
        return np.asarray(numbers, np.float32).reshape(sizes)

    def _next(self) -> Value:
        x = self.rng.choice(self.values)
        grow = self.rng.choice(
            [self._unary, self._binary, self._constant, self._neutral, self._again, self._shaped,
             self._reduced, self._chosen, self._converted, self._dimension]
        )  # fmt: skip
        return grow(x)

    def _unary(self, x: Value) -> Value:
        return x.call(self.rng.choice(UNARY))

    def _binary(self, x: Value) -> Value:
        like = [v for v in self.values if v.type == x.type or not v.type.rank]
        return x.call(self.rng.choice(BINARY), self.rng.choice(like))

    def _constant(self, x: Value) -> Value:
        return self.b.constant(self.rng.choice(SPECIAL), x.type)

    def _neutral(self, x: Value) -> Value:
        number, op = self.rng.choice(
            [(0.0, "add"), (-0.0, "add"), (0.0, "subtract"), (1.0, "multiply"), (1.0, "divide"),
             (1.0, "power"), (2.0, "power"), (0.0, "multiply")]
        )  # fmt: skip
        constant = self.b.constant(number, x.type.with_shape(self.rng.choice([(), x.type.shape])))
        swap = op in {"add", "multiply"} and self.rng.random() < 0.5
        return constant.call(op, x) if swap else x.call(op, constant)

    def _again(self, x: Value) -> Value:
        """Write a node again, for `MergeDuplicates`."""
        node = x.node
        if node.op == "variable":
            return x
        inputs = [self.b.value(i) for i in node.inputs]
        return self.b.add(node.op, node.type, inputs, node.attributes)

    def _shaped(self, x: Value) -> Value:
        shape = x.type.shape
        if self.rng.random() < 0.5:
            return x.call("reshape", shape=shape)
        turned = x.call("transpose", order=tuple(range(len(shape)))[::-1])
        return turned.call("transpose", order=tuple(range(len(shape)))[::-1])

    def _reduced(self, x: Value) -> Value:
        reduced = x.call("sum", axes=tuple(range(x.type.rank)), keep=False)
        return reduced.call("broadcast", shape=x.type.shape)

    def _chosen(self, x: Value) -> Value:
        return x.call("less", 0.5).call("select", x, x.beside(1.0))

    def _converted(self, x: Value) -> Value:
        return x.call("cast", element=self.rng.choice([F32, BOOL])).call("cast", element=F32)

    def _dimension(self, x: Value) -> Value:
        return x.call("multiply", self.b.call("dim_value", dim=Dim.of("N") * 2))
