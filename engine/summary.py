"""What a plan costs, layer by layer: parameters, operations and memory, known before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fml.engine.ir.graph import Graph, Node, Phase, substitute_attribute
from fml.engine.ir.training import (
    LEARNERS,
    SAMPLES_PER_STEP,
    STEPS_PER_EPOCH,
    Role,
    Training,
    Variable,
)
from fml.engine.ir.types import TensorType
from fml.engine.ops.table import OPS
from fml.engine.passes.pipeline import optimise, readable
from fml.engine.plan.planner import lay_out, make_plan
from fml.engine.plan.task import Streams


@dataclass(frozen=True, slots=True)
class Layer:
    """A scope of the forward graph, without the scopes inside it.

    `output` is the type of its last value, with its names; `parameters` are numbers, `flops`
    floating-point operations of one forward pass, `nbytes` the size of all values it makes.
    """

    scope: str
    output: TensorType | None
    parameters: int
    flops: int
    nbytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """What a plan costs, printed as a table: its layers in order, and what a whole step takes.

    `sizes` are the numbers of samples that the costs are for, by dimension name. `step_flops`
    counts one iteration, `operations` what it computes: forward, backward (with a second forward
    pass where an optimizer takes the gradient elsewhere) and update, without the blocks under a
    condition.
    `variables_nbytes` is what outlives a step (parameters, slots, states), `peak_nbytes` the most
    that lives at once within one, by the plan that will be run. Of a plan with learners they are
    what it takes with one learner.
    """

    plan: str
    layers: tuple[Layer, ...]
    sizes: Mapping[str, int]
    parameters: int
    trained: int
    forward_flops: int
    step_flops: int
    operations: int
    variables_nbytes: int
    peak_nbytes: int
    is_of_one_learner: bool

    def __repr__(self) -> str:
        """Write all of it."""
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Write the layers as a table and the totals below it.

        The table has as many columns as stand side by side in `width`, and never breaks a name.
        """
        columns = _columns(self.layers)
        table = _side_by_side(columns)
        while width is not None and len(columns) > 1 and max(map(len, table)) > width:
            columns.popitem()
            table = _side_by_side(columns)
        return "\n".join([*table, "", *_totals(self, has_flops="flops" in columns)])


def summarise(training: Training, split_sizes: Mapping[tuple[str, str], int] = {}) -> Summary:
    """Return what a plan costs.

    `split_sizes` are the samples of each (data set, split), for feeds whose batch is the whole
    split; where they are not known the costs are those of one sample.
    """
    sizes = {
        feed.dim: feed.batch or split_sizes.get((feed.data, feed.split), 1)
        for feed in training.feeds
    }
    step = readable(training.step)
    layout = lay_out(training.variables.values())
    graph = optimise(training.step, {**_ONCE, **sizes})
    plan = make_plan(graph, layout, streams=Streams(learners=1))
    layers = _layers(training, step, sizes)
    parameters = _parameters(training)
    computed = [node for node in step if node.guard is None and _is_computed(node)]
    return Summary(
        training.name,
        layers,
        sizes,
        sum(_count(v) for v in parameters),
        sum(_count(v) for v in parameters if v.trained),
        sum(layer.flops for layer in layers),
        sum(_flops(step, node, sizes) for node in computed),
        len(computed),
        layout.nbytes,
        plan.peak,
        training.learners is not None,
    )


def _layers(training: Training, step: Graph, sizes: Mapping[str, int]) -> tuple[Layer, ...]:
    counts: dict[str, int] = {}
    for variable in _parameters(training):
        scope = variable.name.rpartition(".")[0]
        counts[scope] = counts.get(scope, 0) + _count(variable)
    made: dict[str, list[Node]] = {}
    for node in step:
        if node.phase is Phase.FORWARD:
            made.setdefault(node.scope, []).extend([node] * _is_computed(node))
    made |= {scope: [] for scope in counts if scope not in made}
    if "" in made:
        made[""] = made.pop("")  # the plan's own operations, the loss, come after its layers
    return tuple(
        Layer(
            scope,
            _last(step, nodes),
            counts.get(scope, 0),
            sum(_flops(step, node, sizes) for node in nodes),
            sum(_sized(node.type, sizes).nbytes for node in nodes),
        )
        for scope, nodes in made.items()
        if nodes or scope in counts
    )


