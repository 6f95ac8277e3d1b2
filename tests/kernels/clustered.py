"""Graphs as one kernel, for the tests."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from compiled import built

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes, Graph
from fml.engine.ir.types import F32, Element, TensorType
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.record import Array
from fml.engine.plan.cluster import Cluster
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of


def made(
    outputs: Callable[..., Mapping[str, Value]],
    host: Host,
    *arrays: Array,
    element: Element = F32,
) -> tuple[dict[str, Array], Kernel]:
    """The results of a graph whose nodes are one kernel, called with arrays."""
    builder = Builder("function")
    types = [TensorType(element, tuple(map(Dim.of, array.shape))) for array in arrays]
    given = [builder.add("feed", type, (), {"name": f"x{n}"}) for n, type in enumerate(types)]
    graph = builder.finish(outputs(*given))
    (cluster,) = clusters(graph)
    kernel = kernel_of(graph, cluster, "kernel", host)
    feeds = {value.id: array for value, array in zip(given, arrays, strict=True)}
    kept = {n: graph[n].type for n in cluster.results}
    none = np.nan if element.is_float else 77
    results = {n: np.full(type.sizes, none, type.dtype) for n, type in kept.items()}
    built(kernel, host)([*(feeds[n] for n in cluster.inputs), *results.values()])
    return {name: results[n] for name, n in graph.outputs.items()}, kernel


def alone(
    op: str, types: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> tuple[Graph, Cluster]:
    """An operation in a graph and a cluster of its own, its entries told one by one."""
    builder = Builder("operation")
    given = [builder.add("feed", type, (), {"name": f"x{n}"}) for n, type in enumerate(types)]
    value = builder.add(op, result, given, attributes)
    graph = builder.finish({"result": value})
    return graph, Cluster((value.id,), tuple(v.id for v in given), (value.id,))
