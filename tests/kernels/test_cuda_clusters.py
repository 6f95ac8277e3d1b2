"""Whole training steps as CUDA C: NVRTC compiles every kernel, and run on the CPU thread by thread
each computes what numpy computes node by node. Nothing here is run on a GPU.
"""

from pathlib import Path

import numpy as np
import nvrtc
import on_host
import pytest
from test_clusters import EXAMPLES, NETWORK, by_nodes, step_of

import fml
from fml.engine.ir.graph import Graph
from fml.engine.kernels.cuda.emit import emit, program
from fml.engine.kernels.cuda.geometry import VECTOR_BYTES
from fml.engine.kernels.loops import Kernel
from fml.engine.kernels.text import show
from fml.engine.plan.clusters import Cluster, clusters
from fml.engine.plan.kernels import plain_kernel_of

BATCHES = {"lenet_fashion": 3, "resnet_fashion": 2, "mlp_regularised": 5, "perceptron": 4}
STEPS = pytest.mark.parametrize("name", [*BATCHES, "adam"])


def graph_of(name: str) -> Graph:
    if name in BATCHES:
        return step_of(fml.load(EXAMPLES / f"{name}.fml"), BATCHES[name])
    # Normalisations of both kinds, dropout, a pool, clipping by the norm of all gradients.
    return step_of(fml.loads(NETWORK.replace("OPTIMIZER", f"clip_norm(1.0) |> {name}(0.01)")), 6)


def kernels_of(graph: Graph, found: tuple[Cluster, ...]) -> tuple[list[Kernel], list[int]]:
    """The different kernels, and which of them each cluster has."""
    kernels: dict[str, Kernel] = {}
    of: list[int] = []
    for cluster in found:
        kernel = plain_kernel_of(graph, cluster, f"kernel{len(kernels)}", VECTOR_BYTES)
        text = show(kernel).partition("(")[2]
        of.append(list(kernels).index(text) if text in kernels else len(kernels))
        kernels.setdefault(text, kernel)
    return list(kernels.values()), of


@nvrtc.NEEDED
@pytest.mark.parametrize("architecture", nvrtc.VIRTUAL)
@STEPS
def test_nvrtc_compiles_a_step(name: str, architecture: str) -> None:
    graph = graph_of(name)
    kernels, _ = kernels_of(graph, clusters(graph))
    printed = [emit(kernel) for kernel in kernels]
    code = nvrtc.compiled(program(printed), architecture)
    assert all(launch.function.encode() in code for p in printed for launch in p.launches)


@on_host.NEEDED
@STEPS
def test_a_step_computes_what_numpy_computes(name: str, tmp_path: Path) -> None:
    graph = graph_of(name)
    found, values = clusters(graph), by_nodes(graph)
    kernels, of = kernels_of(graph, found)
    calls = on_host.built(kernels, tmp_path)
    for cluster, place in zip(found, of, strict=True):
        results = [np.zeros_like(values[value]) for value in cluster.results]
        given = [np.ascontiguousarray(values[value]) for value in cluster.inputs]
        on_host.both_ways(kernels[place], calls[place], given, results)
        for value, have in zip(cluster.results, results, strict=True):
            want = values[value]
            size = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
            what = f"{graph[value].op} of {[graph[n].op for n in cluster.nodes]}"
            np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5 * size, err_msg=what)
