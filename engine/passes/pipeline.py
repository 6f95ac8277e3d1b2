"""The passes in their order: the only file that knows it."""

from collections.abc import Mapping
from typing import Protocol

from fml.engine.autodiff.expand import expand_gradients
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import DEVICES, LEARNERS
from fml.engine.ops.verify import verify
from fml.engine.passes.decided_guards import DecidedGuards
from fml.engine.passes.fold_constants import FoldConstants
from fml.engine.passes.last_assignments import LastAssignments
from fml.engine.passes.learners_axis import LearnersAxis
from fml.engine.passes.localise import Localise
from fml.engine.passes.merge_duplicates import MergeDuplicates
from fml.engine.passes.old_values_first import OldValuesFirst
from fml.engine.passes.products_in_parts import ProductsInParts
from fml.engine.passes.remove_dead import RemoveDead
from fml.engine.passes.simplify import Simplify
from fml.engine.passes.specialise import Specialise
from fml.engine.passes.sums_in_parts import SumsInParts


class Pass(Protocol):
    """What every pass is: a graph in, a valid graph out."""

    def run(self, graph: Graph) -> Graph:
        """Return the changed graph."""
        ...


def passes(sizes: Mapping[str, int]) -> tuple[Pass, ...]:
    """The passes behind differentiation, in order."""
    learners, devices = sizes.get(str(LEARNERS), 1), sizes.get(str(DEVICES), 1)
    return (
        Specialise(sizes),
        DecidedGuards(),
        Localise(),
        LearnersAxis(learners, devices),
        *simplifications(),
        ProductsInParts(),
        SumsInParts(),
        LastAssignments(),
        OldValuesFirst(),
    )


def simplifications() -> tuple[Pass, ...]:
    """The passes that need no sizes, in order."""
    return (
        Simplify(),
        FoldConstants(),
        Simplify(),  # folding has made new neutral elements
        MergeDuplicates(),
        RemoveDead(),
    )


def readable(graph: Graph) -> Graph:
    """Differentiate and simplify; dimensions keep their names, as people want to see them."""
    graph = expand_gradients(graph)
    for one in simplifications():
        graph = one.run(graph)
    return graph


def optimise(graph: Graph, sizes: Mapping[str, int], *, check: bool = False) -> Graph:
    """Differentiate, bind sizes and simplify; `check` runs the verifier after each pass.

    Raises:
        FmlError: a dimension has no size, or none that is whole.
        InvalidGraph: with `check`, a pass made a graph that is none: a bug in fml.
    """
    graph = expand_gradients(graph)
    for one in passes(sizes):
        if check:
            verify(graph)
        graph = one.run(graph)
    if check:
        verify(graph)
    return graph
