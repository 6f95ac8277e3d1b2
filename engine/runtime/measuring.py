"""Figures of whole splits: each `measure` is compiled once and taken whenever it is due."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Measure, Training
from fml.engine.ops.by_sample import Reach, reaches
from fml.engine.ops.record import Array
from fml.engine.passes.apart import cut_apart
from fml.engine.passes.pipeline import readable
from fml.engine.runtime.feeding import Data, has_samples, samples_in
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.variables import VariableStore

# What depends on samples takes at most so many bytes at a time, before memory is used again.
BYTES_AT_ONCE = 1 << 26

# Is told of a split how many of its samples have been looked at, and how many there are.
Told: TypeAlias = Callable[[str, int, int], None]


def nobody(split: str, done: int, samples: int) -> None:
    """Nobody is told how far a measurement is."""


class Measurement:
    """A `measure` bound to its split, which is computed as if it were one batch.

    What is made sample by sample, up to the values that a figure then joins, is computed piece by
    piece: the memory of a network does not grow with the split, and the figures are the same.
    """

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
        split = samples_in(data, measure.data, measure.split, "measure on", measure.span)
        self._fields = {(measure.data, name): array for name, array in split.items()}
        self._samples = len(next(iter(split.values())))
        graph = readable(measure.graph)
        self._piece = min(self._samples, samples_at_once(graph, measure.dim, sizes))
        halves = cut_apart(graph, measure.dim) if self._piece < self._samples else None
        self._each: Section | None = None
        if halves is not None:
            graph = halves.all
            self._each = Section(halves.each, {**sizes, measure.dim: self._piece}, backend, store)
        self._all = Section(graph, {**sizes, measure.dim: self._samples}, backend, store)

    @property
    def sections(self) -> list[Section]:
        """Its graphs, in the order in which they run."""
        return [self._all] if self._each is None else [self._each, self._all]

    @property
    def joined_nbytes(self) -> int:
        """Bytes of what is computed piece by piece, of all samples together."""
        if self._each is None:
            return 0
        graph = self._each.graph
        per_piece = sum(graph[number].type.nbytes for number in graph.outputs.values())
        return per_piece // self._piece * self._samples

    def take(self, moment: Moment, told: Told = nobody) -> dict[str, float]:
        """Return its figures by series."""
        said = partial(told, self.rule.split)
        joined = {} if self._each is None else self._joined(self._each, moment, said)
        # Fed each time: the plan uses the memory of a field again once nobody reads it.
        self._feed(self._all, slice(None))
        self._all.provide_arguments(joined)
        self._all.provide(moment)
        self._all.run()
        said(self._samples, self._samples)
        return {s.name: self._all.number(s.output) for s in self.rule.series}

    def remembered(self) -> dict[str, Array]:
        """Return what `previous` remembers of the figures that were just taken."""
        return self._all.results(self.rule.remembers)

    def _feed(self, section: Section, samples: slice) -> None:
        section.feed({(d, f): self._fields[d, f][samples] for _, d, f in section.fed})

    def _joined(
        self, each: Section, moment: Moment, said: Callable[[int, int], None]
    ) -> dict[str, Array]:
        """What is made sample by sample, of all samples, by the name of the argument."""
        joined: dict[str, Array] = {}
        for start in range(0, self._samples, self._piece):
            said(start, self._samples)
            # The last piece is as long as the others: it does some samples again.
            first = min(start, self._samples - self._piece)
            piece = slice(first, first + self._piece)
            self._feed(each, piece)
            each.provide(moment)
            each.run()
            for name in each.graph.outputs:
                part = each.result(name)
                if name not in joined:
                    joined[name] = np.empty((self._samples, *part.shape[1:]), part.dtype)
                joined[name][piece] = part
        return joined


def samples_at_once(graph: Graph, dim: str, sizes: Mapping[str, int]) -> int:
    """How many samples a graph may be given at a time; at least one."""
    reach = reaches(graph, dim)
    own = [node.type for node in graph if reach[node.id] is Reach.SAMPLE]
    nbytes = sum(type.substitute({**sizes, dim: 1}).nbytes for type in own)
    return max(1, BYTES_AT_ONCE // max(1, nbytes))


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
