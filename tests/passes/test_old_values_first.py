"""Old values are read before they are overwritten, wherever nothing keeps their readers."""

import numpy as np
import pytest

from fml.engine.ir.text import dump, read
from fml.engine.ops.verify import verify
from fml.engine.passes.old_values_first import OldValuesFirst
from fml.engine.plan.clusters import clusters
from fml.engine.plan.order import late_reads
from tests.plan.test_merging import assigned, step_of
from tests.plan.test_updates import RandomUpdates

BEFORE = """\
graph "step"
%0 = variable() {name = "w", role = "param"} : f32[4]
%1 = variable() {name = "z", role = "param"} : f32[4]
%2 = argument() {name = "g"} : f32[4]
%3 = argument() {name = "due"} : bool
%4 = subtract(%0, %2) : f32[4]
%5 = assign(%0, %4) {name = "w"} : f32[4]
%6 = constant() {value = 0.5} : f32
%7 = subtract(%0, %1) : f32[4] when %3
%8 = multiply(%6, %7) : f32[4] when %3
%9 = multiply(%0, %5) : f32[4]
%10 = subtract(%5, %8) : f32[4] when %3
%11 = assign(%5, %10) {name = "w"} : f32[4] when %3
return old = %9, new = %11
"""
# The difference to z is taken before w is overwritten; what needs the new w as well stays.
AFTER = """\
graph "step"
%0 = variable() {name = "w", role = "param"} : f32[4]
%1 = variable() {name = "z", role = "param"} : f32[4]
%2 = argument() {name = "g"} : f32[4]
%3 = argument() {name = "due"} : bool
%4 = subtract(%0, %2) : f32[4]
%5 = subtract(%0, %1) : f32[4] when %3
%6 = assign(%0, %4) {name = "w"} : f32[4]
%7 = constant() {value = 0.5} : f32
%8 = multiply(%7, %5) : f32[4] when %3
%9 = multiply(%0, %6) : f32[4]
%10 = subtract(%6, %8) : f32[4] when %3
%11 = assign(%6, %10) {name = "w"} : f32[4] when %3
return old = %9, new = %11
"""


def test_readers_of_an_old_value_come_first() -> None:
    assert dump(OldValuesFirst().run(read(BEFORE))) == AFTER


def test_there_is_nothing_more_to_do_then() -> None:
    once = read(AFTER)
    assert OldValuesFirst().run(once) == once


@pytest.mark.parametrize("seed", range(60))
def test_random_updates_come_to_the_same(seed: int) -> None:
    made = RandomUpdates(seed)
    wanted, stays = made.expected()
    before = late_reads(made.graph).aside
    made.graph = OldValuesFirst().run(made.graph)
    verify(made.graph)
    assert len(late_reads(made.graph).aside) <= len(before)
    found, left = made.expected()
    for name, value in (wanted | stays).items():
        np.testing.assert_array_equal((found | left)[name], value, name)


def test_random_updates_have_something_to_do() -> None:
    graphs = [RandomUpdates(seed).graph for seed in range(60)]
    assert sum(OldValuesFirst().run(graph) != graph for graph in graphs) > 20


@pytest.mark.parametrize("strategy", ["sma", "easgd", "diloco"])
def test_learners_update_at_the_end_of_a_gradient_also_where_they_seldom_meet(
    strategy: str,
) -> None:
    """What averaging needs of old parameters is taken when it is due, and not copied always."""
    graph = step_of(f"{strategy}(learners.w, z, tau = 8 steps)")
    assert not late_reads(graph).aside
    found = [assigned(graph, c).keys() for c in clusters(graph) if c.guard is None]
    assert sum(names == {"momentum", "w"} for names in found) == 6
    assert sum("w" in names for names in found) == 6
