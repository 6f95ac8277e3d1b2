"""The memory that the graphs of a training share: variables, and values on the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fml.engine.backends.interface import Backend, Launch, Memory, View
from fml.engine.ir.training import Variable
from fml.engine.ir.types import Element, TensorType, tensor
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.ops.rules import as_dim
from fml.engine.plan.planner import lay_out
from fml.engine.plan.task import Streams


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


@dataclass(frozen=True, slots=True)
class SecondPlace:
    """Memory where all variables fit once more.

    Attributes:
        fill: copies them there.
        restore: copies them back.
        put: sets those that are given there, and leaves the others as they are.
    """

    fill: Launch
    restore: Launch
    put: Callable[[Mapping[str, Array]], None]


class VariableStore:
    """The variables of a training in one memory, by path: all its graphs share them.

    The value of a mapped variable has those of all learners along its first axis.
    """

    def __init__(
        self,
        variables: Mapping[str, Variable],
        backend: Backend,
        learners: int = 1,
        devices: int = 1,
        staleness: int | None = 0,
    ) -> None:
        self.learners = learners
        self.streams = Streams(devices=devices, learners=learners)
        self.staleness = staleness
        self.layout = lay_out(variables.values(), learners)
        self.workspace = Workspace(backend)
        self.memory = backend.allocate(self.layout.nbytes)
        self._backend = backend
        self._variables = variables
        self._views = self._views_in(self.memory)

    def _views_in(self, memory: Memory) -> dict[str, View]:
        return {
            name: self._backend.view(memory, region.offset, self._type(self._variables[name]))
            for name, region in self.layout.regions.items()
        }

    def _type(self, variable: Variable) -> TensorType:
        own = variable.type
        return own.with_shape((as_dim(self.learners), *own.shape)) if variable.mapped else own

    def __getitem__(self, name: str) -> Array:
        """Return a copy of a variable's value."""
        return self._backend.download(self._views[name])

    def __setitem__(self, name: str, value: Array) -> None:
        """Set a variable; one learner's value of a mapped one is given to all learners."""
        self._put(name, value, self._views[name])

    def _put(self, name: str, value: Array, view: View) -> None:
        self._backend.upload(stored(value, self._variables[name].type), view)

    def __contains__(self, name: object) -> bool:
        """Whether there is a variable of that name."""
        return name in self._views

    def second_place(self) -> SecondPlace:
        """Take memory for all variables once more."""
        memory = self._backend.allocate(self.layout.nbytes)
        every, views = tensor(Element.U8, self.layout.nbytes), self._views_in(memory)
        here, there = (self._backend.view(m, 0, every) for m in (self.memory, memory))

        def put(values: Mapping[str, Array]) -> None:
            for name, value in values.items():
                self._put(name, value, views[name])

        copy = self._backend.copy
        return SecondPlace(copy(here, there), copy(there, here), put)

    def not_finite(self) -> set[str]:
        """Names of the variables that hold an infinity or no number."""
        floats = (name for name in self._views if self._variables[name].type.is_float)
        return {name for name in floats if not np.isfinite(self[name]).all()}

    def snapshot(self) -> dict[str, Array]:
        """Copies of all variables."""
        return {name: self[name] for name in self._views}

    def model(self) -> dict[str, Array]:
        """Copies of the parameters and the states of layers, not those of learners."""
        return {name: self[name] for name in self._views if self._variables[name].is_of_model}

    def restore(self, values: Mapping[str, Array]) -> None:
        """Set the variables that are given."""
        for name, value in values.items():
            self[name] = value
