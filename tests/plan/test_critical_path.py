"""The longest chain of tasks: by hand, and against networkx on random plans."""

import random
from itertools import pairwise

import networkx as nx
import pytest

from fml.engine.ir.graph import Graph
from fml.engine.plan.critical_path import Link, critical_path, dependences
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait


def at(offset: int, space: Space = Space.ARENA, stride: int = 0) -> Region:
    return Region(space, offset, 64, stride)


def plan(*tasks: Task, learners: int = 0) -> Plan:
    return Plan(Graph("g", [], {}), tasks, {}, {}, {}, 0, 0, Streams(learners=learners))


A, B, C, D = at(0), at(64), at(128), at(192)


def test_of_two_ways_the_longer_one_counts() -> None:
    fork = plan(
        Task(0, 0, (), (A,)), Task(1, 0, (A,), (B,)), Task(2, 0, (A,), (C,)),
        Task(3, 0, (B, C), (D,)),
    )  # fmt: skip
    found = critical_path(fork, [1, 5, 2, 1])
    assert found.links == (Link(0), Link(1), Link(3))
    assert found.cost == 7


def test_memory_that_is_used_again_chains_nothing() -> None:
    again = plan(Task(0, 0, (), (A,)), Task(1, 0, (A,), (B,)), Task(2, 0, (), (A,)))
    assert [set(d) for d in dependences(again)] == [set(), {0}, set()]


def test_a_variable_is_assigned_behind_those_that_read_it() -> None:
    w = at(0, Space.VARIABLES)
    assigned = plan(Task(0, 0, (w,), (A,)), Task(1, 0, (B,), (w,)), Task(2, 0, (w,), (C,)))
    assert [set(d) for d in dependences(assigned)] == [set(), {0}, {1}]


def test_a_guard_is_waited_for() -> None:
    guarded = plan(Task(0, 0, (), (A,)), Task(1, 0, (), (B,), guard=A))
    assert dependences(guarded)[1] == {0}


def test_an_empty_plan_has_an_empty_chain() -> None:
    assert critical_path(plan(), []).links == ()


def test_learners_work_beside_one_another_and_a_reduction_is_behind_them_all() -> None:
    own, stacked = at(0, stride=64), Region(Space.ARENA, 0, 64 * 3)
    averaged = plan(
        Task(0, 0, (), (own,), mapped=True), Task(1, 0, (stacked,), (D,)),
        Task(2, 0, (D,), (at(1024, stride=64),), mapped=True), learners=3,
    )  # fmt: skip
    assert [set(d) for d in dependences(averaged)] == [set(), {0}, {1}]
    assert critical_path(averaged, [4, 1, 2]).cost == 7


@pytest.mark.parametrize("learners", [1, 2, 5])
def test_pushes_in_turn_add_up(learners: int) -> None:
    z = at(0, Space.VARIABLES)
    pushed = plan(
        Task(0, 0, (), (at(0, stride=64),), mapped=True),
        Task(1, 0, (at(0, stride=64),), (z,), mapped=True, in_turn=True),
        learners=learners,
    )
    found = critical_path(pushed, [3, 2])
    assert found.cost == 3 + 2 * learners
    assert found.links == (Link(0), *(Link(1, learner) for learner in range(learners)))


def test_waits_within_a_step_count_and_those_for_the_one_before_do_not() -> None:
    waiting = plan(
        Task(0, 0, (), (A,), waits=(Wait(1, 1),)),
        Task(1, 1, (), (B,), waits=(Wait(0),)),
    )
    assert critical_path(waiting, [2, 3]).cost == 5


@pytest.mark.parametrize("seed", range(20))
def test_the_chain_is_the_longest_of_all(seed: int) -> None:
    rng = random.Random(seed)
    reads = [rng.sample(range(n), min(n, rng.randint(0, 3))) for n in range(30)]
    costs = [rng.randint(1, 20) for _ in reads]
    tasks = (
        Task(n, 0, tuple(at(64 * i) for i in own), (at(64 * n),)) for n, own in enumerate(reads)
    )
    order: nx.DiGraph[int] = nx.DiGraph()
    for number, own in enumerate(reads):
        order.add_edge(-1, number, weight=costs[number])
        order.add_weighted_edges_from((before, number, costs[number]) for before in own)
    found = critical_path(plan(*tasks), costs)
    assert found.cost == nx.dag_longest_path_length(order)
    numbers = [link.task for link in found.links]
    assert sum(costs[n] for n in numbers) == found.cost
    assert all(a in reads[b] for a, b in pairwise(numbers))
