"""Memory on several streams: what only seems to be over in the order of issue is not reused."""

import random
from collections.abc import Callable
from itertools import pairwise

import networkx as nx
import pytest

from fml.engine.ir.graph import Graph
from fml.engine.plan.memory import Buffer, plan_arena
from fml.engine.plan.races import find_races
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait

STREAMS = 3


class Issued:
    """Random tasks on streams: task i makes value i from earlier ones, and waits for them."""

    def __init__(self, seed: int, tasks: int = 40) -> None:
        rng = random.Random(seed)
        self.streams = [rng.randrange(STREAMS) for _ in range(tasks)]
        near = [range(max(0, i - 12), i) for i in range(tasks)]
        self.reads = [rng.sample(near[i], min(i, rng.randint(0, 2))) for i in range(tasks)]
        self.sizes = [rng.choice([0, 16, 64, 200, 1024]) for _ in range(tasks)]
        order = nx.DiGraph([(j, i) for i, reads in enumerate(self.reads) for j in reads])
        order.add_nodes_from(range(tasks))
        for stream in range(STREAMS):
            own = [i for i in range(tasks) if self.streams[i] == stream]
            order.add_edges_from(pairwise(own))
        self.before = nx.transitive_closure_dag(order)

    def uses(self, value: int) -> list[int]:
        return [value, *(i for i, reads in enumerate(self.reads) if value in reads)]

    def clash(self, one: Buffer[int], other: Buffer[int]) -> bool:
        def is_over(a: int, b: int) -> bool:
            return all(self.before.has_edge(use, b) for use in self.uses(a))

        return not is_over(one.key, other.key) and not is_over(other.key, one.key)

    def plan(self, clash: Callable[[Buffer[int], Buffer[int]], bool]) -> Plan:
        count = len(self.streams)
        buffers = [Buffer(i, self.sizes[i], i, max(self.uses(i))) for i in range(count)]
        arena = plan_arena(buffers, clash)
        regions = [Region(Space.ARENA, arena.offsets[i], self.sizes[i]) for i in range(count)]
        tasks = tuple(
            Task(
                i,
                self.streams[i],
                tuple(regions[j] for j in self.reads[i]),
                (regions[i],),
                waits=tuple(Wait(j) for j in self.reads[i] if self.streams[j] != self.streams[i]),
            )
            for i in range(count)
        )
        streams = Streams(STREAMS)
        return Plan(Graph("g", [], {}), tasks, {}, {}, {}, arena.nbytes, arena.peak, streams)


@pytest.mark.parametrize("seed", range(60))
def test_reuse_by_what_happens_before_never_races(seed: int) -> None:
    issued = Issued(seed)
    plan = issued.plan(issued.clash)
    assert find_races(plan) == []
    assert plan.arena < sum(issued.sizes)  # something is reused


def test_reuse_by_the_order_of_issue_races() -> None:
    plans = [Issued(seed).plan(Buffer.lives_with) for seed in range(60)]
    assert sum(bool(find_races(plan)) for plan in plans) > 30
