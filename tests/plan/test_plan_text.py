"""A plan can be read: regions, snapshots, guards and outputs are told line by line."""

from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import BOOL, F32, tensor
from fml.engine.ops.build import Builder, Context
from fml.engine.plan.planner import lay_out, make_plan
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
