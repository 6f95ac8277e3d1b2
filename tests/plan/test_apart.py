"""A graph is computed even where what was put together makes no kernel: node by node."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import fml
from fml.engine.kernels.blocks import Block
from fml.engine.kernels.fusion import NotFusable
from fml.engine.kernels.llvm.host import Host
from fml.engine.plan import kernels
from fml.engine.plan.cluster import Alike, Cluster

TEXT = """
data d = given { x: f32[12]; y: label[3] }
model net(x: f32[N, 12]) -> f32[N, 3] = x |> dense(5) |> layer_norm |> tanh |> dense(3)
train {
  n = net()
  feed x, y from d.train |> shuffle |> batch(8)
  minimize loss = cross_entropy(n(x), y, smoothing = 0.1)
  using adam(0.01)
  measure accuracy(n(x), y) on d.train
  stop after 12 steps
}
"""


def test_clusters_without_a_kernel_are_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FML_CACHE", str(tmp_path))  # nothing is compiled yet
    rng = np.random.default_rng(0)
    data = {"d": {"x": rng.standard_normal((40, 12)), "y": rng.integers(0, 3, 40)}}
    program = fml.loads(TEXT)
    wanted = program.train(data=data, device="numpy")
    entries, blocks = kernels._entries_kernel, kernels._block_kernel
    refused: list[Cluster] = []

    def refuse(nodes: Sequence[int], cluster: Cluster) -> None:
        if len(nodes) > 1:
            refused.append(cluster)
            raise NotFusable("not for this test")

    def of_entries(alike: Alike, cluster: Cluster, name: str, width: int) -> kernels.Kernel:
        refuse([n for n in cluster.nodes if alike.graph[n].op != "constant"], cluster)
        return entries(alike, cluster, name, width)

    def of_block(
        alike: Alike, block: Block, cluster: Cluster, name: str, host: Host
    ) -> kernels.Kernel:
        refuse(cluster.nodes, cluster)
        return blocks(alike, block, cluster, name, host)

    monkeypatch.setattr(kernels, "_entries_kernel", of_entries)
    monkeypatch.setattr(kernels, "_block_kernel", of_block)
    # Sizes that no other test has compiled, so that every kernel is made here.
    found = program.train(data=data)
    assert refused
    for name, value in wanted.model.parameters.items():
        np.testing.assert_allclose(found.model.parameters[name], value, rtol=1e-4, atol=1e-5)
    assert found.figures == pytest.approx(wanted.figures, rel=1e-3)
