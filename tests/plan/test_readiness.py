"""Learners and the centre come to each other's values in the order in which these are made."""

import random

import pytest

from fml.engine.plan.clusters import clusters
from fml.engine.plan.readiness import by_readiness
from tests.plan.test_merging import assigned, step_of


def drawn(seed: int) -> dict[int, set[int]]:
    """What comes behind each of some places: any that has a higher number."""
    rng = random.Random(seed)
    count = rng.randint(1, 30)
    return {n: {m for m in range(n + 1, count) if rng.random() < 0.15} for n in range(count)}


@pytest.mark.parametrize("seed", range(30))
def test_nothing_comes_before_what_it_waits_for(seed: int) -> None:
    behind = drawn(seed)
    mapped = {place for place in behind if random.Random(seed + place).random() < 0.6}
    order = [*by_readiness(behind, mapped)]
    assert sorted(order) == [*behind]
    at = {place: n for n, place in enumerate(order)}
    assert all(at[place] < at[other] for place in behind for other in behind[place])


@pytest.mark.parametrize("are_mapped", [False, True])
def test_on_one_kind_of_stream_the_order_stays(are_mapped: bool) -> None:
    behind = drawn(7)
    mapped = set(behind) if are_mapped else set[int]()
    assert [*by_readiness(behind, mapped)] == [*behind]


def places(by: str, variable: str) -> list[tuple[str, int]]:
    """Who assigns to each parameter of a variable, in order: its name, and where in the order."""
    graph = step_of(by)
    written = [assigned(graph, cluster) for cluster in clusters(graph)]
    return [(names[variable], at) for at, names in enumerate(written) if variable in names]


@pytest.mark.parametrize("by", ["sma(learners.w, z)", "easgd(learners.w, z)"])
def test_the_centre_takes_parameters_in_the_order_of_the_learners(by: str) -> None:
    """Each as soon as learners are done with it, so that it is done when they come to it again."""
    learners, centre = places(by, "w"), places(by, "z")
    assert [name for name, _ in learners] == [name for name, _ in centre]
    assert all(behind == at + 1 for (_, at), (_, behind) in zip(learners, centre, strict=True))


def test_learners_wait_for_the_centre_when_all_else_is_done() -> None:
    by = "local_sgd(learners.w, z, 1 step)"
    centre, learners = places(by, "z"), places(by, "w")
    steps, ends = learners[:6], learners[6:]
    names = [name for name, _ in centre]
    assert [name for name, _ in steps] == [name for name, _ in ends] == names
    last = len(clusters(step_of(by)))
    assert [at for _, at in ends] == [*range(last - 6, last)]
