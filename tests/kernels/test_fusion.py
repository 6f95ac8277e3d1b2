"""Nests put together as one kernel compute what they compute one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from compiled import HOSTS, built
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.ir.types import F32, TensorType, tensor
from fml.engine.kernels import maths
from fml.engine.kernels.composing import compose
from fml.engine.kernels.expr import Expr, maximum, select
from fml.engine.kernels.fusion import Fusion, Member, NotFusable
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.nest import Nest, fold, inputs_of, pull, row_major
from fml.engine.kernels.text import show
from fml.engine.ops.record import Array

HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
GOLDEN = Path(__file__).parent / "golden"


def f32(*sizes: int) -> TensorType:
    return tensor(F32, *sizes)


def mapped(value: Callable[..., Expr], result: Sequence[int], *types: TensorType) -> Nest:
    """Entry by entry, with numpy's broadcasting."""
    xs = inputs_of(types)
    return pull(types, f32(*result), lambda at: value(*(x.broadcast(at) for x in xs)))


def folded(
    type: TensorType, axes: Sequence[int], combine: str,
    finish: Callable[[Expr], Expr] | None = None,
) -> Nest:  # fmt: skip
    """Over axes, which are left out."""
    (x,) = inputs_of([type])
    kept = [axis for axis in range(len(type.sizes)) if axis not in axes]
    result = f32(*(type.sizes[axis] for axis in kept))

    def value(at: Sequence[Expr], over: Sequence[Expr]) -> Expr:
        place = dict(zip(kept, at, strict=True)) | dict(zip(axes, over, strict=True))
        return x(*(place[axis] for axis in range(len(type.sizes))))

    return fold([type], result, [type.sizes[axis] for axis in axes], value, combine, finish)


def reshaped(type: TensorType, sizes: Sequence[int]) -> Nest:
    (x,) = inputs_of([type])
    return pull([type], f32(*sizes), lambda at: x.flat(row_major(at, sizes)))


def by_itself(nest: Nest) -> Fusion:
    """A nest on its own."""
    inputs = range(len(nest.inputs))
    return Fusion(nest.inputs, (Member(nest, tuple(inputs)),), (len(inputs),))


