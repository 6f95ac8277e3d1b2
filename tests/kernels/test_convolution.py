"""Convolutions and their gradients against the numpy operations in float64."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from compiled import HOSTS, built
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import assert_close, drawn, unaligned

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import F32, Element, TensorType
from fml.engine.kernels.blocks import Direction, Sliding, block_kernel, whole_kernel
from fml.engine.kernels.contracting import AtIndices
from fml.engine.kernels.expr import Buffer, Expr, Load, maximum
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Statement, Store
from fml.engine.kernels.nest import row_major
from fml.engine.kernels.slides import Convolution
from fml.engine.ops.convolution import CONV, CONV_INPUT_GRADIENT, CONV_WEIGHT_GRADIENT
from fml.engine.ops.record import Array

DIRECTIONS = ("forward", "images", "kernel")
PAIR = st.tuples(st.integers(0, 3), st.integers(0, 3))
STEP = st.tuples(st.integers(1, 3), st.integers(1, 3))
CHANNELS = st.sampled_from([1, 1, 2, 3, 5, 16, 17])


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Any geometry with a place for the kernel."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 18]))
    few = st.just(1) if groups == 18 else CHANNELS
    made = Convolution(
        F32, draw(st.sampled_from([1, 2, 3, 9])), draw(st.tuples(*[st.integers(1, 11)] * 2)),
        draw(few) * groups, draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(CHANNELS) * groups,
        draw(STEP), (draw(PAIR), draw(PAIR)), draw(STEP), groups,
    )  # fmt: skip
    window = tuple(min(made.window[k], -(-made.padded[k] // made.dilation[k])) for k in (0, 1))
    return replace(made, window=window)


SAME = ((1, 1), (1, 1))
LAYERS = (
    Convolution(F32, 2, (28, 28), 1, (5, 5), 32, padding=((2, 2), (2, 2))),
    Convolution(F32, 3, (16, 16), 3, (3, 3), 16, padding=SAME),
    Convolution(F32, 2, (16, 16), 16, (3, 3), 32, (2, 2), SAME),
    Convolution(F32, 4, (8, 8), 64, (3, 3), 64, padding=SAME),
    Convolution(F32, 5, (4, 4), 130, (3, 3), 67, padding=SAME),
    Convolution(F32, 16, (2, 2), 256, (3, 3), 96, padding=SAME),
    Convolution(F32, 70, (8, 8), 64, (1, 1), 10, (2, 2)),
    Convolution(F32, 0, (4, 4), 3, (3, 3), 8, padding=SAME),
)


def arrays(conv: Convolution) -> dict[str, Array]:
    rng = np.random.default_rng(conv.units)
    sizes = {
        "x": (conv.batch, *conv.size, conv.channels),
        "w": (*conv.window, conv.channels // conv.groups, conv.units),
        "g": (conv.batch, *conv.places, conv.units),
    }
    return {name: drawn(rng, *s, element=conv.element) for name, s in sizes.items()}


def kernel_of(conv: Convolution, direction: str, host: Host, finish: AtIndices | None) -> Kernel:
    block = Sliding(Direction(direction), conv)
    if finish is None:
        return whole_kernel(block, direction, host)
    return block_kernel(block, direction, host, finish)


INPUTS = {"forward": "xw", "images": "gw", "kernel": "xg"}
RESULT = {"forward": "g", "images": "x", "kernel": "w"}


def run(
    conv: Convolution, direction: str, host: Host, parts: int = 1, finish: AtIndices | None = None
) -> Array:
    given = arrays(conv)
    kernel = kernel_of(conv, direction, host, finish)
    out = unaligned(np.full_like(given[RESULT[direction]], 77))
    wide = np.float64 if conv.element is Element.F64 else np.float32
    scratch = [np.full(size, 77, wide) for size in kernel.scratch]
    call = built(kernel, host)
    cuts = [kernel.parts * part // parts for part in range(parts + 1)]
    for begin, end in pairwise(cuts):
        call([*(given[n] for n in INPUTS[direction]), out, *scratch], [begin, end])
    return out


def exact(conv: Convolution, direction: str, sign: Callable[[Array], Array]) -> Array:
    given = {name: sign(a.astype(np.float64)) for name, a in arrays(conv).items()}
    how: Attributes = {
        "stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation,
        "groups": conv.groups,
    }  # fmt: skip
    op = {"forward": CONV, "images": CONV_INPUT_GRADIENT, "kernel": CONV_WEIGHT_GRADIENT}
    dims = tuple(map(Dim.of, given[RESULT[direction]].shape))
    if direction != "forward":
        how = {**how, "shape": dims}
    inputs = [given[n] for n in INPUTS[direction]]
    return op[direction].compute(inputs, how, TensorType(Element.F64, dims))


def require(conv: Convolution, direction: str, host: Host) -> None:
    out = run(conv, direction, host)
    terms = {
        "forward": conv.window[0] * conv.window[1] * conv.channels // conv.groups,
        "images": conv.window[0] * conv.window[1] * conv.units // conv.groups,
        "kernel": conv.batch * conv.places[0] * conv.places[1],
    }[direction]
    absolute = exact(conv, direction, np.abs)
    assert_close(out, exact(conv, direction, np.array), absolute, terms, conv.element)


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_every_geometry(direction: str, conv: Convolution) -> None:
    require(conv, direction, HOSTS["native"])


@pytest.mark.parametrize("host", ["avx2", "baseline"])
@settings(max_examples=8, deadline=None)
@given(convolutions(), st.sampled_from(DIRECTIONS))
def test_on_other_machines(host: str, conv: Convolution, direction: str) -> None:
    require(conv, direction, HOSTS[host])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("conv", LAYERS, ids=str)
def test_layers(conv: Convolution, direction: str) -> None:
    require(conv, direction, HOSTS["native"])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("element", [Element.F64, Element.F16, Element.BF16], ids=str)
def test_every_type(element: Element, direction: str) -> None:
    require(replace(LAYERS[4], element=element), direction, HOSTS["native"])
    require(replace(LAYERS[1], element=element), direction, HOSTS["native"])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("conv", LAYERS, ids=str)
def test_the_number_of_parts_changes_no_bit(conv: Convolution, direction: str) -> None:
    whole = run(conv, direction, HOSTS["native"])
    np.testing.assert_array_equal(whole, run(conv, direction, HOSTS["native"], parts=3))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("conv", LAYERS[:7], ids=str)
def test_what_is_stored_can_be_finished(conv: Convolution, direction: str) -> None:
    """A finish sees whole sums, each once, with its own place."""
    other = Buffer({"forward": "x", "images": "g", "kernel": "g"}[direction], F32)
    shape = arrays(conv)[RESULT[direction]].shape

    out = Buffer("out", F32)

    def finish(total: Expr, at: tuple[Expr, ...]) -> list[Statement]:
        # Of the four coordinates only some entries of another buffer are looked up.
        value = maximum(total, 0.0) + Load(other, at[3]) * 2.0 + Load(other, at[1] * 3 + at[2])
        return [Store(out, row_major(at, shape), value)]

    found = run(conv, direction, HOSTS["native"], finish=finish)
    plain = np.maximum(run(conv, direction, HOSTS["native"]), 0)
    values = arrays(conv)[other.name].reshape(-1)
    _, i, j, k = np.indices(shape)
    added = plain + values[k] * np.float32(2) + values[i * 3 + j]
    np.testing.assert_allclose(found, added, rtol=1e-5, atol=1e-5)
