"""One graph of a training, compiled and fed: a step, a measurement, a log, a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Duration, Unit, duration_of
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.runtime.executor import Executable
from fml.engine.runtime.variables import VariableStore

# What the step and the learner's number tell.
_COUNTED = ("counter", "random_key", "fires", "learners_index")


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run stands: the counters before the step, and what an epoch is.

    `seed` and `learner` key the random draws; `batch` is the samples of a step.
    """

    step: int
    steps_per_epoch: int
    batch: int
    seed: int = 0
    learner: int = 0
    seconds: float = 0.0

    @property
    def units(self) -> dict[Unit, float]:
        """How many steps an epoch, a sample is."""
        return {Unit.EPOCHS: self.steps_per_epoch, Unit.SAMPLES: 1 / self.batch}

    def counter(self, name: str, step: Array | int) -> Array | float:
        """The value of a `counter` node; `next_step` is the step once it has grown by one."""
        step = step + 1 if name.startswith("next_") else step
        return self.count(name.removeprefix("next_"), step)

    def count(self, unit: str, step: Array | int) -> Array | float:
        """How much of a unit has passed after so many steps."""
        match unit:
            case "epoch" | "epochs":
                return step / self.steps_per_epoch
            case "samples":
                return step * self.batch
            case "seconds":
                return self.seconds
            case _:
                return step


def is_due(
    duration: Duration, now: Moment, step: Array | int, seconds_before: float = 0.0
) -> Array | bool:
    """Whether a multiple of a duration was reached by the step that made it `step` steps."""
    if duration.unit is Unit.SECONDS:
        return now.seconds // duration.amount > seconds_before // duration.amount
    after = now.count(duration.unit.value, step) / duration.amount
    before = now.count(duration.unit.value, step - 1) / duration.amount
    return np.floor(after + 1e-9) > np.floor(before + 1e-9)


class Section:
    """A graph bound to sizes, a backend and variables."""

    def __init__(
        self,
        graph: Graph,
        sizes: Mapping[str, int],
        backend: Backend,
        store: VariableStore,
        streams: int = 1,
    ) -> None:
        self.graph = optimise(graph, sizes)
        self.executable = Executable(self.graph, backend, store, streams)
        self.fed = [
            (n.id, str(n.attributes["data"]), str(n.attributes["field"]))
            for n in self.graph.of_op("feed")
        ]
        self._series = [(n.id, str(n.attributes["name"])) for n in self.graph.of_op("series")]
        self._arguments = [(n.id, str(n.attributes["name"])) for n in self.graph.of_op("argument")]
        self.counts = [n.id for n in self.graph.of_op(*_COUNTED)]

    @property
    def depends_on_seconds(self) -> bool:
        """Whether something depends on the clock."""
        nodes = self.graph.of_op("counter", "fires")
        return any("seconds" in {n.attributes.get("name"), n.attributes.get("unit")} for n in nodes)

    def feed(self, fields: Mapping[tuple[str, str], Array]) -> None:
        """Provide the batch: arrays by data set and field."""
        for number, data, field in self.fed:
            self.executable.upload(number, fields[data, field])

    def provide(self, moment: Moment) -> None:
        """Provide counters, and the key of the random draws."""
        steps = np.asarray([moment.step])
        for number in self.counts:
            for learner in range(len(self.executable.inputs[number])):
                own = replace(moment, learner=learner) if self.graph[number].mapped else moment
                value = self.counted(number, own, steps, 0.0)[0]
                self.executable.upload(number, value, learner)

    def counted(self, number: int, moment: Moment, steps: Array, seconds_before: float) -> Array:
        """The values at steps of a node that counters tell: one for each step."""
        node = self.graph[number]
        match node.op:
            case "counter":
                value = moment.counter(str(node.attributes["name"]), steps)
            case "fires":
                value = is_due(duration_of(node.attributes), moment, steps + 1, seconds_before)
            case "learners_index":
                value = moment.learner
            case _:
                keys = [np.full(len(steps), n) for n in (moment.seed, moment.learner)]
                return np.stack([*keys, steps], axis=1)
        return np.broadcast_to(np.asarray(value), steps.shape)

    def provide_series(self, latest: Mapping[str, float]) -> bool:
        """Provide the latest figures; False if one has not been measured yet."""
        for number, name in self._series:
            if name not in latest:
                return False
            self.executable.upload(number, np.asarray(latest[name]))
        return True

    def provide_arguments(self, arrays: Mapping[str, Array]) -> None:
        """Provide the arguments of a model."""
        for number, name in self._arguments:
            self.executable.upload(number, arrays[name])

    def run(self) -> None:
        """Carry out the plan."""
        self.executable.run()

    def result(self, name: str) -> Array:
        """Return a copy of an output."""
        return self.executable.output(name)

    def results(self, outputs: Mapping[str, str]) -> dict[str, Array]:
        """Return copies of outputs, by the names that `outputs` has for them."""
        return {name: self.result(output) for name, output in outputs.items()}

    def number(self, name: str) -> float:
        """Return a scalar output; of one that each learner has, their mean."""
        return float(self.executable.output(name).mean(dtype=np.float64))
