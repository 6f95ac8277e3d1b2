"""Plans as text, for people: a line a task, in the order of issue."""

from collections.abc import Iterable

from fml.engine.plan.task import Plan, Region, Task


def format_plan(plan: Plan) -> str:
    """Return a plan as text: what it takes, its inputs, tasks and outputs.

    A region is `space offset+bytes`. A task names its stream only where there are several.
    """
    count = plan.streams.count
    streams = f"{count} stream" + ("s" if count > 1 else "")
    lines = [
        f'plan "{plan.graph.name}": {len(plan.tasks)} tasks on {streams}, '
        f"arena of {plan.arena} bytes, {plan.peak} of them at once"
    ]
    lines += [f"in  %{n} {plan.graph[n].op} -> {_region(r)}" for n, r in plan.inputs.items()]
    lines += [_task(plan, number, task) for number, task in enumerate(plan.tasks)]
    lines += [f"out {name} = {_region(region)}" for name, region in plan.outputs.items()]
    return "\n".join(lines) + "\n"


def _task(plan: Plan, number: int, task: Task) -> str:
    if task.work is None:
        name = f"%{task.value} snapshot"
    else:
        nodes = [plan.graph[n] for n in task.work.nodes if plan.graph[n].op != "constant"]
        name = ", ".join(f"%{node.id} {node.op}" for node in nodes)
    stream = f" stream {task.stream}" if plan.streams.count > 1 else ""
    text = f"{number}:{stream} {name}({_regions(task.reads)}) -> {_regions(task.writes)}"
    if task.scratch:
        text += f" with {_regions(task.scratch)}"
    if task.waits:
        text += f" after {', '.join(str(wait.task) for wait in task.waits)}"
    if task.guard is not None:
        text += f" when {_region(task.guard)}"
    return text


def _regions(regions: Iterable[Region]) -> str:
    return ", ".join(map(_region, regions))


def _region(region: Region) -> str:
    return f"{region.space.value} {region.offset}+{region.nbytes}"
