"""Programs run step by step beside the same equations in JAX, in float32 and in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fml.engine.ir.dims import Dim
from fml.engine.ir.types import Element, TensorType
from fml.engine.ops.table import OPS
from tests.dsl.programs import first_values, trained

Array = NDArray[Any]
Tree = dict[str, Any]
# The element of a program, and how far from float64 it may end: relative to the largest entry.
PRECISIONS = [("f32", 1e-4), ("f64", 1e-9)]


def drawn(path: str, step: int, shape: tuple[int, ...], element: str) -> jax.Array:
    """The uniform numbers that the program draws at this place in this step, seed 0."""
    kind = Element(element)
    attributes = {"path": path, "shape": tuple(map(Dim.of, shape)), "element": kind}
    key = np.asarray([0, 0, step], np.int64)
    compute = OPS["random_uniform"].compute
    assert compute is not None
    type = TensorType(kind, tuple(map(Dim.of, shape)))
    return jnp.asarray(compute([key], attributes, type), jnp.float64)


@dataclass(frozen=True, eq=False)
class Network:
    """A program with `f32` and `{steps}` in its text, and what it says, in JAX.

    `loss(w, batch, noise)` gives the loss and the new states of layers. `update(w, m, gradient)`
    makes the step, where `gradient(w)` may be asked anywhere and m is the momentum of each weight.
    `draws(step, element)` is the noise. The program logs what it minimised as `loss`.
    """

    text: str
    data: Mapping[str, Array]
    batch: int
    loss: Callable[[Tree, Mapping[str, Array], Any], tuple[jax.Array, Tree]]
    update: Callable[[Tree, Tree, Callable[[Tree], Tree]], tuple[Tree, Tree]]
    draws: Callable[[int, str], Any] = lambda step, element: ()

    def ours(self, element: str, steps: int) -> tuple[Tree, list[float]]:
        """Variables of the network, those of momentum too, and the loss of each step."""
        text = self.text.replace("f32", element).replace("{steps}", str(steps))
        outcome = trained(text, {"d": self.data})
        losses = [point.value for point in outcome.history if point.series == "loss"]
        return _of_net(outcome.variables), losses

    @cached_property
    def _compiled(self) -> tuple[Any, Any]:
        slope = jax.grad(
            lambda v, states, batch, noise: self.loss({**v, **states}, batch, noise)[0]
        )
        return jax.jit(self.loss), jax.jit(slope)

    def theirs(self, w: Tree, element: str, steps: int) -> tuple[Tree, list[float]]:
        """The same from the first weights on, in float64."""
        value, slope = self._compiled
        m = {name: jnp.zeros_like(one) for name, one in w.items()}
        losses: list[float] = []
        for step in range(steps):
            rows = slice(self.batch * step, self.batch * (step + 1))
            batch = {name: wide(values[rows]) for name, values in self.data.items()}
            noise = self.draws(step, element)
            loss, states = value(w, batch, noise)
            losses.append(float(loss))
            old = {name: w[name] for name in states}
            gradient = partial(slope, states=old, batch=batch, noise=noise)
            v, m = self.update({n: w[n] for n in w if n not in states}, m, gradient)
            w = {**v, **states}
        return {**w, **{f"{name}.m": m[name] for name in m if name not in states}}, losses

    def first(self, element: str) -> Tree:
        """The weights that the program begins with."""
        text = self.text.replace("f32", element).replace("{steps}", "1")
        variables = _of_net(first_values(text))
        begun = {name: jnp.asarray(value, jnp.float64) for name, value in variables.items()}
        return {name: value for name, value in begun.items() if not name.endswith(".m")}

    def check(self, element: str, rtol: float, steps: int = 20) -> None:
        """Losses of all steps agree, and how far weights, momentum and states have moved."""
        begun = self.first(element)
        found, losses = self.ours(element, steps)
        wanted, expected = self.theirs(begun, element, steps)
        assert found.keys() == wanted.keys()
        np.testing.assert_allclose(losses, expected, rtol=rtol)
        for name, value in wanted.items():
            start = begun.get(name, 0)
            moved, should = found[name] - start, value - start
            stored = steps * np.finfo(found[name].dtype).eps * float(jnp.abs(value).max())
            atol = rtol * float(jnp.abs(should).max()) + stored
            np.testing.assert_allclose(moved, should, rtol=0, atol=atol, err_msg=name)


def _of_net(variables: Mapping[str, Array]) -> Tree:
    """What belongs to the network, the momentum of a weight as `W.m`."""
    return {n.partition("net.")[2]: v for n, v in variables.items() if "net." in n}


def wide(values: Array) -> Array:
    """Floats as float64; class numbers as they are."""
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _without(tree: Tree, names: Tree) -> Tree:
    return {name: value for name, value in tree.items() if name not in names}


def momentum(rate: float, beta: float = 0.9) -> Callable[..., tuple[Tree, Tree]]:
    """m <- βm + ηg; w <- w - m."""

    def update(w: Tree, m: Tree, gradient: Callable[[Tree], Tree]) -> tuple[Tree, Tree]:
        g = gradient(w)
        m = {name: beta * m[name] + rate * g[name] for name in w}
        return {name: w[name] - m[name] for name in w}, m

    return update


# --- layers, from their equations ----------------------------------------------------------------


def conv(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
    """Images with channels last; as many places as ceil(H / stride)."""
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Windows of 2 by 2 beside each other."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def batch_norm(w: Tree, path: str, x: jax.Array, states: Tree) -> jax.Array:
    """Normalise by the batch, and put the new running averages into `states`."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    for name, value in (("running_mean", mean), ("running_var", var)):
        states[f"{path}.{name}"] = 0.9 * w[f"{path}.{name}"] + 0.1 * value
    return w[f"{path}.gamma"] * (x - mean) / jnp.sqrt(var + 1e-5) + w[f"{path}.beta"]


def layer_norm(w: Tree, path: str, x: jax.Array) -> jax.Array:
    """Normalise over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return (
        w[f"{path}.gamma"] * centred / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) + w[f"{path}.beta"]
    )


def entropy(logits: jax.Array, y: Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of (1 - α) y + α / K, the mean over the batch."""
    classes = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(y, classes, dtype=jnp.float64) + smoothing / classes
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), -1))
