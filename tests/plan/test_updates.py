"""Random updates of variables, one behind the other and under guards: reads find what is theirs."""

import random

import numpy as np
import pytest

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import BOOL, F32, TensorType, tensor
from fml.engine.ops.build import Builder, Context, Value
from fml.engine.ops.precision import computed
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.ops.verify import verify
from fml.engine.plan.planner import lay_out, make_plan
from tests.backends import current_backend, on_each_backend
from tests.plan.test_plans import execute, faults, variables_of

SHAPES = {"a": (3, 2), "b": (3, 2), "square": (2, 2), "row": (2,), "s": (), "t": ()}


class RandomUpdates:
    """Grows a graph of blocks, each under a guard or none, that assign what they compute.

    Whatever was ever read or assigned may be read again, also once it is overwritten; what a block
    computes under a guard is read in that block alone.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.b = b = Builder("random")
        numbers = np.random.default_rng(seed)
        self.given: dict[str, Array] = {"yes": np.asarray(True), "no": np.asarray(False)}
        latest: dict[str, Value] = {}
        for name, shape in SHAPES.items():
            role = {"name": name, "role": "param"}
            latest[name] = b.add("variable", tensor(F32, *shape), (), role)
            self.given[name] = numbers.normal(size=shape).astype(np.float32)
        self.given["x"] = numbers.normal(size=(3, 2)).astype(np.float32)
        x = b.add("argument", tensor(F32, 3, 2), (), {"name": "x"})
        guards = [b.add("argument", TensorType(BOOL), (), {"name": name}) for name in ("yes", "no")]
        self.values = [x, *latest.values()]
        for _ in range(rng.randint(1, 5)):
            guard = rng.choice([None, None, *guards])
            with b.under(Context(guard=None if guard is None else guard.id)):
                self._block(latest, is_guarded=guard is not None)
        outputs = dict(latest) | {f"out{n}": v for n, v in enumerate(rng.sample(self.values, 3))}
        self.graph: Graph = b.finish(outputs)

    def _block(self, latest: dict[str, Value], *, is_guarded: bool) -> None:
        outside = list(self.values)
        for _ in range(self.rng.randint(1, 6)):
            self.values.append(self._next())
        assigned: list[Value] = []
        for name in self.rng.sample(list(latest), self.rng.randint(1, 3)):
            new = self._of_shape(SHAPES[name])
            latest[name] = self.b.call("assign", latest[name], new, name=name)
            self.values.append(latest[name])
            assigned.append(latest[name])
        if is_guarded:
            self.values = [*outside, *assigned]

    def _next(self) -> Value:
        x = self.rng.choice(self.values)
        match self.rng.randrange(5):
            case 0:
                return x.call(self.rng.choice(["negate", "tanh", "abs"]))
            case 1:
                return x * self.rng.choice([0.5, -1.0])
            case 2:
                y = self.rng.choice([v for v in self.values if v.type == x.type or not v.type.rank])
                return x.call(self.rng.choice(["add", "multiply", "maximum"]), y).call("tanh")
            case 3:
                return self._of_shape(self.rng.choice([*SHAPES.values()]))
            case _:
                square = self._of_shape((2, 2))
                if self.rng.random() < 0.5:  # read turned round, by nobody but the product
                    square = square.call("transpose", order=(1, 0))
                return self._of_shape((3, 2)).call("matmul", square).call("tanh")

    def _of_shape(self, shape: tuple[int, ...]) -> Value:
        """A value of a shape, made of one of another where there is none."""
        found = [v for v in self.values if v.type.sizes == shape]
        if found and self.rng.random() < 0.8:
            return self.rng.choice(found)
        x = self.rng.choice(self.values)
        mean = x.call("sum", axes=tuple(range(x.type.rank)), keep=False) if x.type.rank else x
        return mean.call("tanh").call("broadcast", shape=tensor(F32, *shape).shape)

    def expected(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The outputs, and the variables behind it all."""
        values: dict[int, Array] = {}
        variables = {name: self.given[name] for name in SHAPES}
        for node in self.graph:
            values[node.id] = self._value(node, values)
            if node.op == "assign":
                variables[str(node.attributes["name"])] = values[node.id]
        return {name: values[number] for name, number in self.graph.outputs.items()}, variables

    def _value(self, node: Node, values: dict[int, Array]) -> Array:
        if OPS[node.op].runtime:
            return self.given[str(node.attributes["name"])]
        if node.guard is not None and not values[node.guard]:
            # What is not assigned is what it was; nobody reads the rest.
            return values[node.inputs[0]] if node.op == "assign" else np.asarray(np.nan)
        read = [values[value] for value in node.inputs]
        return computed(OPS[node.op], read, node.attributes, node.type)


@on_each_backend
@pytest.mark.parametrize("seed", range(60))
def test_random_updates(seed: int) -> None:
    made = RandomUpdates(seed)
    verify(made.graph)
    works = current_backend().compile(made.graph).works
    assert faults(make_plan(made.graph, lay_out(variables_of(made.graph).values()), works)) == []
    results, variables = made.expected()
    found, store = execute(made.graph, made.given, times=2)
    for name, value in results.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for name, value in variables.items():
        np.testing.assert_allclose(store[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
