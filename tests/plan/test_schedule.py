"""Steps on several streams: independent chains part, the bits stay, and waits cross streams."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fml.engine.backends.interface import Backend
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.backends.simulated import SimulatedBackend
from fml.engine.ir.training import Role, Training, Variable
from fml.engine.ir.types import F32, tensor
from fml.engine.ops.build import Builder
from fml.engine.plan.clocks import Clocks
from fml.engine.plan.critical_path import dependences
from fml.engine.plan.planner import lay_out, make_plan
from fml.engine.plan.races import find_races
from fml.engine.plan.task import Plan, Streams, Task
from fml.engine.plan.text import format_plan
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.trainer import Trainer
from tests.dsl.programs import lowered
from tests.runtime.test_steps import random_data

# Two branches and a shortcut around them.
RESIDUAL = """
data d = given {{ x: f32[12]; y: label[5] }}
model net(x: f32[N, 12]) -> f32[N, 5] {{
  wide = x |> dense(16) |> relu
  narrow = x |> dense(16) |> tanh |> dense(16)
  wide + narrow |> dropout(0.2) |> dense(5)
}}
train {{
  z = net()
  {learners}feed x, y from d.train |> shuffle |> batch(4)
  minimize loss = cross_entropy(z(x), y)
  using momentum(0.1)
  stop after 6 steps
}}
"""
STEPS = 6


@cache
def training(learners: int | None, by: str = "sma(tau = 2 steps)") -> tuple[Training, Data]:
    line = f"learners {learners} per device by {by}\n  " if learners else ""
    made = lowered(RESIDUAL.format(learners=line))
    return made, random_data(made)


def trained(backend: Backend, learners: int | None, devices: int = 1) -> Trainer:
    trainer = Trainer(*training(learners), backend, 3, devices)
    for step in range(0, STEPS, min(STEPS, trainer.steps.most)):
        count = min(STEPS, trainer.steps.most)
        assert trainer.steps.run(replace(trainer.moment, step=step), 0.0, count) == count
    return trainer


BACKENDS: dict[str, Callable[[int], Backend]] = {
    "numpy": NumpyBackend,
    "compiled": lambda streams: LlvmBackend(2, streams),
    "replayed": lambda streams: SimulatedBackend(streams, True, streams),
    "running on": lambda streams: SimulatedBackend(streams + 10, False, streams),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("learners", "devices"), [(None, 1), (1, 1), (2, 1), (3, 1), (1, 2)])
def test_several_streams_leave_the_bits_of_one(
    backend: str, learners: int | None, devices: int
) -> None:
    """Their plans have no races, of all learners, over three iterations."""
    expected = trained(BACKENDS[backend](1), learners, devices).store.snapshot()
    for streams in (2, 4):
        trainer = trained(BACKENDS[backend](streams), learners, devices)
        plan = trainer.step.executable.plan
        assert plan.streams.per_learner > 1 if learners else plan.streams.per_device > 1
        assert max(plan.streams.per_learner, plan.streams.per_device) <= streams
        assert_right(plan)
        for name, value in trainer.store.snapshot().items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


def assert_right(plan: Plan) -> None:
    assert find_races(plan, iterations=3, learners=None) == []
    for task in plan.tasks:
        for wait in task.waits:
            other = plan.tasks[wait.task]
            is_own = (task.mapped, task.device, task.stream) == (
                other.mapped, other.device, other.stream
            )  # fmt: skip
            assert wait.all_learners or not is_own  # only across streams


def step_of(streams: int, learners: int, by: str = "sma(tau = 2 steps)") -> Plan:
    """The plan of a step, node by node."""
    return Trainer(*training(learners, by), NumpyBackend(streams), 3).step.executable.plan


def test_a_learner_waits_within_a_step_for_what_it_reads_alone() -> None:
    """Memory is used again, and never so that a stream waits for another one's reader."""
    plan = step_of(4, 2)
    needed = dependences(replace(plan, tasks=tuple(replace(t, waits=()) for t in plan.tasks)))
    for number, task in enumerate(plan.tasks):
        own = (w.task for w in task.waits if task.mapped and plan.tasks[w.task].mapped)
        assert {other for other in own if other < number} <= needed[number]
    own = [r for t in plan.tasks for r in t.writes if t.mapped and r.stride]
    assert plan.arena < sum(2 * r.nbytes for r in own)


def test_planning_costs_the_same_however_many_learners_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A learner's tasks are put on streams once; more than three are never looked at."""
    counts: list[int] = []
    init = Clocks.__init__

    def counting(self: Clocks, tasks: Sequence[Task], streams: Streams, learners: int) -> None:
        counts.append(len(tasks) * learners)
        init(self, tasks, streams, learners)

    monkeypatch.setattr(Clocks, "__init__", counting)
    few = step_of(3, 3)
    first, counts[:] = tuple(counts), []
    many = step_of(3, 10)
    assert len(many.tasks) == len(few.tasks)
    assert tuple(counts) == first


def test_it_is_the_same_plan_every_time() -> None:
    assert format_plan(step_of(3, 2)) == format_plan(step_of(3, 2))


def test_a_critical_section_stays_whole() -> None:
    """Who pushes with staleness has one stream."""
    line = "learners 2 per device, staleness = 1 by parameter_server()\n  "
    made = lowered(RESIDUAL.format(learners=line))
    plan = Trainer(made, random_data(made), NumpyBackend(4), 3).step.executable.plan
    assert any(task.is_critical for task in plan.tasks)
    assert plan.streams.per_learner == 1
    assert_right(plan)


# Two products that need not wait for each other, and their sum.
TWO = """\
plan "step": 5 tasks on 2 streams, arena of 786432 bytes, 786432 of them at once
in  %0 feed -> arena 0+262144
0: stream 0 %0 give() -> arena 0+262144 after 2 1 step before
1: stream 0 %3 matmul(arena 0+262144, variables 0+262144) -> arena 262144+262144 after 4 1 step before
2: stream 1 %4 matmul(arena 0+262144, variables 262144+262144) -> arena 524288+262144 after 0
3: stream 1 %5 add(arena 262144+262144, arena 524288+262144) -> arena 262144+262144 after 1
4: stream 1 %5 take(arena 262144+262144)
out sum = arena 262144+262144
"""  # noqa: E501 - a line a task


def two_products(streams: int) -> Plan:
    b = Builder("step")
    type = tensor(F32, 256, 256)
    x = b.add("feed", type, (), {"data": "d", "split": "train", "field": "x"})
    w = b.add("variable", type, (), {"name": "w", "role": "param"})
    v = b.add("variable", type, (), {"name": "v", "role": "param"})
    one, other = b.call("matmul", x, w), b.call("matmul", x, v)
    graph = b.finish({"sum": one + other})
    layout = lay_out([Variable(name, type, Role.PARAM) for name in ("w", "v")])
    return make_plan(graph, layout, streams=Streams(streams))


def test_a_plan_of_two_streams_as_text() -> None:
    assert format_plan(two_products(2)) == TWO
    assert two_products(4).streams == Streams(2)  # no more than there are chains
