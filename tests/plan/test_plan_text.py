"""A plan can be read: regions, snapshots, guards and outputs are told line by line."""

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import BOOL, F32, tensor
from fml.engine.ops.build import Builder, Context
from fml.engine.plan.planner import lay_out, make_plan
from fml.engine.plan.task import Kind, Plan, Region, Space, Streams, Task, Wait, Work
from fml.engine.plan.text import format_plan

# w is overwritten when `fires`, and its old value is read behind that; 4 floats are 16 bytes.
EXPECTED = """\
plan "step": 4 tasks on 1 stream, arena of 192 bytes, 192 of them at once
in  %1 fires -> arena 128+1
0: %2 add(variables 0+16, variables 0+16) -> arena 0+16 when arena 128+1
1: %0 snapshot(variables 0+16) -> arena 64+16
2: %3 assign(variables 0+16, arena 0+16) -> variables 0+16 when arena 128+1
3: %4 negate(arena 64+16) -> arena 0+16
out old = arena 0+16
out new = variables 0+16
"""


def test_a_plan_as_text() -> None:
    type_ = tensor(F32, 4)
    b = Builder("step")
    w = b.add("variable", type_, (), {"name": "w", "role": "param"})
    fires = b.add("fires", tensor(BOOL), (), {"amount": 2, "unit": "steps"})
    with b.under(Context(guard=fires.id)):
        new = b.call("assign", w, w + w, name="w")
    graph = b.finish({"old": -w, "new": new})
    text = format_plan(make_plan(graph, lay_out([Variable("w", type_, Role.PARAM)])))
    assert text == EXPECTED


# Two learners on one device take what they are given, push it, and are averaged; the next step's
# rows are put in place when both have taken theirs.
LEARNERS = """\
plan "step": 4 tasks on 3 streams, arena of 256 bytes, 192 of them at once
learners: 2, at most 1 step apart
in  %0 feed -> arena 0+64 each 64
0: each learner %0 give() -> arena 0+64 each 64 after 3 of all 2 steps before
1: each learner %1 push(arena 0+64 each 64) -> variables 0+64, one learner at a time
2: central %2 snapshot(arena 0+128) -> arena 128+64 after 0 of all, 1 of all 1 step before
3: central %3 take(arena 128+64)
out loss = arena 128+64
"""


def test_a_plan_of_learners_as_text() -> None:
    own, z = Region(Space.ARENA, 0, 64, 64), Region(Space.VARIABLES, 0, 64)
    mean = Region(Space.ARENA, 128, 64)
    ops = ("feed", "push", "mean", "loss")
    nodes = [Node(number, op, tensor(F32, 16)) for number, op in enumerate(ops)]
    tasks = (
        Task(0, 0, (), (own,), None, (Wait(3, 2, all_learners=True),), kind=Kind.GIVE, mapped=True),
        Task(1, 0, (own,), (z,), work=Work((1,), (0,), (1,)), mapped=True, is_critical=True),
        Task(
            2, 0, (Region(Space.ARENA, 0, 128),), (mean,), kind=Kind.COPY,
            waits=(Wait(0, all_learners=True), Wait(1, 1, all_learners=True)),
        ),
        Task(3, 0, (mean,), (), kind=Kind.TAKE),
    )  # fmt: skip
    graph = Graph("step", nodes, {"loss": 3})
    streams = Streams(learners=2)
    plan = Plan(graph, tasks, {0: own}, {}, {"loss": mean}, 256, 192, streams, staleness=1)
    assert format_plan(plan) == LEARNERS
