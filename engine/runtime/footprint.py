"""How much memory a run will take, known before its first step."""

from collections.abc import Iterable
from dataclasses import dataclass

from fml.engine.ir.training import Training
from fml.engine.runtime.measuring import Measurement
from fml.engine.runtime.section import Section
from fml.engine.runtime.variables import VariableStore


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a run takes beyond its data, by what they are for.

    `variables` are parameters, slots and states; `copies` are what is kept of them to go back by a
    step, to end with the best, and to write a checkpoint; `workspace` is the memory of values on
    the way, which all graphs share; `constants` are the graphs' own; `figures` are values of all
    samples of a split that a figure joins; `results` is the largest value that an operation
    returns before it is put into its place.
    """

    variables: int
    copies: int
    workspace: int
    constants: int
    figures: int
    results: int

    @property
    def nbytes(self) -> int:
        """All of them."""
        own = self.variables + self.copies + self.workspace
        return own + self.constants + self.figures + self.results


def footprint(
    training: Training,
    store: VariableStore,
    sections: Iterable[Section],
    measurements: Iterable[Measurement],
    *,
    writes_checkpoints: bool,
) -> Footprint:
    """Add up what a training takes whose graphs have been planned."""
    every = store.layout.nbytes
    model = sum(
        region.nbytes
        for name, region in store.layout.regions.items()
        if training.variables[name].is_of_model
    )
    kept = model if training.keep else 0
    # A checkpoint is the variables, what is kept, and both as one file before it is written; the
    # end is a copy of the variables.
    written = 2 * every + kept if writes_checkpoints else every
    sections = list(sections)
    return Footprint(
        every,
        2 * every + kept + written,
        store.workspace.nbytes,
        sum(section.executable.constants_nbytes for section in sections),
        max((m.joined_nbytes for m in measurements), default=0),
        max(
            (r.nbytes for s in sections for t in s.executable.plan.tasks for r in t.writes),
            default=0,
        ),
    )
