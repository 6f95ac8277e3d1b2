"""Floats of 16 bits in fused kernels: rounded behind every node, as numpy rounds them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from compiled import HOSTS, built_together
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clusters import by_nodes, provided

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import F32, Element, TensorType, tensor
from fml.engine.kernels.llvm.host import Host
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.clusters import Cluster, clusters
from fml.engine.plan.kernels import kernel_of

F16, BF16 = Element.F16, Element.BF16
NARROW = pytest.mark.parametrize("element", [F16, BF16], ids=str)
NEXT = {F16: BF16, BF16: F32, F32: F16}


def assert_bits(
    graph: Graph, host: Host, given_by: Callable[[Node, np.random.Generator], Array] = provided
) -> list[Cluster]:
    """Every cluster's results are numpy's to the bit, given numpy's inputs; return the clusters."""
    with np.errstate(all="ignore"):
        values = by_nodes(graph, given_by)
    found = clusters(graph)
    kernels = [kernel_of(graph, c, f"kernel{n}", host) for n, c in enumerate(found)]
    calls = built_together(kernels, host)
    for cluster, kernel, call in zip(found, kernels, calls, strict=True):
        results = [np.zeros_like(values[value]) for value in cluster.results]
        arrays = [*(np.array(values[value]) for value in cluster.inputs), *results]
        for read, written in kernel.shared:
            arrays[written] = arrays[read]
        call([*arrays, *(np.full(size, np.nan) for size in kernel.scratch)])
        for value, have in zip(cluster.results, arrays[len(cluster.inputs) :], strict=True):
            what = f"{graph[value].op} of {[graph[n].op for n in cluster.nodes]}"
            np.testing.assert_array_equal(have, values[value], err_msg=what)
    return list(found)


# --- the ways to hand a number on -----------------------------------------------------------------


def ones(x: Value, *sizes: int) -> Value:
    return x.builder.constant(1.0, tensor(x.type.element, *sizes))


def conv(op: str, x: Value, y: Value, *sizes: int) -> Value:
    """A convolution that keeps the size of images, or one of its gradients, which has these."""
    shape = {"shape": tuple(map(Dim.of, sizes))} if sizes else {}
    same = ((1, 1), (1, 1))
    return x.call(op, y, stride=(1, 1), padding=same, dilation=(1, 1), groups=1, **shape)


def cast(x: Value, element: Element) -> Value:
    return x.call("cast", element=element)


def total(x: Value, *axes: int) -> Value:
    return x.call("sum", axes=axes, keep=True)


def turned(x: Value) -> Value:
    return x.call("transpose", order=(1, 0))


IMAGES, MATRIX = (4, 6, 5, 8), (33, 33)
NONE = ((0, 0), (0, 0))
# Each is one kernel, and comes to other numbers if nothing is rounded within it.
HANDED: Mapping[str, tuple[tuple[int, ...], Callable[[Value, Value], Value]]] = {
    "map": (MATRIX, lambda x, y: (x * y + x) * 0.3 * y),
    "constant": (MATRIX, lambda x, y: x * 0.3),
    "cast": (MATRIX, lambda x, y: cast(cast(cast(x, F32) * 0.3, x.type.element), F32) * 3.0),
    "pad": (MATRIX, lambda x, y: x.call("pad", before=(1, 0), after=(0, 0), value=0.3) * 3.0),
    "sum": (MATRIX, lambda x, y: total(x, 1) * 0.3),
    "columns": (MATRIX, lambda x, y: total(x, 0) * 0.3),
    "all": (MATRIX, lambda x, y: total(x, 0, 1) * 0.3 * x),
    "centred": (MATRIX, lambda x, y: x - total(x, 1) / 3.0),
    "summed map": (MATRIX, lambda x, y: total(x * y * 3.0, 1) * 0.3),
    "window": (
        IMAGES,
        lambda x, y: x.call("window_sum", size=(2, 2), stride=(2, 2), padding=NONE) * 0.3,
    ),
    "product": (MATRIX, lambda x, y: (x @ y) * 0.3),
    "turned product": (MATRIX, lambda x, y: (x @ turned(y)) * 0.3),
    "column": (MATRIX, lambda x, y: (x @ ones(x, 33, 1)) * 0.3),
    "convolution": (IMAGES, lambda x, y: conv("conv", x, ones(x, 3, 3, 8, 16)) * 0.3),
    "images": (
        IMAGES, lambda x, y: conv("conv_input_gradient", x, ones(x, 3, 3, 5, 8), 4, 6, 5, 5) * 0.3,
    ),
    "kernel": (IMAGES, lambda x, y: conv("conv_weight_gradient", x, y, 3, 3, 8, 8) * 0.1),
}  # fmt: skip


