"""JAX: a jitted step, a scan over 100 of them, and either on two devices of the host."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from contest.models import CHECKED_STEPS, DECAY, MOMENTUM, RATE, Model, Start, batches
from contest.turns import Report, Spec, resident, serve

SCAN = "scan"
SCANNED_STEPS = 100
_IMAGES = ("NHWC", "HWIO", "NHWC")
_DEVICES = "devices"

Weights = Mapping[str, jax.Array]


class Net:
    """Layers by name, with the weights that are trained and the averages of normalisation."""

    def __init__(self, weights: Weights, averages: Weights) -> None:
        self.weights, self.averages = weights, dict(averages)

    def dense(self, path: str, x: jax.Array) -> jax.Array:
        return x @ self.weights[f"{path}.W"] + self.weights[f"{path}.b"]

    def conv(self, path: str, x: jax.Array, pad: int, stride: int = 1) -> jax.Array:
        w = self.weights[f"{path}.W"]
        pads = ((pad, pad), (pad, pad))
        y = lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_IMAGES)
        return y + self.weights[f"{path}.b"] if f"{path}.b" in self.weights else y

    def batch_norm(self, path: str, x: jax.Array) -> jax.Array:
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        for name, value in (("mean", mean), ("variance", variance)):
            key = f"{path}.{name}"
            self.averages[key] = 0.9 * self.averages[key] + 0.1 * lax.stop_gradient(value)
        scale = self.weights[f"{path}.gamma"] * lax.rsqrt(variance + 1e-5)
        return (x - mean) * scale + self.weights[f"{path}.beta"]

    def unit(self, path: str, x: jax.Array, stride: int = 1) -> jax.Array:
        return self.batch_norm(f"{path}batch_norm", self.conv(f"{path}conv", x, 1, stride))

    def block(self, path: str, x: jax.Array, stride: int) -> jax.Array:
        short = x
        if stride > 1:
            short = self.batch_norm(f"{path}.batch_norm", self.conv(f"{path}.conv", x, 0, stride))
        y = jax.nn.relu(self.unit(f"{path}.unit_0.", x, stride))
        return jax.nn.relu(self.unit(f"{path}.unit_1.", y) + short)


def softmax(net: Net, x: jax.Array) -> jax.Array:
    return net.dense("dense", x)


def mlp(net: Net, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(net.dense("dense_0", x))
    return net.dense("dense_2", jax.nn.relu(net.dense("dense_1", x)))


def lenet(net: Net, x: jax.Array) -> jax.Array:
    for path in ("conv_0", "conv_1"):
        x = jax.nn.relu(net.conv(path, x, 2))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(net.dense("dense_0", x.reshape(len(x), -1)))
    return net.dense("dense_1", x)


def resnet(depth: int, net: Net, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(net.unit("unit.", x))
    for number in range(3 * depth):
        stride = 2 if number in {depth, 2 * depth} else 1
        x = net.block(f"block_{number}", x, stride)
    return net.dense("dense", jnp.mean(x, (1, 2)))


FORWARD: Mapping[str, Callable[[Net, jax.Array], jax.Array]] = {
    "softmax": softmax,
    "mlp": mlp,
    "lenet": lenet,
    "resnet8": partial(resnet, 1),
    "resnet32": partial(resnet, 5),
}


def run(spec: Spec, model: Model, folder: Path, report: Report) -> None:
    """Train until the parent closes the pipe."""
    contestant = _Run(spec, folder)
    checked = [float(contestant.step(next(contestant.batches))) for _ in range(CHECKED_STEPS)]
    serve(report, checked, contestant.before, contestant.take)


class _Run:
    """A training run."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        start = Start.read(folder)
        self.data = jnp.asarray(start.x), jnp.asarray(start.y)
        self.before = resident()
        weights = {path: jnp.asarray(value) for path, value in start.weights.items()}
        slots = {path: jnp.zeros_like(value) for path, value in weights.items()}
        self.carry = weights, slots, _averages(start.weights)
        self.batches = batches(spec.batch)
        self.scans = spec.variant == SCAN
        axis = _DEVICES if spec.learners > 1 else None
        step = partial(_step, FORWARD[spec.model], axis)

        def scan(carry: object, data: object, rows: jax.Array) -> tuple[object, jax.Array]:
            return lax.scan(lambda carry, some: step(carry, data, some), carry, rows)

        self._one = _compiled(step, spec.learners, PartitionSpec(_DEVICES))
        self._many = _compiled(scan, spec.learners, PartitionSpec(None, _DEVICES))
        if axis:
            every = PartitionSpec()
            where = jax.sharding.NamedSharding(_mesh(spec.learners), every)
            self.carry, self.data = jax.device_put((self.carry, self.data), where)

    def step(self, rows: np.ndarray) -> jax.Array:
        self.carry, loss = self._one(self.carry, self.data, rows.astype(np.int32))
        return loss

    def take(self, steps: int) -> int:
        if self.scans:
            steps = -(-steps // SCANNED_STEPS) * SCANNED_STEPS
            for _ in range(steps // SCANNED_STEPS):
                rows = np.stack(list(islice(self.batches, SCANNED_STEPS))).astype(np.int32)
                self.carry, _ = self._many(self.carry, self.data, rows)
        else:
            for rows in islice(self.batches, steps):
                self.step(rows)
        jax.block_until_ready(self.carry)
        return steps


def _averages(weights: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    scales = [path.removesuffix(".gamma") for path in weights if path.endswith(".gamma")]
    means = {f"{path}.mean": jnp.zeros(len(weights[f"{path}.gamma"])) for path in scales}
    ones = {f"{path}.variance": jnp.ones(len(weights[f"{path}.gamma"])) for path in scales}
    return means | ones


def _mesh(devices: int) -> jax.sharding.Mesh:
    return jax.make_mesh((devices,), (_DEVICES,), axis_types=(jax.sharding.AxisType.Auto,))


def _compiled(function: Callable, devices: int, rows: PartitionSpec) -> Callable:
    if devices > 1:
        every = PartitionSpec()
        function = jax.shard_map(
            function, mesh=_mesh(devices), in_specs=(every, every, rows), out_specs=(every, every),
            check_vma=False,
        )  # fmt: skip
    return jax.jit(function, donate_argnums=0)


def _step(
    forward: Callable[[Net, jax.Array], jax.Array],
    axis: str | None,
    carry: tuple[Weights, Weights, Weights],
    data: tuple[jax.Array, jax.Array],
    rows: jax.Array,
) -> tuple[object, jax.Array]:
    weights, slots, averages = carry
    x, y = (array.at[rows].get(mode="promise_in_bounds") for array in data)

    def loss_of(weights: Weights) -> tuple[jax.Array, Weights]:
        net = Net(weights, averages)
        scores = jax.nn.log_softmax(forward(net, x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1)), net.averages

    (loss, averages), slopes = jax.value_and_grad(loss_of, has_aux=True)(weights)
    if axis:
        loss, averages, slopes = lax.pmean((loss, averages, slopes), axis)
    slots = jax.tree.map(lambda m, g, w: MOMENTUM * m + g + DECAY * w, slots, slopes, weights)
    weights = jax.tree.map(lambda w, m: w - RATE * m, weights, slots)
    return (weights, slots, averages), loss
