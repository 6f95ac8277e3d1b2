"""The central models of a plan with learners, as they are measured and saved."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from fml.engine.backends.interface import Backend
from fml.engine.ir.training import Training
from fml.engine.ops.record import Array
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.variables import VariableStore


class CentralModels:
    """Gives the central models the means of their replicas' states of layers.

    Training goes on from the states that it left itself: when something is measured or saved, and
    so whether it is, must not change what comes of a run.
    """

    def __init__(
        self,
        training: Training,
        sizes: Mapping[str, int],
        backend: Backend,
        store: VariableStore,
    ) -> None:
        averaged = training.averaged
        self.sections = [] if averaged is None else [Section(averaged, sizes, backend, store)]
        assigned = () if averaged is None else averaged.of_op("assign")
        self._names = sorted({str(node.attributes["name"]) for node in assigned})
        self._store = store

    def settle(self, moment: Moment) -> None:
        """Give them the means for good."""
        for section in self.sections:
            section.provide(moment)
            section.run()

    @contextmanager
    def averaged(self, moment: Moment) -> Generator[None]:
        """Give them the means meanwhile."""
        own = self._states()
        try:
            self.settle(moment)
            yield
        finally:
            self._store.restore(own)

    def means(self, moment: Moment) -> dict[str, Array]:
        """Return what they would be given, by the name of the variable."""
        if not self.sections:
            return {}
        with self.averaged(moment):
            return self._states()

    def _states(self) -> dict[str, Array]:
        return {name: self._store[name] for name in self._names}
