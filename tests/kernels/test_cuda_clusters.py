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


def kernels_of(graph: Graph) -> list[tuple[Cluster, Kernel]]:
    """The different kernels of a step, each with the first cluster that has it."""
    kernels: dict[str, tuple[Cluster, Kernel]] = {}
    for cluster in clusters(graph):
        kernel = plain_kernel_of(graph, cluster, f"kernel{len(kernels)}", VECTOR_BYTES)
        kernels.setdefault(show(kernel).partition("(")[2], (cluster, kernel))
    return list(kernels.values())


@nvrtc.NEEDED
@STEPS
def test_nvrtc_compiles_a_step(name: str) -> None:
    printed = [emit(kernel) for _, kernel in kernels_of(graph_of(name))]
    for architecture in nvrtc.STEPS_FOR:
        code = nvrtc.taken(program(printed), architecture)
        assert all(launch.function.encode() in code for p in printed for launch in p.launches)


@on_host.NEEDED
@STEPS
def test_a_step_computes_what_numpy_computes(name: str, tmp_path: Path) -> None:
    graph = graph_of(name)
    values, found = by_nodes(graph), kernels_of(graph)
    calls = on_host.built([kernel for _, kernel in found], tmp_path, level="-O2")
    for (cluster, kernel), call in zip(found, calls, strict=True):
        results = [np.zeros_like(values[value]) for value in cluster.results]
        given = [np.ascontiguousarray(values[value]) for value in cluster.inputs]
        on_host.both_ways(kernel, call, given, results)
        for value, have in zip(cluster.results, results, strict=True):
            want = values[value]
            size = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
            what = f"{graph[value].op} of {[graph[n].op for n in cluster.nodes]}"
            np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5 * size, err_msg=what)
