"""The verifier: whether a graph is one. Run after every pass in the tests."""

from collections.abc import Iterator

from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import BOOL, Label, TensorType
from fml.engine.ops.later import np
from fml.engine.ops.record import Array, OpTypeError
from fml.engine.ops.table import OPS


class InvalidGraph(Exception):
    """A graph that some stage of ours made wrongly; lists every fault."""

    def __init__(self, name: str, faults: tuple[str, ...]) -> None:
        """`faults` are one line each."""
        self.faults = faults
        super().__init__("\n  ".join([f"the graph `{name}` is invalid:", *faults]))


def verify(graph: Graph) -> None:
    """Check what every pass relies on.

    Raises:
        InvalidGraph: a node needs one that is missing or does not come before it; an operation
            is unknown, or its type is not what follows from its inputs; a guard is no boolean
            scalar; a shared value is computed from learners' own; a variable is read by two
            nodes; a constant does not fit its type.
    """
    faults = [*_order_faults(graph)]
    if not faults:
        # The other checks look inputs up.
        for node in graph:
            faults += [f"%{node.id} = {node.op}: {fault}" for fault in _node_faults(graph, node)]
        faults += _variable_faults(graph)
    if faults:
        raise InvalidGraph(graph.name, tuple(faults))


def _order_faults(graph: Graph) -> Iterator[str]:
    seen: set[int] = set()
    for node in graph:
        for source in node.needs:
            if source not in graph:
                yield f"%{node.id} = {node.op}: needs %{source}, which does not exist"
            elif source not in seen:
                yield f"%{node.id} = {node.op}: needs %{source}, which does not come before it"
        seen.add(node.id)
    for name, number in graph.outputs.items():
        if number not in graph:
            yield f"output `{name}` is %{number}, which does not exist"


def _node_faults(graph: Graph, node: Node) -> Iterator[str]:
    if node.op not in OPS:
        yield "unknown operation"
        return
    yield from _type_faults(graph, node)
    if node.guard is not None and graph[node.guard].type != TensorType(BOOL):
        yield f"its guard %{node.guard} is {graph[node.guard].type}, not a boolean scalar"
    yield from _axis_faults(graph, node)
    if node.op == "constant":
        yield from _constant_faults(node)


def _type_faults(graph: Graph, node: Node) -> Iterator[str]:
    record = OPS[node.op]
    if record.has_given_type:
        if node.inputs:
            yield "takes no inputs"
        return
    try:
        inferred = record.infer([graph[i].type for i in node.inputs], node.attributes)
    except OpTypeError as error:
        yield error.message
    except (TypeError, ValueError, KeyError) as error:
        yield f"cannot be typed: {error!r}"
    else:
        if inferred != node.type:
            yield f"has the type {node.type}, and {inferred} follows from its inputs"


def _axis_faults(graph: Graph, node: Node) -> Iterator[str]:
    own = [i for i in node.inputs if graph[i].mapped]
    if OPS[node.op].reduces_learners:
        if node.mapped:
            yield "reduces the axis `learners` and still has it"
        if len(own) < len(node.inputs):
            yield "reduces the axis `learners` of a value without it"
    elif own and not node.mapped:
        yield f"has no axis `learners`, but its input %{own[0]} has"
    if node.guard is not None and graph[node.guard].mapped and not node.mapped:
        yield f"has no axis `learners`, but its guard %{node.guard} has"


def _constant_faults(node: Node) -> Iterator[str]:
    value = np.asarray(node.attributes.get("value"))
    if value.dtype.kind not in "bif":
        yield f"its value is no number: {node.attributes.get('value')!r}"
    elif value.shape and value.shape != tuple(dim.size for dim in node.type.shape):
        yield f"its value has the shape {value.shape}, which {node.type} has not"
    elif not _holds(node.type, value):
        yield f"its value is not in {node.type.element}"


def _holds(type: TensorType, value: Array) -> bool:
    """Whether the numbers are exactly entries of the type; of a float, all are."""
    size = type.element.classes.size if isinstance(type.element, Label) else None
    if size is not None and not np.all((value >= 0) & (value < size)):
        return False
    with np.errstate(invalid="ignore"):
        return type.is_float or np.array_equal(value.astype(type.dtype), value)


def _variable_faults(graph: Graph) -> Iterator[str]:
    readers: dict[object, int] = {}
    for node in graph.of_op("variable"):
        name = node.attributes.get("name")
        if name in readers:
            yield f"%{node.id} and %{readers[name]} both read the variable `{name}`"
        readers.setdefault(name, node.id)
