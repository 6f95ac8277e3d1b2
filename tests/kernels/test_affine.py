"""Indices are simplified without changing what they are."""

from itertools import product
from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fml.engine.kernels.affine import affine
from fml.engine.kernels.expr import Apply, Const, Expr, Var, index
from fml.engine.kernels.nest import row_major, unflattened
from fml.engine.kernels.text import show_expr

ROW, COLUMN = Var("i"), Var("j")


def at(e: Expr, values: dict[Var, int]) -> int:
    """The value of an index."""
    match e:
        case Const(value):
            return int(value)
        case Var():
            return values[e]
        case Apply(function, (a, b)):
            x, y = at(a, values), at(b, values)
            return {"add": x + y, "subtract": x - y, "multiply": x * y}.get(
                function, x // max(y, 1) if function == "quotient" else x % max(y, 1)
            )
    raise TypeError(e)


def indices() -> st.SearchStrategy[Expr]:
    leaves = st.sampled_from([ROW, COLUMN]) | st.integers(0, 5).map(index)

    def larger(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        sums = st.tuples(inner, inner).map(lambda ab: ab[0] + ab[1])
        factors = st.tuples(inner, st.integers(0, 12)).map(lambda ab: ab[0] * ab[1])
        whole = st.tuples(inner, st.integers(1, 12)).map(lambda ab: ab[0] // ab[1])
        rest = st.tuples(inner, st.integers(1, 12)).map(lambda ab: ab[0] % ab[1])
        return sums | factors | whole | rest

    return st.recursive(leaves, larger, max_leaves=6)


@given(indices(), st.integers(1, 6), st.integers(1, 6))
def test_an_index_keeps_its_value(e: Expr, rows: int, columns: int) -> None:
    found = affine(e, {ROW: rows, COLUMN: columns}).expression
    for i, j in product(range(rows), range(columns)):
        assert at(found, {ROW: i, COLUMN: j}) == at(e, {ROW: i, COLUMN: j})


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_a_reshape_and_the_one_that_undoes_it_are_nothing(
    sizes: list[int], data: st.DataObject
) -> None:
    """Where the loops run over rows and columns that some axes of the shape make up."""
    cut = data.draw(st.integers(0, len(sizes)))
    rows, columns = prod(sizes[:cut]), prod(sizes[cut:])
    place = row_major([ROW, COLUMN], (rows, columns))
    again = row_major(unflattened(place, sizes), sizes)
    assert affine(again, {ROW: rows, COLUMN: columns}) == affine(place)


def test_places_are_told_as_sums() -> None:
    known = {ROW: 50176, COLUMN: 16}
    place = ROW * 16 + COLUMN
    cases = {place % 16: "j", place // 16: "i", place // 448 % 28: "(i // 28) % 28"}
    for e, text in cases.items():
        assert show_expr(affine(e, known).expression) == text
    assert np.all([affine(e, known).offset == 0 for e in cases])


def test_a_place_that_runs_backwards_is_taken_apart_as_it_is() -> None:
    """The quotient of a part may be that of less than 0, which is cut off towards 0."""
    place = index(20) - ROW * 4 + COLUMN
    for e in (place // 6, place % 6):
        found = affine(e, {ROW: 6, COLUMN: 4}).expression
        assert show_expr(found).count("//") + show_expr(found).count("%") == 1
        assert "-4" in show_expr(found)
        assert "20" in show_expr(found)


def test_what_is_put_together_again_keeps_its_offset() -> None:
    """A slice that begins behind the start, taken apart and put together."""
    place = ROW * 3 + 5
    found = affine(place // 7 * 7 + place % 7, {ROW: 50})
    assert (found.offset, dict(found.strides)) == (5, {ROW: 3})
