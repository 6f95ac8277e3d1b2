"""A trainer for the tests: takes the graphs of a plan as they were lowered, node by node, in numpy.

It knows nothing of plans, streams and memory. Learner l of k has, in the t-th step, the l-th batch
of n of the t-th group of k n samples, so the data must not be shuffled.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fml.engine.autodiff import expand_gradients
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.training import Duration, Training, Unit
from fml.engine.ops.record import Array
from fml.engine.runtime.section import Moment, is_due
from tests.dsl.programs import lowered
from tests.engine.evaluate import evaluate, values_of

Fields = Mapping[str, Array]


@dataclass(slots=True)
class Reference:
    """One run: `variables` are what a step reads and changes, stacked where learners have them."""

    training: Training
    data: Mapping[str, Fields]
    learners: int = 1
    seed: int = 0
    steps: int = 0
    variables: dict[str, Array] = field(default_factory=dict[str, Array])
    figures: list[dict[str, Array]] = field(default_factory=list[dict[str, Array]])
    step: Graph = field(init=False)

    def __post_init__(self) -> None:
        """Give every variable its first value."""
        self.step = expand_gradients(self.training.step)
        first = evaluate(self.training.init, self._provided, self._sizes, self.learners)
        for name, variable in self.training.variables.items():
            value = first[variable.replica_of or name]
            is_own = variable.mapped
            self.variables[name] = np.stack([value] * self.learners) if is_own else value

    def run(self, steps: int) -> "Reference":
        """Take steps."""
        for _ in range(steps):
            values = values_of(self.step, self._provided, self._sizes, self.learners)
            self._keep(self.step, values)
            self.figures.append({n: values[v] for n, v in self.step.outputs.items()})
            self.steps += 1
        return self

    def average(self) -> None:
        """Give central models the mean of their replicas' states, as before measuring."""
        if self.training.averaged is not None:
            graph = self.training.averaged
            self._keep(graph, values_of(graph, self._provided, self._sizes, self.learners))

    def measured(self, name: str) -> float:
        """A figure of the central models, by its series."""
        self.average()
        for measure in self.training.measures:
            for series in measure.series:
                if series.name == name:
                    fields = self.data[measure.data]
                    sizes = {**self._sizes, measure.dim: len(next(iter(fields.values())))}

                    def whole(node: Node, fields: Fields = fields) -> Array:
                        own = node.op == "feed"
                        return fields[str(node.attributes["field"])] if own else self._of_run(node)

                    found = evaluate(measure.graph, whole, sizes, self.learners)
                    return float(found[series.output])
        raise KeyError(name)

    def _keep(self, graph: Graph, values: Mapping[int, Array]) -> None:
        for node in graph.of_op("assign"):
            name, value = str(node.attributes["name"]), values[node.id]
            is_push = node.mapped and not self.training.variables[name].mapped
            self.variables[name] = value[-1] if is_push else value

    # --- what the run provides -------------------------------------------------------------------

    @property
    def _sizes(self) -> dict[str, int]:
        batches = {feed.dim: self._batch(feed.data, feed.batch) for feed in self.training.feeds}
        return {**batches, "steps_per_epoch": self._per_epoch, "learners": self.learners}

    def _batch(self, data: str, batch: int | None) -> int:
        return batch or self._samples(data) // self.learners

    def _samples(self, data: str) -> int:
        return len(next(iter(self.data[data].values())))

    @property
    def _per_epoch(self) -> int:
        if not self.training.feeds:
            return 1
        feed = self.training.feeds[0]
        return self._samples(feed.data) // (self._batch(feed.data, feed.batch) * self.learners)

    def _provided(self, node: Node) -> Array:
        if node.op != "feed":
            return self._of_run(node)
        feed = next(f for f in self.training.feeds if f.data == node.attributes["data"])
        count = self._batch(feed.data, feed.batch)
        rows = self.data[feed.data][str(node.attributes["field"])]
        start = self.steps % self._per_epoch * count * self.learners
        group = rows[start : start + count * self.learners]
        return group.reshape(self.learners, count, *rows.shape[1:]) if node.mapped else group

    def _of_run(self, node: Node) -> Array:
        batch = sum(self._batch(f.data, f.batch) for f in self.training.feeds[:1]) * self.learners
        now = Moment(self.steps, self._per_epoch, batch, self.seed)
        match node.op:
            case "variable":
                return self.variables[str(node.attributes["name"])]
            case "counter":
                value = now.counter(str(node.attributes["name"]), self.steps)
            case "fires":
                amount = float(str(node.attributes["amount"]))
                every = Duration(amount, Unit(node.attributes["unit"]))
                value = is_due(every, now, self.steps + 1)
            case "learners_index":
                return np.arange(self.learners)
            case "random_key":
                keys = np.array([[self.seed, n, self.steps] for n in range(self.learners)])
                return keys if node.mapped else keys[0]
            case _:
                raise ValueError(f"nothing provides `{node.op}`")
        made = np.asarray(value)
        return np.stack([made] * self.learners) if node.mapped else made


def trained(
    text: str, data: Mapping[str, Fields], learners: int, steps: int, plan: str | None = None
) -> Reference:
    """Take so many steps of a text's plan with so many learners, whatever the text says."""
    text = re.sub(r"learners \d+ per device", f"learners {learners} per device", text)
    text = re.sub(r"stop after .*", f"stop after {steps} steps", text)
    return Reference(lowered(text, plan), data, learners).run(steps)
