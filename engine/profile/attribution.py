"""Which layer, operation and phase the costs of a task belong to, and how much it has to do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph, Node, Phase
from fml.engine.ir.training import duration_of
from fml.engine.ir.types import Element
from fml.engine.ops.table import OPS
from fml.engine.plan.task import Plan, Task
from fml.engine.profile.machine import Machine
from fml.engine.profile.profile import OUTSIDE, Part, shares


@dataclass(frozen=True, slots=True)
class Amount:
    """What a task has to do, whatever it takes; the attributes are those of `TaskCost`."""

    name: str
    nodes: tuple[str, ...]
    parts: tuple[Part, ...]
    element: Element
    flops: int
    nbytes: int

    def least(self, machine: Machine) -> float:
        """The seconds of its operations at a machine's peak, or of its bytes if these are more."""
        for_flops = self.flops / machine.peak(self.element)
        return max(for_flops, self.nbytes / machine.bandwidth(self.nbytes))


def amounts(plan: Plan, machine: Machine) -> tuple[Amount, ...]:
    """What each task of a plan has to do, in their order; nothing if it may be left out."""
    every = whole_amounts(plan, machine)
    return tuple(
        amount if task.guard is None else _idle(amount)
        for task, amount in zip(plan.tasks, every, strict=True)
    )


def whole_amounts(plan: Plan, machine: Machine) -> tuple[Amount, ...]:
    """What each task has to do in a step that leaves none out; if it is mapped, for one learner."""
    layers = layers_of(plan.graph)
    return tuple(_amount(plan.graph, task, layers, machine) for task in plan.tasks)


def _idle(amount: Amount) -> Amount:
    parts = tuple(replace(part, flops=0, nbytes=0.0) for part in amount.parts)
    return replace(amount, parts=parts, flops=0, nbytes=0)


def layers_of(graph: Graph) -> Mapping[int, str]:
    """The layer of each node.

    That is its scope; a node of an optimizer has the layer of the one parameter that is changed by
    it, if it is one.
    """
    known = {node.scope for node in graph if node.phase is not Phase.UPDATE and node.scope}
    found: dict[int, set[str]] = {}
    for node in reversed(list(graph)):
        if node.scope in known:
            found[node.id] = {node.scope}
        elif node.phase is Phase.UPDATE:
            users = (n for n in graph.users(node.id) if graph[n].phase is Phase.UPDATE)
            found[node.id] = set[str]().union(*(found[n] for n in users))
        else:
            found[node.id] = set()
    return {n: next(iter(of)) if len(of) == 1 else OUTSIDE for n, of in found.items()}


def given_name(node: Node) -> str:
    """What a node that a step is given is called: `iris.x`, `counter of step`, `every 2 steps`."""
    attributes = node.attributes
    match node.op:
        case "feed":
            return f"{attributes['data']}.{attributes['field']}"
        case "counter":
            return f"counter of {str(attributes['name']).replace('_', ' ')}"
        case "fires":
            return f"every {duration_of(attributes)}"
        case _:
            return "key of random draws"


def flops_of(graph: Graph, node: Node) -> int:
    """Floating-point operations of a node of definite sizes, by its operation's formula."""
    inputs = [graph[number].type for number in node.inputs]
    return OPS[node.op].flops(inputs, node.attributes, node.type)


def _amount(graph: Graph, task: Task, layers: Mapping[int, str], machine: Machine) -> Amount:
    nodes = _computed(graph, task)
    names = ["copy"] if task.work is None else [node.op for node in nodes]
    flops = [0 if task.work is None else flops_of(graph, node) for node in nodes]
    moved = [_moved(graph, node, task) for node in nodes]
    nbytes = sum(region.nbytes for region in dict.fromkeys((*task.touched, *task.changed)))
    bandwidth = machine.bandwidth(nbytes)
    weights = [
        n / machine.peak(_element(node)) + m / bandwidth
        for node, n, m in zip(nodes, flops, moved, strict=True)
    ]
    every = zip(nodes, names, shares(weights), flops, shares(moved), strict=True)
    parts = tuple(
        Part(layers[node.id], name, node.phase, share, own, nbytes * moving)
        for node, name, share, own, moving in every
    )
    main = max(range(len(nodes)), key=lambda n: (flops[n], weights[n]))
    node, more = nodes[main], f"+{len(nodes) - 1}" if len(nodes) > 1 else ""
    return Amount(
        f"{layers[node.id]}: {node.phase.value} {names[main]}{more}",
        tuple(_described(node, name) for node, name in zip(nodes, names, strict=True)),
        parts,
        _element(node),
        sum(flops),
        nbytes,
    )


def _computed(graph: Graph, task: Task) -> list[Node]:
    """The nodes of a task that something is computed for: constants are in its code."""
    if task.work is None:
        return [graph[task.value]]
    nodes = [graph[number] for number in task.work.nodes]
    return [node for node in nodes if node.op != "constant"] or nodes


def _moved(graph: Graph, node: Node, task: Task) -> int:
    """Bytes that a node of a task reads from memory and writes there."""
    if task.work is None:
        return 2 * node.type.nbytes
    inside, results = set(task.work.nodes), set(task.work.results)
    read = sum(graph[n].type.nbytes for n in dict.fromkeys(node.inputs) if n not in inside)
    return read + (node.type.nbytes if node.id in results else 0)


def _element(node: Node) -> Element:
    """What a node computes in; labels are no numbers, and are counted with."""
    return node.type.element if isinstance(node.type.element, Element) else Element.I32


def _described(node: Node, name: str) -> str:
    return f"{name} {node.type}" + (f" of {node.scope}" if node.scope else "")
