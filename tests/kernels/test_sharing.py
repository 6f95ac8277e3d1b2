"""Work that is shared leaves the bits of work that is not; what depends stays whole."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from clustered import alone
from compiled import HOSTS, built
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.ir.graph import Attribute
from fml.engine.ir.types import F32, tensor
from fml.engine.kernels.expr import Buffer, Load, Local, Var, constant
from fml.engine.kernels.loops import Declare, Fold, Kernel, Store, loop
from fml.engine.kernels.sharing import shared_out
from fml.engine.ops.record import Array
from fml.engine.plan.kernels import plain_kernel_of

X, Y = Buffer("x", F32), Buffer("y", F32)
AT, ROW = Var("i"), Var("j")
TOTAL = Local("total", F32)


def kernel(
    op: str, *sizes: tuple[int, ...], result: tuple[int, ...], **attributes: Attribute
) -> Kernel:
    """The kernel of an operation on f32, with lanes as it would have them."""
    types = [tensor(F32, *size) for size in sizes]
    return plain_kernel_of(*alone(op, types, attributes, tensor(F32, *result)), op, 64)


WHOLE = {
    "entries": kernel("tanh", (190, 101), result=(190, 101)),
    "rows": kernel("sum", (301, 77), result=(301,), axes=(1,), keep=False),
    "columns": kernel("sum", (77, 301), result=(301,), axes=(0,), keep=False),
    "a transpose": kernel("transpose", (130, 131), result=(131, 130), order=(1, 0)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("host", HOSTS)
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 64), max_size=4))
def test_however_it_is_cut_the_bits_are_those_of_the_whole(
    name: str, host: str, cuts: list[int]
) -> None:
    whole = WHOLE[name]
    shared = replace(shared_out(whole), name="shared")
    assert shared.parts > 1
    given_, wanted = arrays(name)
    built(whole, HOSTS[host])([given_, wanted])
    found = np.full_like(wanted, np.nan)
    call = built(shared, HOSTS[host])
    ends = sorted({0, shared.parts, *(min(cut, shared.parts) for cut in cuts)})
    for begin, end in pairwise(ends):
        call([given_, found], [begin, end])
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


def arrays(name: str) -> tuple[Array, Array]:
    """An input, and room for the result."""
    size, result = {
        "entries": ((190, 101), (190, 101)), "rows": ((301, 77), (301,)),
        "columns": ((77, 301), (301,)), "a transpose": ((130, 131), (131, 130)),
    }[name]  # fmt: skip
    made = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    return made, np.zeros(result, np.float32)


def test_what_is_little_or_depends_is_not_shared() -> None:
    many = 1 << 15
    entry = Store(Y, AT, Load(X, AT))
    few = Kernel("few", (X, Y), (loop("", 100, [entry], AT),))
    running = Kernel("running", (X,), (loop("", many, [Store(X, AT + 1, Load(X, AT))], AT),))
    total = Kernel(
        "total", (X, Y),
        (
            Declare(TOTAL, constant(0, F32)),
            loop("", many, [Fold(TOTAL, "add", Load(X, AT))], AT, 16),
            Store(Y, ROW * 0, TOTAL),
        ),
    )  # fmt: skip
    # Two loops, one behind the other: the second may read what another part of the first writes.
    stages = Kernel("stages", (X, Y), (loop("", many, [entry], AT), loop("", many, [entry], AT)))
    for one in (few, running, total, stages):
        assert shared_out(one) is one
