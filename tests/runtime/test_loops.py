"""A loop leaves the same whether Python makes its calls or compiled code goes through a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fml.engine.backends.interface import Backend, Gathered, Given, Launch, Taken
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import LoopOfCalls, NumpyBackend
from fml.engine.backends.table import Table
from fml.engine.ops.record import Array

ODD = np.asarray([0, -0.0, 1, -2.5, np.nan, np.inf, -np.inf, 3e4])
ELEMENTS = [np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]


@dataclass
class Body:
    """What a loop is made of, and the arrays that it changes."""

    calls: list[Launch] = field(default_factory=list[Launch])
    given: list[Given | Gathered] = field(default_factory=list[Given | Gathered])
    taken: list[Taken] = field(default_factory=list[Taken])
    changed: list[Array] = field(default_factory=list[Array])


def agree(build: Callable[[Backend], Body], runs: Sequence[int], table: bool = True) -> list[int]:
    """Run what is built for both backends; how many iterations each run took, for both alike."""
    counts: list[list[int]] = []
    left: list[list[Array]] = []
    for backend in (NumpyBackend(), LlvmBackend()):
        body = build(backend)
        loop = backend.loop(body.calls, body.given, body.taken)
        walks = backend.name == "llvm" and table
        assert isinstance(loop, Table if walks else LoopOfCalls)
        counts.append([loop.run(iterations) for iterations in runs])
        left.append([*body.changed, *(one.table for one in body.taken)])
    assert counts[0] == counts[1]
    for one, other in zip(*left, strict=True):
        np.testing.assert_array_equal(other, one, strict=True)
    return counts[1]


def numbers(element: type, *sizes: int) -> Array:
    drawn = np.random.default_rng(len(sizes)).choice(ODD, size=sizes)
    with np.errstate(invalid="ignore"):
        return drawn.astype(element)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("sizes", [(), (5,), (3, 2), (0,)])
def test_what_is_given_and_taken(element: type, sizes: tuple[int, ...]) -> None:
    """Each iteration copies its entry in, from view to view, and out again."""

    def build(backend: Backend) -> Body:
        here, there = np.zeros(sizes, element), np.zeros(sizes, element)
        table = numbers(element, 7, *sizes)
        taken = [Taken(there, np.zeros_like(table)), Taken(here, np.ones_like(table))]
        return Body([backend.copy(here, there)], [Given(here, table)], taken, [here, there])

    assert agree(build, [7, 0, 3, 1]) == [7, 0, 3, 1]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("sizes", [(), (3,), (2, 4, 1), (0,)])
@pytest.mark.parametrize("rows", [1, 4, 0])
def test_what_is_gathered(element: type, sizes: tuple[int, ...], rows: int) -> None:
    """Rows in any order, some of them twice."""

    def build(backend: Backend) -> Body:
        view, source = np.zeros((rows, *sizes), element), numbers(element, 9, *sizes)
        order = np.random.default_rng(1).integers(0, 9, (5, rows))
        taken = [Taken(view, np.zeros((5, *view.shape), element))]
        return Body([], [Gathered(view, source, order)], taken, [view])

    agree(build, [5, 2])


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.booleans())
def test_guards(answers: list[bool], follows: bool) -> None:
    """A guard is looked at when its turn comes, in each iteration: here one that was just given."""

    def build(backend: Backend) -> Body:
        guard, value, seen = np.zeros((), bool), np.zeros(()), np.full((), -1.0)
        given: list[Given | Gathered] = [
            Given(guard, np.asarray(answers)),
            Given(value, np.arange(float(len(answers)))),
        ]
        calls = [backend.guarded(backend.copy(value, seen), guard)]
        if follows:
            calls.append(backend.copy(seen, value))
        taken = [Taken(seen, np.zeros(len(answers))), Taken(value, np.zeros(len(answers)))]
        return Body(calls, given, taken, [seen, value])

    agree(build, [len(answers)])


@pytest.mark.parametrize("element", [np.float16, np.float32, np.float64])
@given(st.lists(st.sampled_from(ODD.tolist()), min_size=1, max_size=9), st.integers(0, 10))
def test_a_number_that_is_not_finite_ends_a_loop(
    element: type, values: list[float], iterations: int
) -> None:
    """All else of that iteration is done; what is only watched may be odd."""
    table = np.asarray(values, element)

    def build(backend: Backend) -> Body:
        ends, watched = np.zeros((), element), np.zeros((), element)
        given: list[Given | Gathered] = [Given(ends, table), Given(watched, table[::-1].copy())]
        taken = [
            Taken(ends, np.zeros_like(table), ends=True),
            Taken(watched, np.zeros_like(table)),
        ]
        return Body([], given, taken, [ends, watched])

    count = min(iterations, len(values))
    odd = np.flatnonzero(~np.isfinite(table[:count]))
    assert agree(build, [count]) == [odd[0] + 1 if odd.size else count]


@pytest.mark.parametrize("what", ["other elements", "every second", "a call of Python's"])
def test_what_has_no_entry_is_called(what: str) -> None:
    """Entries before it and behind it keep their order."""

    def build(backend: Backend) -> Body:
        here, there, last = np.zeros((3, 4), np.float32)
        table = numbers(np.float32, 6, 8)
        source = {"other elements": table[:, :4].astype(np.float64), "every second": table[:, ::2]}
        calls = [backend.copy(here, there), backend.copy(there, last)]
        if what == "a call of Python's":
            calls.insert(1, lambda: np.negative(there, out=there))
        given: list[Given | Gathered] = [Given(here, source.get(what, table[:, :4].copy()))]
        return Body(calls, given, [Taken(last, np.zeros((6, 4), np.float32))], [here, there])

    agree(build, [6, 2], table=False)


@pytest.mark.parametrize("backend", [NumpyBackend(), LlvmBackend()], ids=["numpy", "llvm"])
def test_a_loop_that_is_told_to_end_takes_one_iteration_more(backend: Backend) -> None:
    here, table = np.zeros((), np.float32), np.arange(9, dtype=np.float32)
    loop = backend.loop((), [Given(here, table)])
    assert loop.run(9) == 9
    loop.end()
    assert (loop.run(9), here) == (1, 0)
    assert (loop.run(5), here) == (5, 4)