def whole_numbers(node: Node, rng: np.random.Generator) -> Array:
    """So small that all sums of them and of their products are f32 without loss."""
    return stored(rng.integers(-40, 41, node.type.sizes), node.type)


def handed(name: str, element: Element) -> Graph:
    sizes, made = HANDED[name]
    builder = Builder("step")
    x, y = (builder.add("feed", tensor(element, *sizes), (), {"name": name}) for name in "xy")
    return optimise(builder.finish({"made": made(x, y)}), {})


@NARROW
@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
def test_what_is_handed_on_is_rounded(host: Host, element: Element) -> None:
    for name in HANDED:
        graph = handed(name, element)
        assert len(assert_bits(graph, host, whole_numbers)) == 1, name


@NARROW
@pytest.mark.parametrize("name", HANDED)
def test_whether_it_is_rounded_shows(name: str, element: Element) -> None:
    narrow, wide = (handed(name, e) for e in (element, F32))
    (found, unrounded) = (by_nodes(g, whole_numbers)[g.outputs["made"]] for g in (narrow, wide))
    rounded_once = stored(unrounded, TensorType(narrow[narrow.outputs["made"]].type.element))
    assert not np.array_equal(found, rounded_once)


# --- graphs at random ----------------------------------------------------------------------------


def like(a: Value, b: Value) -> Value:
    """The second value in the element of the first."""
    return b if a.type.element is b.type.element else cast(b, a.type.element)


def whole(a: Value) -> Value:
    """Whole numbers from -64 to 64, whose sums and products f32 has without loss."""
    return (a * 64.0).call("round").call("maximum", -64.0).call("minimum", 64.0)


def chosen(a: Value, b: Value) -> Value:
    return a.call("greater", b).call("select", a * 0.3, b)


def moved(a: Value, b: Value) -> Value:
    """One row down, behind a row of what 16 bits do not have."""
    rows, columns = a.type.sizes
    padded = a.call("pad", before=(1, 0), after=(0, 0), value=0.1)
    return padded.call("slice", starts=(0, 0), stops=(rows, columns))


def product(a: Value, b: Value) -> Value:
    """A product of whole numbers with what makes an epilogue."""
    row = whole(a).call("max", axes=(0,), keep=True)
    return whole(a) @ (turned(row) * row) + b


# Operations that f32 rounds once, or not at all: numpy and a kernel have the same bits.
STEPS: Sequence[Callable[[Value, Value], Value]] = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: a.call("maximum", b),
    lambda a, b: a.call("minimum", b),
    lambda a, b: a * 1.1 + 0.7,
    lambda a, b: a.call("maximum", 0.3),
    lambda a, b: a.call("abs").call("sqrt"),
    lambda a, b: a.call("floor") - a,
    lambda a, b: cast(a, NEXT[a.type.element]),
    lambda a, b: cast(a, F32) * 1.1 + 0.7,
    chosen,
    moved,
    product,
    lambda a, b: total(whole(a), 0),
    lambda a, b: total(whole(a), 1),
    lambda a, b: b - total(whole(a), 1) / 7.0,
    lambda a, b: a * total(whole(b), 0) - total(whole(a * b), 0),
    lambda a, b: a.call("max", axes=(1,), keep=True),
    lambda a, b: a.call("min", axes=(0,), keep=True) + b,
)  # fmt: skip
PROGRAMS = st.lists(
    st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9)),
    min_size=2, max_size=12,
)  # fmt: skip


def grown(
    program: Sequence[tuple[int, int, int]], sizes: tuple[int, int], element: Element
) -> Graph:
    """A graph of two feeds, step by step, each of the latest values; the last three are kept."""
    builder = Builder("step")
    types = (tensor(element, *sizes), tensor(NEXT[element], *sizes), tensor(F32, 1, sizes[1]))
    values = [builder.add("feed", t, (), {"name": f"x{n}"}) for n, t in enumerate(types)]
    for step, one, other in program:
        a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
        values.append(STEPS[step](a, like(a, b)))
    return optimise(builder.finish({f"y{n}": v for n, v in enumerate(values[-3:])}), {})


@settings(max_examples=60, deadline=None)
@given(
    PROGRAMS,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([F16, BF16]),
    st.sampled_from(list(HOSTS)),
)
def test_graphs_at_random_have_the_bits_of_numpy(
    program: Sequence[tuple[int, int, int]], sizes: tuple[int, int], element: Element, host: str
) -> None:
    assert_bits(grown(program, sizes, element), HOSTS[host])
