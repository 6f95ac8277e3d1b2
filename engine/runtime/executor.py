"""Runs plans: views and kernels are made once, a step is a walk over a list of calls."""

from collections.abc import Iterable, Mapping

import numpy as np

from fml.engine.backends.interface import Backend, Event, Launch, Stream, View
from fml.engine.ir.training import Variable
from fml.engine.ir.types import BOOL, Element, TensorType, tensor
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.passes.constants import array_of
from fml.engine.plan.planner import lay_out
from fml.engine.plan.task import Plan, Region, Space, Task


class VariableStore:
    """The variables of a training in one memory, by path: all its graphs share them."""

    def __init__(self, variables: Mapping[str, Variable], backend: Backend) -> None:
        self.layout = lay_out(variables.values())
        self.memory = backend.allocate(self.layout.nbytes)
        self._backend = backend
        self._variables = variables
        self._views: dict[str, View] = {
            name: backend.view(self.memory, region.offset, variables[name].type)
            for name, region in self.layout.regions.items()
        }

    def __getitem__(self, name: str) -> Array:
        """Return a copy of a variable's value."""
        return self._backend.download(self._views[name])

    def __setitem__(self, name: str, value: Array) -> None:
        """Set a variable."""
        self._backend.upload(stored(value, self._variables[name].type), self._views[name])

    def __contains__(self, name: object) -> bool:
        """Whether there is a variable of that name."""
        return name in self._views

    def second_place(self) -> tuple[Launch, Launch]:
        """Take memory for all variables; return what copies them there, and what copies back."""
        every = tensor(Element.U8, self.layout.nbytes)
        here = self._backend.view(self.memory, 0, every)
        there = self._backend.view(self._backend.allocate(self.layout.nbytes), 0, every)
        return self._backend.copy(here, there), self._backend.copy(there, here)

    def not_finite(self) -> set[str]:
        """Names of the variables that hold an infinity or no number."""
        floats = (name for name in self._views if self._variables[name].type.is_float)
        return {name for name in floats if not np.isfinite(self[name]).all()}

    def snapshot(self) -> dict[str, Array]:
        """Copies of all variables."""
        return {name: self[name] for name in self._views}

    def restore(self, values: Mapping[str, Array]) -> None:
        """Set the variables that are given."""
        for name, value in values.items():
            self[name] = value


class Executable:
    """A plan bound to a backend and to variables."""

    def __init__(self, plan: Plan, backend: Backend, store: VariableStore) -> None:
        self.plan = plan
        self._backend = backend
        self._memories = {
            Space.ARENA: backend.allocate(plan.arena),
            Space.VARIABLES: store.memory,
            Space.CONSTANTS: backend.allocate(_end(plan.constants.values())),
        }
        graph = plan.graph
        for number, region in plan.constants.items():
            backend.upload(array_of(graph[number]), self._view(region, graph[number].type))
        self.inputs = {n: self._view(r, graph[n].type) for n, r in plan.inputs.items()}
        self._outputs = {
            name: self._view(region, graph[graph.outputs[name]].type)
            for name, region in plan.outputs.items()
        }
        self._streams: list[Stream] = [backend.stream() for _ in range(plan.streams)]
        self._calls = [self._call(task) for task in plan.tasks]
        self._awaited = {w for task in plan.tasks for w in task.waits}

    def _view(self, region: Region, type: TensorType) -> View:
        return self._backend.view(self._memories[region.space], region.offset, type)

    def _call(self, task: Task) -> Launch:
        graph = self.plan.graph
        node = graph[task.node]
        output = self._view(task.write, node.type)
        if task.snapshot:
            return self._backend.copy(self._view(task.reads[0], node.type), output)
        inputs = [
            self._view(region, graph[number].type)
            for region, number in zip(task.reads, node.inputs, strict=True)
        ]
        launch = self._backend.kernel(node, inputs, output)
        if task.guard is None or node.guard is None:
            return launch
        guard = self._view(task.guard, graph[node.guard].type)

        def guarded() -> None:
            if guard[()]:
                launch()

        return guarded

    def run(self) -> None:
        """Carry out all tasks; the inputs must have been uploaded."""
        with np.errstate(all="ignore"):
            if self.plan.streams == 1:
                for call in self._calls:
                    call()
                return
            self._run_on_streams()

    def _run_on_streams(self) -> None:
        events: dict[int, Event] = {}
        for number, (task, call) in enumerate(zip(self.plan.tasks, self._calls, strict=True)):
            stream = self._streams[task.stream]
            for awaited in task.waits:
                stream.wait(events[awaited])
            stream.enqueue(call)
            if number in self._awaited:
                events[number] = stream.record()
        for stream in self._streams:
            stream.synchronize()

    def upload(self, number: int, value: Array) -> None:
        """Set what the runtime provides for a node."""
        type = self.plan.graph[number].type
        self._backend.upload(stored(value, type), self.inputs[number])

    def output(self, name: str) -> Array:
        """Return a copy of a result."""
        return self._backend.download(self._outputs[name])

    def first_not_finite(self) -> int | None:
        """Run the tasks once more, one by one; return the first node that is not finite.

        Variables are changed on the way: the caller must put them back.
        """
        graph = self.plan.graph
        with np.errstate(all="ignore"):
            for task, call in zip(self.plan.tasks, self._calls, strict=True):
                call()
                node = graph[task.node]
                if node.type.is_float and self._ran(task):
                    value = self._backend.download(self._view(task.write, node.type))
                    if not np.isfinite(value).all():
                        return node.id
        return None

    def _ran(self, task: Task) -> bool:
        """Whether a task that was just carried out did anything: its guard was true."""
        if task.guard is None:
            return True
        return bool(self._backend.download(self._view(task.guard, TensorType(BOOL))))


def _end(regions: Iterable[Region]) -> int:
    return max((region.offset + region.nbytes for region in regions), default=0)
