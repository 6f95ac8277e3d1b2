"""Floats of 16 bits in fused kernels: rounded behind every node, as numpy rounds them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import on_host
import pytest
from compiled import HOSTS, built_together
from hypothesis import given, settings
from hypothesis import strategies as st
from larger import samples
from test_clusters import by_nodes, provided
from test_op_kernels import COMPUTED, Case, assert_agrees, case_of

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import F32, Element, TensorType, tensor
from fml.engine.kernels.cuda.geometry import VECTOR_BYTES
from fml.engine.kernels.fusion import NotFusable
from fml.engine.kernels.llvm.host import Host
from fml.engine.ops.build import Builder, Value
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array, Op
from fml.engine.ops.samples import sample
from fml.engine.ops.table import OPS
from fml.engine.passes.pipeline import optimise
from fml.engine.plan.cluster import Cluster, apart
from fml.engine.plan.clusters import clusters
from fml.engine.plan.kernels import kernel_of, plain_kernel_of

F16, BF16 = Element.F16, Element.BF16
NARROW = pytest.mark.parametrize("element", [F16, BF16], ids=str)
NEXT = {F16: BF16, BF16: F32, F32: F16}


def fusable(graph: Graph, host: Host) -> list[Cluster]:
    """Clusters that kernels can be made of, as the backend makes them."""
    found: list[Cluster] = []
    for cluster in clusters(graph):
        try:
            kernel_of(graph, cluster, "kernel", host)
        except NotFusable:
            found += apart(graph, cluster)
        else:
            found.append(cluster)
    return found


def by_kernels(graph: Graph, given: Mapping[int, Array], host: Host) -> dict[int, Array]:
    """What is stored of a graph, computed by kernels from what the runtime gives."""
    values, found = dict(given), fusable(graph, host)
    kernels = [kernel_of(graph, c, f"kernel{n}", host) for n, c in enumerate(found)]
    for cluster, kernel, call in zip(found, kernels, built_together(kernels, host), strict=True):
        types = {value: graph[value].type for value in cluster.results}
        # What is not written is not what numpy has.
        results = {v: np.full(type.sizes, 77, type.dtype) for v, type in types.items()}
        arrays = [*(values[value] for value in cluster.inputs), *results.values()]
        call([*arrays, *(np.full(size, np.nan) for size in kernel.scratch)])
        values.update(results)
    return values


def assert_bits(
    graph: Graph, host: Host, given_by: Callable[[Node, np.random.Generator], Array] = provided
) -> None:
    """All that is stored has the bits that numpy makes, node by node."""
    with np.errstate(all="ignore"):
        wanted = by_nodes(graph, given_by)
    ready = (node.id for node in graph if OPS[node.op].runtime or node.op == "constant")
    given = {number: wanted[number] for number in ready}
    for number, found in by_kernels(graph, given, host).items():
        what = f"{graph[number].op} of {graph[number].type}"
        np.testing.assert_array_equal(found, wanted[number], err_msg=what)


# --- the ways to hand a number on -----------------------------------------------------------------


def ones(x: Value, *sizes: int) -> Value:
    return x.builder.constant(1.0, tensor(x.type.element, *sizes))


def conv(op: str, x: Value, y: Value, *sizes: int) -> Value:
    """A convolution that keeps the size of images, or one of its gradients, which has these."""
    shape = {"shape": tuple(map(Dim.of, sizes))} if sizes else {}
    same = ((1, 1), (1, 1))
    return x.call(op, y, stride=(1, 1), padding=same, dilation=(1, 1), groups=1, **shape)


def weights(x: Value, g: Value) -> Value:
    return conv("conv_weight_gradient", x, g, 3, 3, 8, 8)


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
    "long product": ((5, 900), lambda x, y: (x @ turned(y)) * 0.3),
    "column": (MATRIX, lambda x, y: (x @ ones(x, 33, 1)) * 0.3),
    "convolution": (IMAGES, lambda x, y: conv("conv", x, ones(x, 3, 3, 8, 16)) * 0.3),
    "images": (
        IMAGES, lambda x, y: conv("conv_input_gradient", x, ones(x, 3, 3, 5, 8), 4, 6, 5, 5) * 0.3,
    ),
    "kernel": (IMAGES, lambda x, y: weights(x, y) * 0.1),
    "long kernel": ((40, 6, 5, 8), lambda x, y: weights(x, y) * 0.1),
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
        assert len(clusters(graph)) == 1, name
        assert_bits(graph, host, whole_numbers)


@on_host.NEEDED
@NARROW
def test_what_is_handed_on_is_rounded_in_cuda_c_too(element: Element, tmp_path: Path) -> None:
    graphs = [handed(name, element) for name in HANDED]
    found = [clusters(graph)[0] for graph in graphs]
    kernels = [
        plain_kernel_of(graph, cluster, f"kernel{n}", VECTOR_BYTES)
        for n, (graph, cluster) in enumerate(zip(graphs, found, strict=True))
    ]
    calls = on_host.built(kernels, tmp_path)
    for graph, cluster, kernel, call in zip(graphs, found, kernels, calls, strict=True):
        values = by_nodes(graph, whole_numbers)
        results = [np.zeros_like(values[value]) for value in cluster.results]
        given_ = [np.ascontiguousarray(values[value]) for value in cluster.inputs]
        on_host.both_ways(kernel, call, given_, results)
        for value, have in zip(cluster.results, results, strict=True):
            np.testing.assert_array_equal(have, values[value], err_msg=kernel.name)


@NARROW
@pytest.mark.parametrize("name", HANDED)
def test_whether_it_is_rounded_shows(name: str, element: Element) -> None:
    narrow, wide = (handed(name, e) for e in (element, F32))
    (found, unrounded) = (by_nodes(g, whole_numbers)[g.outputs["made"]] for g in (narrow, wide))
    rounded_once = stored(unrounded, TensorType(narrow[narrow.outputs["made"]].type.element))
    assert not np.array_equal(found, rounded_once)


def both(case: Case) -> tuple[Graph, dict[int, Array]]:
    """An operation whose result is stored and handed on to a product with 0.3."""
    builder = Builder("step")
    given = [builder.add("feed", t, (), {"name": f"x{n}"}) for n, t in enumerate(case.types)]
    made = builder.add(case.op.name, case.result, given, case.attributes)
    graph = builder.finish({"made": made, "handed": made * 0.3})
    return graph, {value.id: array for value, array in zip(given, case.arrays, strict=True)}


OPERATIONS = [
    op for op in COMPUTED
    if not op.across_learners and not op.effect
    and any(t.is_float for sample in samples(op.name) for t in sample.types)
]  # fmt: skip


@NARROW
@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_every_operation_hands_on_what_it_stores(op: Op, element: Element) -> None:
    """And that agrees with numpy's; of its samples three or so."""
    made = (case_of(op, sample, element) for sample in samples(op.name))
    cases = [c for c in made if c is not None and c.result.is_float and c.wanted.size]
    for case in cases[:: max(1, len(cases) // 3)]:
        graph, given = both(case)
        values = by_kernels(graph, given, Host.native())
        stored_, handed_on = (values[graph.outputs[name]] for name in ("made", "handed"))
        if op.block is None or all(np.isfinite(array).all() for array in case.arrays):
            assert_agrees(case, stored_)  # a block leaves out what numpy multiplies by padding
        factor = stored(np.asarray(0.3), case.result.with_shape(()))
        with np.errstate(all="ignore"):
            third = computed(OPS["multiply"], [stored_, factor], {}, case.result)
        np.testing.assert_array_equal(handed_on, third, err_msg=f"{case.types}")


@NARROW
def test_shares_of_large_windows_are_rounded_once(element: Element) -> None:
    """Each pixel is the largest of up to fifteen windows, of numbers whose sums f32 has exactly."""
    rng = np.random.default_rng(0)
    how = {"size": (5, 5), "stride": (2, 1), "padding": ((1, 0), (2, 1))}
    x = np.stack([rng.permutation(99) for _ in range(16)], axis=-1).reshape(1, 9, 11, 16)
    image = tensor(element, *x.shape)
    y = computed(OPS["max_pool"], [stored(x, image)], how, OPS["max_pool"].infer([image], how))
    op, given = OPS["max_pool_gradient"], [rng.uniform(1, 2, y.shape), x, y]
    case = case_of(op, sample([a.astype(np.float64) for a in given], how), element)
    assert case is not None
    found = np.full(case.wanted.shape, 77, case.wanted.dtype)
    (call,) = built_together([case.kernel("shares", Host.native())], Host.native())
    call([*case.arrays, found])
    np.testing.assert_array_equal(found, case.wanted)


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