def numbers(*sizes: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def run(fusion: Fusion, host: Host, *arrays: Array) -> list[Array]:
    """The results of the fused kernel."""
    results = [np.full(fusion.nest(v).sizes, np.nan, np.float32) for v in fusion.results]
    built(compose(fusion, "fused", host.vector_bytes), host)([*arrays, *results])
    return results


def softmax_of(rows: int, columns: int) -> Fusion:
    """max, subtract, exp, sum, divide; the sum is a result too."""
    whole, column = f32(rows, columns), f32(rows, 1)
    members = (
        Member(folded(whole, [1], "maximum"), (0,)),
        Member(reshaped(f32(rows), (rows, 1)), (1,)),
        Member(mapped(lambda a, b: a - b, (rows, columns), whole, column), (0, 2)),
        Member(mapped(maths.exp, (rows, columns), whole), (3,)),
        Member(folded(whole, [1], "add"), (4,)),
        Member(reshaped(f32(rows), (rows, 1)), (5,)),
        Member(mapped(lambda a, b: a / b, (rows, columns), whole, column), (4, 6)),
    )
    return Fusion(inputs_of([whole]), members, (7, 5))


@HOST
@given(rows=st.integers(1, 40), columns=st.integers(1, 20) | st.integers(21, 150))
@settings(max_examples=12)
def test_softmax_is_one_kernel(host: Host, rows: int, columns: int) -> None:
    x = numbers(rows, columns)
    found, total = run(softmax_of(rows, columns), host, x)
    grown = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(total, grown.sum(1), rtol=1e-6)
    np.testing.assert_allclose(found, grown / grown.sum(1, keepdims=True), rtol=1e-6)


def batch_norm_of(sizes: tuple[int, ...], activated: bool = True) -> Fusion:
    """Normalisation over all axes but the last, with statistics as results."""
    channels, count = sizes[-1], int(np.prod(sizes[:-1]))
    whole, each, flat = f32(*sizes), f32(channels), f32(count, channels)
    over = list(range(len(sizes) - 1))

    def normalised(x: Expr, r: Expr, gamma: Expr, beta: Expr) -> Expr:
        y = x * r * gamma + beta
        return maximum(y, 0.0) if activated else y

    members = (
        Member(reshaped(whole, (count, channels)), (0,)),
        Member(folded(flat, [0], "add", lambda total: total / float(count)), (3,)),
        Member(mapped(lambda x, m: x - m, sizes, whole, each), (0, 4)),
        Member(mapped(lambda x: x * x, sizes, whole), (5,)),
        Member(folded(whole, over, "add", lambda total: total / float(count)), (6,)),
        Member(mapped(lambda v: maths.rsqrt(v + 1e-5), (channels,), each), (7,)),
        Member(mapped(normalised, sizes, whole, each, each, each), (5, 8, 1, 2)),
    )
    return Fusion(inputs_of([whole, each, each]), members, (9, 4, 7))


@HOST
@pytest.mark.parametrize("sizes", [(2, 5, 7, 16), (3, 4, 4, 3), (400, 33), (2, 2, 2, 130)])
def test_batch_normalisation_is_one_kernel(host: Host, sizes: tuple[int, ...]) -> None:
    x, gamma, beta = numbers(*sizes), numbers(sizes[-1], seed=1), numbers(sizes[-1], seed=2)
    found, mean, variance = run(batch_norm_of(sizes), host, x, gamma, beta)
    axes, wide = tuple(range(len(sizes) - 1)), x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axes), rtol=1e-5)
    wanted = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-5) * gamma + beta
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)


@HOST
def test_an_update_rule_writes_where_it_reads(host: Host) -> None:
    sizes = (37, 11)
    type = f32(*sizes)
    members = (
        Member(mapped(lambda m, g: m * 0.9 + g * 0.1, sizes, type, type), (1, 2)),
        Member(mapped(lambda w, m: w - m, sizes, type, type), (0, 3)),
    )
    fusion = Fusion(inputs_of([type] * 3), members, (4, 3), ((0, 0), (1, 1)))
    w, m, g = numbers(*sizes), numbers(*sizes, seed=1), numbers(*sizes, seed=2)
    step = m * np.float32(0.9) + g * np.float32(0.1)
    wanted = w - step, step
    built(compose(fusion, "update", host.vector_bytes), host)([w, m, g, w, m])
    np.testing.assert_array_equal(w, wanted[0])
    np.testing.assert_array_equal(m, wanted[1])


@HOST
@pytest.mark.parametrize("sizes", [(3, 600), (40, 5)])
def test_what_is_overwritten_has_been_read(host: Host, sizes: tuple[int, int]) -> None:
    """An update, the length of what it overwrites, and what is scaled by that in a later stage."""
    whole, column = f32(*sizes), f32(sizes[0], 1)
    members = (
        Member(mapped(lambda w, g: w - g, sizes, whole, whole), (0, 1)),
        Member(mapped(lambda w: w * w, sizes, whole), (0,)),
        Member(folded(whole, [1], "add"), (3,)),
        Member(reshaped(f32(sizes[0]), (sizes[0], 1)), (4,)),
        Member(mapped(lambda w, s: w * s, sizes, whole, column), (0, 5)),
    )
    fusion = Fusion(inputs_of([whole, whole]), members, (2, 4, 6), ((0, 0),))
    w, g = numbers(*sizes), numbers(*sizes, seed=1)
    updated, length = w - g, (w.astype(np.float64) ** 2).sum(1)
    scaled = w * length[:, None]
    found = np.zeros(sizes[0], np.float32), np.zeros(sizes, np.float32)
    built(compose(fusion, "update", host.vector_bytes), host)([w, g, w, *found])
    np.testing.assert_array_equal(w, updated)
    np.testing.assert_allclose(found[0], length, rtol=1e-5)
    np.testing.assert_allclose(found[1], scaled, rtol=1e-5)


