"""A fusion: several nests that become one kernel, of which each may read those before it.

`composing.py` writes its loops, `epilogue.py` what it does behind a sum of products.
"""

from dataclasses import dataclass

from fml.engine.kernels.expr import Buffer
from fml.engine.kernels.nest import Input, Nest, Read, parts_of


class NotFusable(Exception):
    """These nests cannot be one kernel: a fold is read at another place than its own."""


@dataclass(frozen=True, slots=True)
class Member:
    """A nest and where its inputs come from: numbers of values, the inputs of the fusion first."""

    nest: Nest
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fusion:
    """Nests of which each may read those before it.

    Attributes:
        inputs: what comes from outside; values 0, 1, ...
        members: the nests; their values are numbered behind the inputs.
        results: the values that are stored, in the order of the kernel's last buffers.
        shared: pairs of an input and the place of a result that may be the same memory.
    """

    inputs: tuple[Input, ...]
    members: tuple[Member, ...]
    results: tuple[int, ...]
    shared: tuple[tuple[int, int], ...] = ()

    def nest(self, value: int) -> Nest:
        """The nest of a value that is no input."""
        return self.members[value - len(self.inputs)].nest

    def reads(self, value: int) -> tuple[int, ...]:
        """The values that a value reads."""
        return self.members[value - len(self.inputs)].reads

    def is_input(self, value: int) -> bool:
        """Whether a value comes from outside."""
        return value < len(self.inputs)

    @property
    def values(self) -> range:
        """The values that are computed."""
        return range(len(self.inputs), len(self.inputs) + len(self.members))

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers of the kernel: the inputs, then the results."""
        given = (Buffer(f"in{n}", x.element) for n, x in enumerate(self.inputs))
        made = (Buffer(f"out{n}", self.nest(v).element) for n, v in enumerate(self.results))
        return (*given, *made)


def is_read_in_place(nest: Nest, place: int) -> bool:
    """Whether a nest reads an input at the place of its own entry alone."""
    reads = [p for p in parts_of(nest.value) if isinstance(p, Read) and p.place == place]
    return all(is_same_place(read, nest) for read in reads)


def is_same_place(read: Read, nest: Nest) -> bool:
    """Whether an entry is read at the place of the result's: no index need be taken apart."""
    if read.guard is not None or nest.inputs[read.place].sizes != nest.sizes:
        return False
    indices = zip(read.indices, nest.axes, strict=True)  # an axis of 1 has one place
    return read.flat is None and all(i == axis.var or axis.size == 1 for i, axis in indices)
