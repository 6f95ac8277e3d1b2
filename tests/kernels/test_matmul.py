"""Products of matrices against numpy in float64."""

from itertools import pairwise

import numpy as np
import pytest
from compiled import HOSTS, built
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import assert_close, drawn, unaligned

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.blocks import whole_kernel
from fml.engine.kernels.contracting import AtIndices
from fml.engine.kernels.expr import Buffer, Expr, Load, maximum
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Statement, Store
from fml.engine.kernels.matmul import Product, matmul
from fml.engine.kernels.nest import row_major
from fml.engine.ops.record import Array

ODD = st.sampled_from([0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 48, 65])
SMALL = st.builds(
    Product, st.just(F32), ODD.filter(bool), ODD, ODD.filter(bool), st.integers(1, 3),
    st.booleans(), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
LARGE = (
    Product(F32, 131, 600, 75),
    Product(F32, 600, 7, 530),
    Product(F32, 67, 300, 90, b_turned=True),
    Product(F32, 1100, 270, 21, a_turned=True, b_turned=True),
    Product(F32, 4, 530, 700, b_turned=True),
    Product(F32, 300, 400, 1),
    Product(F32, 1, 2000, 700),
    Product(F32, 9, 300, 130, 2, is_cut=True),
    Product(F32, 30, 64, 260, 3, is_cut=True),
)
TYPES = (Element.F64, Element.F16, Element.BF16, Element.I32)


def inputs(p: Product) -> tuple[Array, Array]:
    rng = np.random.default_rng(p.rows + p.depth)
    a = drawn(rng, 1 if p.a_shared else p.batch, p.rows, p.depth, element=p.element)
    b = drawn(rng, 1 if p.b_shared else p.batch, p.depth, p.columns, element=p.element)
    if not p.element.is_float:
        a, b = np.rint(a * 9), np.rint(b * 9)
    return a, b


def run(
    p: Product,
    host: Host,
    parts: int = 1,
    finish: AtIndices | None = None,
) -> tuple[Array, Array, Array]:
    """What the kernel makes of random matrices, and those, in float64."""
    a, b = inputs(p)
    kernel = matmul(p, "product", host, finish) if finish else whole_kernel(p, "product", host)
    call = built(kernel, host)
    written_a = a.swapaxes(1, 2) if p.a_turned else a.swapaxes(0, 1) if p.is_cut else a
    stored_a = unaligned(written_a.astype(dtype(p)))
    stored_b = unaligned((b.swapaxes(1, 2) if p.b_turned else b).astype(dtype(p)))
    out = unaligned(np.full((p.batch, p.rows, p.columns), 77, dtype(p)))
    scratch = [np.full(size, 77, np.float64 if p.element is Element.F64 else np.float32)
               for size in kernel.scratch]  # fmt: skip
    cuts = [kernel.parts * part // parts for part in range(parts + 1)]
    for begin, end in pairwise(cuts):
        call([stored_a, stored_b, out, *scratch], [begin, end])
    return out, a.astype(np.float64), b.astype(np.float64)


def dtype(p: Product) -> type:
    return {Element.F64: np.float64, Element.F16: np.float16, Element.I32: np.int32}.get(
        p.element, np.float32
    )


def require(p: Product, host: Host, parts: int = 1) -> None:
    out, a, b = run(p, host, parts)
    if not p.element.is_float:
        np.testing.assert_array_equal(out, a @ b)
        return
    assert_close(out, a @ b, np.abs(a) @ np.abs(b), p.depth, p.element)


@settings(max_examples=40, deadline=None)
@given(SMALL)
def test_every_way_round(product: Product) -> None:
    require(product, HOSTS["native"])


@settings(max_examples=10, deadline=None)
@given(SMALL)
@pytest.mark.parametrize("host", ["avx2", "baseline"])
def test_on_other_machines(host: str, product: Product) -> None:
    require(product, HOSTS[host])


@pytest.mark.parametrize("product", LARGE, ids=str)
def test_blocks_of_large_matrices(product: Product) -> None:
    require(product, HOSTS["native"])


@pytest.mark.parametrize("element", TYPES, ids=str)
@pytest.mark.parametrize("b_turned", [False, True])
def test_every_type(element: Element, b_turned: bool) -> None:
    require(Product(element, 13, 300, 21, 2, b_turned=b_turned), HOSTS["native"])


@pytest.mark.parametrize("product", LARGE, ids=str)
def test_the_number_of_parts_changes_no_bit(product: Product) -> None:
    whole, *_ = run(product, HOSTS["native"])
    cut, *_ = run(product, HOSTS["native"], parts=3)
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("columns", [1, 40])
def test_what_is_stored_can_be_finished(columns: int) -> None:
    # Two thousand products come in several parts, and only the last of them is finished.
    product = Product(F32, 9, 2000, columns)
    rows, out_buffer = Buffer("a", F32), Buffer("out", F32)

    def finish(total: Expr, at: tuple[Expr, ...]) -> list[Statement]:
        value = maximum(total, 0.0) + Load(rows, at[1] * 2000)
        return [Store(out_buffer, row_major(at, (1, 9, columns)), value)]

    out, a, b = run(product, HOSTS["native"], finish=finish)
    plain, *_ = run(product, HOSTS["native"])
    np.testing.assert_array_equal(out, np.maximum(plain, 0) + a[:, :, :1].astype(np.float32))
    assert b.shape == (1, 2000, columns)
