"""Loops are told to be independent where they are, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.ir.types import F32
from fml.engine.kernels.expr import Buffer, Expr, Load, Local, Var, constant, index, minimum
from fml.engine.kernels.independence import Known, is_independent
from fml.engine.kernels.loops import Assign, Declare, Fold, For, Let, Statement, Store, loop

X, Y = Buffer("x", F32), Buffer("y", F32)
P, Q, R = Var("p"), Var("q"), Var("r")
TOTAL, ONE = Local("total", F32), constant(1, F32)


def over(var: Var, size: int, *body: Statement) -> For:
    return loop("", size, body, var)


def added(place: Expr) -> Store:
    return Store(X, place, Load(X, place) + ONE)


CASES: dict[str, tuple[For, bool]] = {
    "entries of its own": (over(P, 5, added(P)), True),
    "rows": (over(P, 5, over(Q, 7, added(P * 7 + Q))), True),
    "columns": (over(P, 5, over(Q, 7, added(Q * 5 + P))), True),
    "blocks of four": (over(P, 5, *(Store(X, P * 4 + n, ONE) for n in range(4))), True),
    "blocks of five": (over(P, 5, *(Store(X, P * 4 + n, ONE) for n in range(5))), False),
    "rows that overlap": (over(P, 5, over(Q, 8, added(P * 7 + Q))), False),
    "columns that overlap": (over(P, 6, over(Q, 7, added(Q * 5 + P))), False),
    "one place for all": (over(P, 5, Store(X, index(3), ONE)), False),
    "one place, once": (over(P, 1, Store(X, index(3), ONE)), True),
    "the entry before": (over(P, 5, Store(X, P + 1, Load(X, P))), False),
    "another buffer": (over(P, 5, Store(X, P, Load(Y, P + 1))), True),
    "the same memory": (over(P, 5, Store(X, P, Load(Buffer("shared", F32), P + 1))), False),
    "the same memory, entry for entry": (
        over(P, 5, Store(X, P, Load(Buffer("shared", F32), P))), True
    ),
    "a place that is read": (over(P, 5, Store(X, Load(Buffer("at", R.element), P), ONE)), False),
    "a place with a name": (over(P, 5, Let(Q, P * 2), added(Q), added(Q + 1)), True),
    "behind a row told outside": (over(P, 5, added(R * 5 + P)), True),
    "chunks": (
        over(P, 3, For(Q, P * 4, minimum(P * 4 + 4, index(10)), (Store(X, Q, ONE),))), False
    ),
    "a sum": (over(P, 5, Fold(TOTAL, "add", Load(X, P))), False),
    "a running sum": (over(P, 5, Assign(TOTAL, TOTAL + ONE), Store(X, P, TOTAL)), False),
    "a local of its own": (over(P, 5, Declare(TOTAL, ONE), Assign(TOTAL, TOTAL + ONE)), True),
    "backwards": (over(P, 5, added(index(9) - P)), True),
    "in steps": (For(P, index(0), index(9), (Store(X, P, ONE), Store(X, P + 1, ONE)), 2), True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_independent_loops(name: str) -> None:
    tried, wanted = CASES[name]
    assert is_independent(tried, Known(memory={"shared": "x"})) == wanted


def test_iterations_may_meet_in_a_fold() -> None:
    folding = over(P, 5, Fold(TOTAL, "add", Load(X, P)))
    assert is_independent(folding, Known(), folds=True)
    read = over(P, 5, Fold(TOTAL, "add", Load(X, P)), Store(Y, P, TOTAL))
    assert not is_independent(read, Known(), folds=True)


STRIDE = st.integers(-6, 6)


@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    written=st.tuples(STRIDE, STRIDE, STRIDE, st.integers(0, 6)),
    read=st.tuples(STRIDE, STRIDE, STRIDE, st.integers(0, 6)),
)
@settings(max_examples=400)
def test_what_is_told_independent_never_meets(
    sizes: tuple[int, int, int], written: tuple[int, ...], read: tuple[int, ...]
) -> None:
    """Against all places that the iterations touch, listed."""

    def place(strides: tuple[int, ...]) -> Expr:
        return P * strides[0] + Q * strides[1] + R * strides[2] + strides[3]

    inner = over(Q, sizes[1], over(R, sizes[2], Store(X, place(written), Load(X, place(read)))))
    if not is_independent(over(P, sizes[0], inner), Known()):
        return
    i, j, k = np.indices(sizes).reshape(3, sizes[0], -1)

    def touched(strides: tuple[int, ...]) -> list[set[int]]:
        all_ = i * strides[0] + j * strides[1] + k * strides[2] + strides[3]
        return [set(row.tolist()) for row in all_]

    stores, loads = touched(written), touched(read)
    for one in range(sizes[0]):
        for other in range(sizes[0]):
            if one != other:
                assert not stores[one] & (stores[other] | loads[other])