def _is_computed(node: Node) -> bool:
    """Whether a step has anything to do for it."""
    return not OPS[node.op].runtime and node.op != "constant"


def _last(step: Graph, nodes: list[Node]) -> TensorType | None:
    """Return the type of the last value that leaves a scope."""
    results = set(step.outputs.values())
    for node in reversed(nodes):
        users = (step[number] for number in step.users(node.id))
        if node.id in results or any(
            u.scope != node.scope and u.phase is Phase.FORWARD for u in users
        ):
            return node.type
    return nodes[-1].type if nodes else None


def _parameters(training: Training) -> list[Variable]:
    """All parameters, those that learners have copies of counted once, where they are applied."""
    parameters = [v for v in training.variables.values() if v.role is Role.PARAM]
    copied = {v.replica_of for v in parameters}
    return [v for v in parameters if v.name not in copied]


def _count(variable: Variable) -> int:
    """Count a variable's entries."""
    count = 1
    for size in variable.type.sizes:
        count *= size
    return count


def _flops(graph: Graph, node: Node, sizes: Mapping[str, int]) -> int:
    op = OPS[node.op]
    inputs = [_sized(graph[number].type, sizes) for number in node.inputs]
    attributes = {k: substitute_attribute(v, sizes) for k, v in node.attributes.items()}
    return op.flops(inputs, attributes, _sized(node.type, sizes))


def _sized(symbolic: TensorType, sizes: Mapping[str, int]) -> TensorType:
    return symbolic.substitute({**_ONCE, **sizes})


# A learner's costs are those of one learner; what durations are counted by costs nothing.
_ONCE = {str(LEARNERS): 1, str(STEPS_PER_EPOCH): 1, str(SAMPLES_PER_STEP): 1}


# --- as text -------------------------------------------------------------------------------------


def _columns(layers: Sequence[Layer]) -> dict[str, list[str]]:
    """The cells by heading, the most important columns first."""
    return {
        "layer": [layer.scope or "(outside layers)" for layer in layers],
        "output": [str(layer.output or "") if layer.scope else "" for layer in layers],
        "parameters": [f"{layer.parameters:,}" if layer.parameters else "" for layer in layers],
        "flops": [quantity(layer.flops, 1000, "") for layer in layers],
        "activations": [quantity(layer.nbytes, 1024, "B") for layer in layers],
    }


def _side_by_side(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of a table, words to the left and numbers to the right."""
    aligned: list[list[str]] = []
    for heading, cells in columns.items():
        width = max(map(len, (heading, *cells)))
        is_words = heading in {"layer", "output"}
        aligned.append([c.ljust(width) if is_words else c.rjust(width) for c in (heading, *cells)])
    head, *rows = ("   ".join(cells).rstrip() for cells in zip(*aligned, strict=True))
    return [head, "─" * max(map(len, (head, *rows))), *rows]


def _totals(summary: Summary, *, has_flops: bool) -> list[str]:
    """What a plan takes in all; `has_flops` says whether the table above adds them up."""
    sizes = ", ".join(f"{name} = {size:,}" for name, size in summary.sizes.items())
    at = f" at {sizes}" if sizes else ""
    table = " (the table)" if has_flops else ""
    frozen = summary.parameters - summary.trained
    parameters = f"{summary.parameters:,} parameter{'' if summary.parameters == 1 else 's'}"
    step = quantity(summary.step_flops, 1000, "flop")
    variables, peak = (
        quantity(n, 1024, "B") for n in (summary.variables_nbytes, summary.peak_nbytes)
    )
    learner = ["all of this with one learner: `fml plan` counts them all"]
    return [
        parameters + (f", {frozen:,} of them frozen" if frozen else ""),
        f"one forward pass{table}: {quantity(summary.forward_flops, 1000, 'flop')}{at}",
        f"one step: {step} in {summary.operations:,} operations",
        f"memory of a run: {variables} of parameters, optimizer slots and states,",
        f"  and at most {peak} of values at once within a step",
        *(learner if summary.is_of_one_learner else ()),
    ]


def quantity(number: int, base: int, unit: str) -> str:
    """Write a number with three digits and a prefix: `12.3 M`, `1.50 KiB`."""
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    value, power = float(number), 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    digits = f"{value:.3g}" if value < 1000 and power else f"{value:,.0f}"
    return f"{digits} {prefixes[power]}{unit}".strip()
