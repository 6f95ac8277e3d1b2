"""What a plan watches: measurements, logs and conditions to stop, taken between two steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.training import Log, Role, StopWhen, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.measuring import Told, measurements
from fml.engine.runtime.section import Moment, Section, is_due
from fml.engine.runtime.variables import VariableStore
from fml.engine.runtime.watch import Record


@dataclass(slots=True)
class Look:
    """What was seen between two steps: figures by series, and what `previous` remembers of them."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    remembered: dict[str, Array] = field(default_factory=dict[str, Array])


class Watched:
    """The graphs of a plan that look at a run and change nothing.

    Attributes:
        measurements: figures of whole splits.
    """

    def __init__(
        self,
        training: Training,
        data: Data,
        sizes: Mapping[str, int],
        backend: Backend,
        store: VariableStore,
    ) -> None:
        """Compile them.

        Raises:
            FmlError: E0521, there are no samples to measure on.
        """
        self._training, self._store = training, store
        self.measurements = measurements(training, data, sizes, backend, store)
        self._logs = {
            log.series.name: Section(log.graph, sizes, backend, store)
            for log in training.logs
            if log.graph is not None
        }
        self._conditions = {
            number: Section(rule.graph, sizes, backend, store)
            for number, rule in enumerate(training.stops)
            if isinstance(rule, StopWhen)
        }

    @property
    def sections(self) -> list[Section]:
        """All graphs."""
        measured = (section for m in self.measurements for section in m.sections)
        return [*measured, *self._logs.values(), *self._conditions.values()]

    def due(self, moment: Moment, seconds_before: float, record: Record, told: Told) -> Look:
        """Take the figures that are due; the latest look was `seconds_before`."""
        look = Look()
        for measurement in self.measurements:
            every = measurement.rule.every
            if every is not None and is_due(every, moment, moment.step, seconds_before):
                look.figures |= measurement.take(moment, told)
                look.remembered |= measurement.remembered()
        for log in self._training.logs:
            if is_due(log.every, moment, moment.step, seconds_before):
                look.figures[log.series.name] = self._logged(log, moment, record, look)
        return look

    def _logged(self, log: Log, moment: Moment, record: Record, look: Look) -> float:
        section = self._logs.get(log.series.name)
        if section is None:
            return record.of_step[log.series.name]
        section.provide(moment)
        section.run()
        look.remembered |= section.results(log.remembers)
        return section.number(log.series.output)

    def held(self, moment: Moment, record: Record, look: Look) -> list[int]:
        """Return which conditions to stop hold, by their place among the rules."""
        return [number for number in self._conditions if self._holds(number, moment, record, look)]

    def _holds(self, number: int, moment: Moment, record: Record, look: Look) -> bool:
        """Whether a condition holds; not while one of its series has not been measured."""
        section, rule = self._conditions[number], self._training.stops[number]
        assert isinstance(rule, StopWhen)
        if not section.provide_series(record.latest):
            return False
        section.provide(moment)
        section.run()
        look.remembered |= section.results(rule.remembers)
        return bool(section.number("condition"))

    def of_the_end(
        self, moment: Moment, variables: Mapping[str, Array], told: Told
    ) -> dict[str, float]:
        """The figures of these variables alone, as whoever measures them again finds them."""
        delays = {n for n, v in self._training.variables.items() if v.role is Role.DELAY}
        self._store.restore({name: np.zeros_like(variables[name]) for name in delays})
        figures: dict[str, float] = {}
        for measurement in self.measurements:
            figures |= measurement.take(moment, told)
        return figures
