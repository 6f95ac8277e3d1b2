"""Convolutions and pooling against JAX, with their gradients, and what is of note about them."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluate import evaluate

from fml.engine.autodiff import expand_gradients
from fml.engine.ir.graph import Attribute
from fml.engine.ir.types import Element, tensor
from fml.engine.ops import columns
from fml.engine.ops.build import Builder
from fml.engine.ops.record import Array

NO_PADDING = ((0, 0), (0, 0))
PLAIN = {"stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1), "groups": 1}
Sizes = tuple[int, ...]
How = Mapping[str, Attribute]


def with_gradients(
    op: str, inputs: Sequence[Array], how: How, weights: Array
) -> tuple[Array, list[Array]]:
    """Return the result, and the gradients of its sum with these weights."""
    builder = Builder(op)
    types = [tensor(Element.F32, *x.shape) for x in inputs]
    xs = [builder.add("argument", t, (), {"name": f"x{i}"}) for i, t in enumerate(types)]
    y = builder.call(op, *xs, **how)
    by = builder.add("argument", y.type, (), {"name": "by"})
    total = (y * by).call("sum", axes=tuple(range(y.type.rank)), keep=False)
    outputs = {f"d{i}": total.call("gradient", x) for i, x in enumerate(xs)}
    graph = expand_gradients(builder.finish({"y": y, **outputs}))
    given = {f"x{i}": x for i, x in enumerate(inputs)}
    values = evaluate(graph, {**given, "by": weights})
    return values["y"], [values[f"d{i}"] for i in range(len(inputs))]


def agrees(op: str, inputs: Sequence[Array], how: How, peer: Callable[..., jax.Array]) -> None:
    wanted, transposed = jax.vjp(peer, *inputs)
    weights = np.random.default_rng(8).normal(size=wanted.shape).astype(np.float32)
    got, gradients = with_gradients(op, inputs, how, weights)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(gradients, transposed(jnp.asarray(weights)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def normal(*sizes: Sizes) -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=size).astype(np.float32) for size in sizes]


CONVOLUTIONS: list[tuple[Sizes, Sizes, How]] = [
    ((2, 8, 7, 3), (3, 3, 3, 5), PLAIN),
    ((3, 5, 5, 6), (1, 1, 6, 4), PLAIN),
    ((2, 8, 7, 4), (3, 2, 4, 6), {**PLAIN, "stride": (2, 3)}),
    ((2, 8, 8, 4), (1, 1, 4, 6), {**PLAIN, "stride": (2, 2)}),
    ((1, 9, 9, 4), (3, 3, 4, 2), {**PLAIN, "padding": ((1, 2), (0, 3))}),
    ((1, 9, 9, 2), (3, 2, 2, 2), {**PLAIN, "dilation": (2, 3)}),
    ((2, 6, 6, 4), (3, 3, 2, 6), {**PLAIN, "groups": 2, "stride": (2, 2)}),
    ((2, 6, 6, 4), (3, 3, 1, 4), {**PLAIN, "groups": 4, "padding": ((1, 1), (1, 1))}),
    ((2, 7, 6, 4), (3, 2, 1, 12), {**PLAIN, "groups": 4, "stride": (2, 1), "dilation": (1, 2)}),
    ((2, 6, 6, 2), (3, 3, 1, 40), {**PLAIN, "groups": 2}),
    ((2, 6, 6, 1), (3, 3, 1, 40), PLAIN),
]


def jax_convolution(how: How) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda x, w: jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=how["stride"],
        padding=how["padding"],
        rhs_dilation=how["dilation"],
        feature_group_count=how["groups"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


@pytest.mark.parametrize(("x", "w", "how"), CONVOLUTIONS)
def test_convolution_and_its_gradients_agree_with_jax(x: Sizes, w: Sizes, how: How) -> None:
    agrees("conv", normal(x, w), how, jax_convolution(how))


@pytest.mark.parametrize(("x", "w", "how"), CONVOLUTIONS)
def test_a_batch_in_parts_is_the_whole_batch(
    x: Sizes, w: Sizes, how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Column matrices are bounded: here to the columns of one sample."""
    monkeypatch.setattr(columns, "SLAB", 1)
    agrees("conv", normal(x, w), how, jax_convolution(how))


POOLS: list[tuple[Sizes, How]] = [
    ((2, 4, 6, 3), {"size": (2, 2), "stride": (2, 2), "padding": NO_PADDING}),
    ((2, 7, 5, 3), {"size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (0, 1))}),
    ((1, 6, 6, 2), {"size": (2, 3), "stride": (1, 2), "padding": ((0, 1), (1, 1))}),
    ((1, 7, 7, 1), {"size": (2, 2), "stride": (3, 3), "padding": NO_PADDING}),
]


def pooled(start: float, join: Callable[..., jax.Array], how: How) -> Callable[..., jax.Array]:
    size, stride = (1, *how["size"], 1), (1, *how["stride"], 1)
    padding = ((0, 0), *how["padding"], (0, 0))
    return lambda x: jax.lax.reduce_window(x, start, join, size, stride, padding)


@pytest.mark.parametrize(("x", "how"), POOLS)
def test_pooling_and_its_gradients_agree_with_jax(x: Sizes, how: How) -> None:
    agrees("max_pool", normal(x), how, pooled(-np.inf, jax.lax.max, how))
    agrees("window_sum", normal(x), how, pooled(0.0, jax.lax.add, how))


def test_the_largest_of_a_window_share_its_gradient() -> None:
    image = np.array([[3, 3, 1, 5], [0, 3, 5, 5]], np.float32).reshape(1, 2, 4, 1)
    weights = np.array([6, 3], np.float32).reshape(1, 1, 2, 1)
    _, (gradient,) = with_gradients("max_pool", [image], POOLS[0][1], weights)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[2, 2, 0, 1], [0, 2, 1, 1]])


def test_nan_is_the_largest_of_its_window_alone() -> None:
    image = np.zeros((1, 4, 4, 1), np.float32)
    image[0, 1, 1, 0] = np.nan
    got, _ = with_gradients("max_pool", [image], POOLS[0][1], np.ones((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(got[0, :, :, 0], [[np.nan, 0], [0, 0]])
