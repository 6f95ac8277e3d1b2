"""Plans as text, for people: a line a task, in the order of issue."""

from collections.abc import Iterable

from fml.engine.plan.task import Kind, Plan, Region, Task, Wait


def format_plan(plan: Plan) -> str:
    """Return a plan as text: what it takes, its inputs, tasks and outputs.

    A region is `space offset+bytes`; `each 64` behind it says that every learner has its own, so
    far apart. A task names its stream only where there are several.
    """
    count = plan.streams.count
    streams = f"{count} stream" + ("s" if count > 1 else "")
    lines = [
        f'plan "{plan.graph.name}": {len(plan.tasks)} tasks on {streams}, '
        f"arena of {plan.arena} bytes, {plan.peak} of them at once"
    ]
    if plan.streams.learners:
        lines.append(f"learners: {plan.streams.learners}, {staleness_of(plan)}")
    lines += [f"in  %{n} {plan.graph[n].op} -> {_region(r)}" for n, r in plan.inputs.items()]
    lines += [_task(plan, number, task) for number, task in enumerate(plan.tasks)]
    lines += [f"out {name} = {_region(region)}" for name, region in plan.outputs.items()]
    return "\n".join(lines) + "\n"


def staleness_of(plan: Plan) -> str:
    """Say how far learners may be ahead of one another."""
    if plan.staleness is None:
        return "any number of steps apart"
    steps = f"{plan.staleness} step{'s' if plan.staleness > 1 else ''}"
    return f"at most {steps} apart" if plan.staleness else "in the same step"


def stream_of(plan: Plan, task: Task) -> str:
    """Name the stream of a task where there are several: `each learner`, `device 1`, `stream 2`."""
    streams = plan.streams
    if streams.count == 1:
        return ""
    names: list[str] = []
    if task.mapped:
        names.append("each learner")
    elif streams.devices > 1:
        names.append(f"device {task.device}")
    elif streams.learners:
        names.append("central")
    if (streams.per_learner if task.mapped else streams.per_device) > 1:
        names.append(f"stream {task.stream}")
    return " ".join(names)


def wait_of(wait: Wait) -> str:
    """Say what is waited for: `12`, `12 of all`, `12 of all 1 step before`."""
    text = f"{wait.task}" + (" of all" if wait.all_learners else "")
    if not wait.before:
        return text
    return f"{text} {wait.before} step{'s' if wait.before > 1 else ''} before"


def _task(plan: Plan, number: int, task: Task) -> str:
    if task.work is None:
        name = f"%{task.value} {'snapshot' if task.kind is Kind.COPY else task.kind.value}"
    else:
        nodes = [plan.graph[n] for n in task.work.nodes if plan.graph[n].op != "constant"]
        name = ", ".join(f"%{node.id} {node.op}" for node in nodes)
    stream = stream_of(plan, task)
    text = f"{number}:{stream and ' '}{stream} {name}"
    text += f"({_regions(task.reads)})"
    if task.writes:
        text += f" -> {_regions(task.writes)}"
    if task.scratch:
        text += f" with {_regions(task.scratch)}"
    if task.waits:
        text += f" after {', '.join(map(wait_of, task.waits))}"
    if task.guard is not None:
        text += f" when {_region(task.guard)}"
    if task.in_turn:
        text += ", one learner after another"
    if task.is_critical:
        text += ", one learner at a time" + (" from here on" if task.is_apart else "")
    return text


def _regions(regions: Iterable[Region]) -> str:
    return ", ".join(map(_region, regions))


def _region(region: Region) -> str:
    each = f" each {region.stride}" if region.stride else ""
    return f"{region.space.value} {region.offset}+{region.nbytes}{each}"