@HOST
def test_long_sums_keep_their_precision(host: Host) -> None:
    """A million times a tenth: one after another, they would be wrong by a hundredth."""
    for sizes, axes in (((1_000_000,), [0]), ((1_000_000, 2), [0]), ((2, 500_000), [1])):
        type = f32(*sizes)
        fusion = Fusion(inputs_of([type]), (Member(folded(type, axes, "add"), (0,)),), (1,))
        x = np.full(sizes, 0.1, np.float32)
        (total,) = run(fusion, host, x)
        exact = x.astype(np.float64).sum(tuple(axes))
        terms = sizes[axes[0]]
        bound = 4 * (np.sqrt(terms) + 1) * 2.0**-24 * exact
        assert (np.abs(total - exact) <= bound).all()


def test_a_fold_read_at_another_place_cannot_be_fused() -> None:
    """Rows in reverse order: the total of another row is not known yet."""
    type, each = f32(6, 5), f32(6)
    (x,) = inputs_of([each])
    turned = pull([each], each, lambda at: x(at[0] * -1 + 5))
    members = Member(folded(type, [1], "add"), (0,)), Member(turned, (1,))
    with pytest.raises(NotFusable, match="read at another place"):
        compose(Fusion(inputs_of([type]), members, (2,)), "turned", 64)


def test_results_of_different_sizes_cannot_be_fused() -> None:
    members = (
        Member(mapped(lambda a: a * 2.0, (6,), f32(6)), (0,)),
        Member(mapped(lambda a: a * 3.0, (5,), f32(5)), (1,)),
    )
    with pytest.raises(NotFusable, match="entries"):
        compose(Fusion(inputs_of([f32(6), f32(5)]), members, (2, 3)), "both", 64)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kinds=st.lists(st.sampled_from(["add", "scale", "bias", "relu", "reshape"]), max_size=6),
)
@settings(max_examples=40)
def test_chains_compute_what_their_links_do(sizes: list[int], kinds: list[str]) -> None:
    whole, last = f32(*sizes), f32(sizes[-1])
    x, b = numbers(*sizes), numbers(sizes[-1], seed=3)
    members: list[Member] = [Member(mapped(lambda a: a * 2.0, sizes, whole), (0,))]
    wanted = x * np.float32(2)
    for kind in kinds:
        before = len(members) + 1
        nests = {
            "add": (mapped(lambda a, c: a + c, sizes, whole, whole), (before, 0)),
            "scale": (mapped(lambda a: a * 0.5, sizes, whole), (before,)),
            "bias": (mapped(lambda a, c: a - c, sizes, whole, last), (before, 1)),
            "relu": (mapped(lambda a: select(a > 0.0, a, 0.0), sizes, whole), (before,)),
            "reshape": (reshaped(whole, sizes), (before,)),
        }
        members.append(Member(*nests[kind]))
        half = np.float32(0.5)
        wanted = {"add": wanted + x, "scale": wanted * half, "bias": wanted - b,
                  "relu": np.maximum(wanted, 0), "reshape": wanted}[kind]  # fmt: skip
    fusion = Fusion(inputs_of([whole, last]), tuple(members), (len(members) + 1,))
    (found,) = run(fusion, HOSTS["native"], x, b)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "fusion"),
    [
        ("softmax", softmax_of(64, 100)),
        ("softmax_of_short_rows", softmax_of(64, 3)),
        ("batch_norm", batch_norm_of((16, 14, 14, 32))),
    ],
)
def test_kernels_read_as_they_are_meant(
    name: str, fusion: Fusion, golden: Callable[[Path, str], None]
) -> None:
    """One loop for each stage, sums in chunks, no index taken apart."""
    golden(GOLDEN / f"{name}.txt", show(compose(fusion, name, 64)))
