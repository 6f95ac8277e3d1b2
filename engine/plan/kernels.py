"""Clusters -> kernels, and the recipes of these."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fml.engine.ir.graph import Graph
from fml.engine.kernels.ahead import fetching_ahead
from fml.engine.kernels.blocks import (
    Block,
    block_kernel,
    finished_scratch,
    result_sizes,
    whole_kernel,
)
from fml.engine.kernels.composing import compose
from fml.engine.kernels.epilogue import epilogue_of
from fml.engine.kernels.expr import Buffer, Expr, wide
from fml.engine.kernels.llvm.compiled import Recipe
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Statement, Store
from fml.engine.kernels.nest import row_major
from fml.engine.kernels.sharing import shared_out
from fml.engine.kernels.sums import fewer_passes
from fml.engine.ops.table import OPS
from fml.engine.plan.cluster import Alike, Cluster, fusion_of


def recipes_of(graph: Graph, found: Sequence[Cluster]) -> tuple[Recipe, ...]:
    """How to make the kernel of each cluster; clusters that are alike have equal keys."""
    alike = Alike(graph)
    return tuple(
        Recipe(alike.key(cluster), partial(_kernel_of, alike, cluster)) for cluster in found
    )


def kernel_of(graph: Graph, cluster: Cluster, name: str, host: Host) -> Kernel:
    """The kernel of a cluster: its inputs, its results, then scratch.

    Raises:
        NotFusable: its nodes cannot be one kernel.
    """
    return _kernel_of(Alike(graph), cluster, name, host)


def _kernel_of(alike: Alike, cluster: Cluster, name: str, host: Host) -> Kernel:
    if cluster.block is not None:
        return _block_kernel(alike, cluster.block, cluster, name, host)
    return shared_out(_entries_kernel(alike, cluster, name, host.vector_bytes))


def plain_kernel_of(graph: Graph, cluster: Cluster, name: str, vector_bytes: int) -> Kernel:
    """The kernel of a cluster, a contraction in it as a fold like any other.

    It takes the same inputs and results, and no scratch: for machines on which blocks of registers
    are not the CPU's (docs/kernels.md, "CUDA C").

    Raises:
        NotFusable: what is done to the sums of a contraction cannot be told where they are made.
    """
    alike = Alike(graph)
    if cluster.block is None:
        return _entries_kernel(alike, cluster, name, vector_bytes)
    # An operand that is read the other way round is turned in the fold.
    turned = (value for value in graph[cluster.nodes[0]].inputs if value not in cluster.inputs)
    nodes = (*dict.fromkeys(turned), *cluster.nodes)
    return _entries_kernel(alike, replace(cluster, nodes=nodes, block=None), name, vector_bytes)


def _entries_kernel(alike: Alike, cluster: Cluster, name: str, vector_bytes: int) -> Kernel:
    if alike.nest(cluster.nodes[-1]) is not None:
        return compose(fewer_passes(fusion_of(alike, cluster)), name, vector_bytes)
    node, graph = alike.graph[cluster.nodes[-1]], alike.graph
    op = OPS[node.op]
    assert op.nest is not None, f"`{node.op}` has no kernel"
    made = op.nest([graph[v].type for v in node.inputs], node.attributes, node.type)
    assert isinstance(made, Kernel)
    return replace(made, name=name)


def _block_kernel(alike: Alike, block: Block, cluster: Cluster, name: str, host: Host) -> Kernel:
    """A block with what is done to its sums; those that nobody else reads are not stored."""
    root, *others = cluster.nodes
    if not others:
        return fetching_ahead(whole_kernel(block, name, host))
    fusion, sizes = fusion_of(alike, cluster), result_sizes(block)
    epilogue = epilogue_of(fusion, 0, sizes)
    is_kept, element = root in cluster.results, fusion.inputs[0].element
    # Sums that are stored whole may lie where their parts meet, but for those of 16 bits.
    whole = Buffer("out" if wide(element) is element else "whole", element)

    def finish(total: Expr, at: Sequence[Expr]) -> list[Statement]:
        kept: list[Statement] = [Store(whole, row_major(at, sizes), total)] if is_kept else []
        return [*kept, *epilogue.at(total, at)]

    kernel = block_kernel(block, name, host, finish)
    given = fusion.buffers[1 : len(fusion.inputs)]
    made = iter(fusion.buffers[len(fusion.inputs) :])
    results = [whole if value == root else next(made) for value in cluster.results]
    scratch, used = finished_scratch(kernel, block)
    if is_kept and whole in scratch:
        scratch, used = scratch[1:], used[1:]
    first = 2 + len(given)
    shared = tuple((1 + i, first + is_kept + o) for i, o in fusion.shared)
    buffers = (*kernel.buffers[:2], *given, *results, *scratch)
    return fetching_ahead(replace(kernel, buffers=buffers, scratch=used, shared=shared))
