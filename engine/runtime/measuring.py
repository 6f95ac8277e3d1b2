"""Figures of whole splits: each `measure` is compiled once and taken whenever it is due."""

from collections.abc import Mapping

from fml.engine.backends.interface import Backend
from fml.engine.ir.training import Measure, Training
from fml.engine.runtime.executor import VariableStore
from fml.engine.runtime.feeding import Data, has_samples, samples_in
from fml.engine.runtime.section import Moment, Section


class Measurement:
    """A `measure` bound to its split, which is computed as if it were one batch."""

    def __init__(
        self,
        measure: Measure,
        data: Data,
        sizes: Mapping[str, int],
        backend: Backend,
        store: VariableStore,
    ) -> None:
        """Compile it for all samples of the split.

        Raises:
            FmlError: E0521, there are no samples to measure on.
        """
        self.rule = measure
        split = samples_in(data, measure.data, measure.split, "measure on")
        self._fields = {(measure.data, name): array for name, array in split.items()}
        sizes = {**sizes, measure.dim: len(next(iter(split.values())))}
        self._section = Section(measure.graph, sizes, backend, store)

    def take(self, moment: Moment) -> dict[str, float]:
        """Return its figures by series."""
        # Fed each time: the plan uses the memory of a field again once nobody reads it.
        self._section.feed(self._fields)
        self._section.provide(moment)
        self._section.run()
        return {s.name: self._section.number(s.output) for s in self.rule.series}


def measurements(
    training: Training,
    data: Data,
    sizes: Mapping[str, int],
    backend: Backend,
    store: VariableStore,
) -> list[Measurement]:
    """Compile all that a plan measures, leaving out what is optional and has no samples.

    Raises:
        FmlError: E0521, there are no samples to measure on.
    """
    return [
        Measurement(measure, data, sizes, backend, store)
        for measure in training.measures
        if not measure.optional or has_samples(data, measure.data, measure.split)
    ]
