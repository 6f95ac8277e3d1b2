"""Runs plans: views and kernels are made once, a step is a walk over a list of calls."""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from fml.engine.backends.interface import Backend, Event, Launch, Memory, Stream, View
from fml.engine.ir.training import Variable
from fml.engine.ir.types import BOOL, Element, TensorType, tensor
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.passes.constants import array_of
from fml.engine.plan.planner import lay_out
from fml.engine.plan.task import Plan, Region, Space, Task


class Workspace:
    """Memory for values on the way, which graphs that run one after another share.

    It is as large as the largest of their arenas, and is allocated when the first of them runs;
    what a graph leaves there is gone when another one has run.
    """

    def __init__(self, backend: Backend) -> None:
        self.nbytes = 0
        self._backend = backend
        self._memory: Memory = None
        self._allocated = -1

    def reserve(self, nbytes: int) -> None:
        """Say how much a graph will need."""
        self.nbytes = max(self.nbytes, nbytes)

    def memory(self) -> Memory:
        """Return memory for any of the graphs that have said what they need."""
        if self._allocated < self.nbytes:
            self._memory, self._allocated = self._backend.allocate(self.nbytes), self.nbytes
        return self._memory


class VariableStore:
    """The variables of a training in one memory, by path: all its graphs share them."""

    def __init__(self, variables: Mapping[str, Variable], backend: Backend) -> None:
        self.layout = lay_out(variables.values())
        self.workspace = Workspace(backend)
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

    def model(self) -> dict[str, Array]:
        """Copies of the parameters and the states of layers: what `keep` keeps."""
        return {name: self[name] for name in self._views if self._variables[name].is_of_model}

    def restore(self, values: Mapping[str, Array]) -> None:
        """Set the variables that are given."""
        for name, value in values.items():
            self[name] = value


class Executable:
    """A plan bound to a backend and to variables, and to the workspace when it is first used.

    Its inputs must be uploaded, it must run, and its outputs must be read before another graph of
    the same store is used.
    """

    def __init__(self, plan: Plan, backend: Backend, store: VariableStore) -> None:
        self.plan = plan
        self._backend = backend
        self._store = store
        store.workspace.reserve(plan.arena)
        self._streams: list[Stream] = [backend.stream() for _ in range(plan.streams)]
        self._awaited = {w for task in plan.tasks for w in task.waits}

    @property
    def constants_nbytes(self) -> int:
        """Bytes of the constants, which are written once."""
        return _end(self.plan.constants.values())

    @cached_property
    def _memories(self) -> dict[Space, Memory]:
        return {
            Space.ARENA: self._store.workspace.memory(),
            Space.VARIABLES: self._store.memory,
            Space.CONSTANTS: self._backend.allocate(self.constants_nbytes),
        }

    @cached_property
    def inputs(self) -> dict[int, View]:
        """The places of what the runtime provides, by node."""
        graph = self.plan.graph
        return {n: self._view(r, graph[n].type) for n, r in self.plan.inputs.items()}

    @cached_property
    def _outputs(self) -> dict[str, View]:
        graph = self.plan.graph
        return {
            name: self._view(region, graph[graph.outputs[name]].type)
            for name, region in self.plan.outputs.items()
        }

    @cached_property
    def _calls(self) -> list[Launch]:
        graph = self.plan.graph
        for number, region in self.plan.constants.items():
            constant = array_of(graph[number])
            self._backend.upload(constant, self._view(region, graph[number].type))
        return [self._call(task) for task in self.plan.tasks]

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
