"""What a run will do, known before it begins: tasks, streams, waits, memory and the longest chain.

Times are estimates: operations and bytes at the rates of a typical core.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fml.engine.ir.graph import Graph
from fml.engine.plan.critical_path import CriticalPath, critical_path
from fml.engine.plan.task import Kind, Plan, Region, Space, Task
from fml.engine.plan.text import format_plan
from fml.engine.profile.attribution import Amount, given_name, whole_amounts
from fml.engine.profile.machine import TYPICAL, Machine
from fml.engine.profile.profile import OUTSIDE
from fml.engine.runtime.dry_run import DryRun


@dataclass(frozen=True, slots=True)
class Expected:
    """One task of a step, or of each learner's step if it is mapped.

    `seconds` is an estimate; `nbytes` are all that it reads, writes and needs meanwhile, `flops`
    its floating-point operations, both of a step that leaves nothing out.
    """

    name: str
    layer: str
    phase: str
    task: Task
    seconds: float
    flops: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a kind: those that there are once, and each learner's own."""

    central: int
    per_learner: int


@dataclass(frozen=True, slots=True, repr=False)
class Outlook:
    """How a plan will be run, printed as tables; `text()` is a line a task.

    Attributes:
        dry: the plan of a step, and the memory of the whole run.
        tasks: those of a step, in the order of issue.
        path: the longest chain of tasks, by their estimated seconds.
    """

    dry: DryRun
    tasks: tuple[Expected, ...]
    path: CriticalPath

    @property
    def plan(self) -> Plan:
        """How a step is carried out."""
        return self.dry.step

    @property
    def learners(self) -> int:
        """How many learners the step is planned for; 0 if the plan has none."""
        return self.plan.streams.learners

    @property
    def seconds(self) -> float:
        """What all tasks of a step take one after another, those of all learners: an estimate."""
        return sum(t.seconds * (self.learners if t.task.mapped else 1) for t in self.tasks)

    def room(self, space: Space) -> Room:
        """The bytes that a step's tasks touch in a space."""
        plan = self.plan
        regions = [r for t in plan.tasks for r in (*t.touched, *t.changed) if r.space is space]
        regions += [r for r in (*plan.inputs.values(), *plan.outputs.values()) if r.space is space]
        central = _covered(region for region in regions if not region.stride)
        return Room(central, _covered(region for region in regions if region.stride))

    def text(self) -> str:
        """Return the plan of a step as lines, with every region of memory, for tools."""
        return format_plan(self.plan)

    def __repr__(self) -> str:
        """Write the tables as they are at 100 columns."""
        from fml.engine.profile.outlook_report import text

        return text(self, 100)


def outlook(dry: DryRun) -> Outlook:
    """Estimate what each task takes, and find the longest chain of them."""
    tasks = expected_tasks(dry.step, TYPICAL)
    return Outlook(dry, tasks, critical_path(dry.step, [t.seconds for t in tasks]))


def expected_tasks(plan: Plan, machine: Machine) -> tuple[Expected, ...]:
    """Estimate what each task of a plan takes on a core of a machine."""
    takers = {number: name for name, number in plan.graph.outputs.items()}
    return tuple(
        _expected(plan.graph, task, amount, takers, amount.least(machine))
        for task, amount in zip(plan.tasks, whole_amounts(plan, machine), strict=True)
    )


def _expected(
    graph: Graph, task: Task, amount: Amount, takers: Mapping[int, str], seconds: float
) -> Expected:
    node = graph[task.value]
    layer, phase = amount.parts[-1].layer, amount.parts[-1].phase.value
    match task.kind:
        case Kind.COPY:
            name = f"put aside {node.attributes.get('name', node.op)}"
        case Kind.GIVE:
            layer, name = OUTSIDE, f"give {given_name(node)}"
        case Kind.TAKE:
            name = f"keep {takers.get(node.id, node.op)}"
        case Kind.WORK:
            main = max(amount.parts, key=lambda part: (part.flops, part.share))
            layer, phase = main.layer, main.phase.value
            name = amount.name.removeprefix(f"{layer}: ")
    return Expected(name, layer, phase, task, seconds, amount.flops, amount.nbytes)


def _covered(regions: Iterable[Region]) -> int:
    """How many bytes lie in any of the regions; of those of learners, in the first one's."""
    total, end = 0, 0
    for region in sorted(set(regions), key=lambda region: region.offset):
        first, behind = max(region.offset, end), region.offset + region.nbytes
        total += max(behind - first, 0)
        end = max(end, behind)
    return total
