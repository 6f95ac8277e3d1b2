"""Streams leave what their order and their waits say, however many workers take them."""

import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.backends.interface import (
    Backend,
    Gathered,
    Given,
    Issue,
    Launch,
    Loop,
    Taken,
    Trace,
)
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import LoopOfCalls, NumpyBackend
from fml.engine.backends.streams import Captured
from fml.engine.backends.table import Entry
from fml.engine.backends.workers import Workers
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph
from fml.engine.ir.types import Element, TensorType
from fml.engine.kernels.llvm.compiler import object_code
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.streams import scheduler_text
from fml.engine.kernels.llvm.symbols import symbols
from fml.engine.ops.build import Builder
from fml.engine.ops.record import Array

THREADS = 3
EVERY_COUNT = pytest.mark.parametrize("count", range(1, THREADS + 1))
MANY = 1 << 30


@pytest.fixture(autouse=True, scope="module")
def three() -> Iterator[None]:
    """As many workers on any machine; more than this one may have cores."""
    made = Workers(THREADS)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("llvm", "streams", "table"):
            patch.setattr(f"fml.engine.backends.{module}.workers", lambda: made)
        yield


@cache
def operation(name: str, *sizes: tuple[int, ...]) -> Graph:
    """One operation on inputs of these sizes."""
    builder = Builder("function")
    types = [TensorType(Element.F64, tuple(map(Dim.of, size))) for size in sizes]
    given = [builder.add("feed", type, (), {"name": f"x{n}"}) for n, type in enumerate(types)]
    return builder.finish({"out": builder.call(name, *given)})


def call(backend: Backend, name: str, out: Array, *inputs: Array) -> Launch:
    """What writes an operation's result."""
    code = backend.compile(operation(name, *(array.shape for array in inputs)))
    (work,) = (work for work in code.works if work.nodes[-1] >= len(inputs))
    scratch = [backend.allocate(nbytes) for nbytes in work.scratch]
    return code.launch(work, [inputs[number] for number in work.inputs], [out], scratch)


def captured(
    backend: Backend,
    issues: Sequence[Issue],
    trace: Trace | None = None,
    devices: Sequence[int] | None = None,
) -> Loop:
    streams = 1 + max((issue.stream for issue in issues), default=0)
    loop = backend.capture(issues, devices or [0] * streams, trace)
    assert isinstance(loop, Captured if backend.name == "llvm" else LoopOfCalls)
    return loop


# --- any order that the waits allow --------------------------------------------------------------

CELLS, WIDTH, MOST = 6, 3, 6
PLACES = st.integers(0, CELLS - 1)


@dataclass(frozen=True)
class Thing:
    """One thing of a random loop on cells of memory: what it does, to which, of which, and where.

    Attributes:
        guard: the number of the bool without which it is not done, or nothing.
    """

    what: str
    out: int
    one: int
    other: int
    stream: int
    guard: int | None

    @property
    def reads(self) -> set[object]:
        guards = set[object]() if self.guard is None else {f"guard {self.guard}"}
        if self.what in {"given", "gathered", "guard"}:
            return set()
        return {self.one} | ({self.other} if self.what == "subtract" else set()) | guards

    @property
    def writes(self) -> set[object]:
        if self.what == "taken":
            return set()
        return {f"guard {self.out % 2}"} if self.what == "guard" else {self.out}

    def conflicts(self, other: "Thing") -> bool:
        return bool(self.writes & (other.reads | other.writes) or self.reads & other.writes)


def things(streams: int) -> st.SearchStrategy[list[Thing]]:
    what = st.sampled_from(["copy", "subtract", "given", "gathered", "taken", "guard"])
    guards = st.one_of(st.none(), st.integers(0, 1))
    one = st.builds(Thing, what, PLACES, PLACES, PLACES, st.integers(0, streams - 1), guards)
    return st.lists(one, min_size=1, max_size=14)


def issues_of(backend: Backend, made: Sequence[Thing], left: list[Array]) -> list[Issue]:
    """The things with all waits that their memory demands; `left` gets what they change."""
    rng = np.random.default_rng(7)
    cells = rng.standard_normal((CELLS, WIDTH, 2))
    guards = np.asarray([True, False])
    left += [cells, guards]

    def done(thing: Thing) -> Launch | Given | Gathered | Taken:
        out, one, other = cells[thing.out], cells[thing.one], cells[thing.other]
        table = rng.standard_normal((MOST, WIDTH, 2))
        order = rng.integers(0, MOST, (MOST, WIDTH))
        match thing.what:
            case "given":
                return Given(out, table)
            case "gathered":
                return Gathered(out, np.ascontiguousarray(table[:, 0]), order)
            case "guard":
                return Given(guards[thing.out % 2, ...], order[:, 0] > 2)
            case "taken":
                left.append(table)
                return Taken(one, table)
            case "copy":
                launch = backend.copy(one, out)
            case _:
                launch = call(backend, "subtract", out, one, other)
        return launch if thing.guard is None else backend.guarded(launch, guards[thing.guard, ...])

    issues: list[Issue] = []
    for place, thing in enumerate(made):
        waits = [
            (number, int(number > place))
            for number, other in enumerate(made)
            if other.stream != thing.stream and thing.conflicts(other)
        ]
        issues.append(Issue(done(thing), thing.stream, tuple(waits)))
    return issues


@settings(max_examples=150)
@given(
    st.integers(1, 5).flatmap(things),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.lists(st.integers(0, MOST), min_size=1, max_size=3),
)
def test_random_streams_leave_the_bits_of_one_by_one(
    made: list[Thing], devices: list[int], runs: list[int]
) -> None:
    results: list[list[bytes]] = []
    for backend in (NumpyBackend(), *map(LlvmBackend, range(1, THREADS + 1))):
        left: list[Array] = []
        loop = captured(backend, issues_of(backend, made, left), devices=devices)
        with np.errstate(over="ignore", invalid="ignore"):
            assert [loop.run(iterations) for iterations in runs] == runs
        results.append([array.tobytes() for array in left])
    assert all(one == results[0] for one in results[1:])


@settings(max_examples=40)
@given(st.integers(1, 5).flatmap(things))
def test_a_trace_tells_when_each_thing_was_done_and_by_whom(made: list[Thing]) -> None:
    for backend in (NumpyBackend(), LlvmBackend(THREADS)):
        rows = np.full((MOST, len(made), 3), -1, np.int64)
        issues = issues_of(backend, made, [])
        assert captured(backend, issues, Trace(rows)).run(MOST - 1) == MOST - 1
        assert (rows[-1] == -1).all()
        begun, ended, workers = np.moveaxis(rows[:-1], 2, 0)
        assert (begun <= ended).all()
        assert ((workers >= 0) & (workers < THREADS)).all()
        for place, issue in enumerate(issues):
            for other, before in issue.waits:
                assert (ended[: MOST - 1 - before, other] <= begun[before:, place]).all()
        streams = np.broadcast_to([issue.stream for issue in issues], workers.shape)
        for numbers in (workers, streams):
            for number in np.unique(numbers):
                mine = numbers == number
                order = np.argsort(begun[mine], kind="stable")
                if numbers is streams:
                    assert (np.diff(begun[mine]) >= 0).all()
                assert (ended[mine][order][:-1] <= begun[mine][order][1:]).all()


@pytest.mark.parametrize(
    "triple", ["x86_64-linux-gnu", "aarch64-linux-gnu", "aarch64-apple-darwin"]
)
def test_the_scheduler_is_code_for_every_kind_of_machine(triple: str) -> None:
    host = replace(Host.native(), triple=triple, cpu="", features="")
    found = symbols(object_code(scheduler_text(host), host))
    assert (found.defined, found.undefined) == ({"serve"}, {"sched_yield"})


# --- many streams --------------------------------------------------------------------------------


class Adding:
    """Streams that add 1 to one total in three steps each, in memory of their own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.total, self.one = np.zeros((), np.float64), np.ones((), np.float64)

    def steps(self) -> list[Launch]:
        """A read, an addition and a write of the total."""
        own = np.zeros(2, np.float64)
        before, after = own[0, ...], own[1, ...]
        return [
            self.backend.copy(self.total, before),
            call(self.backend, "add", after, before, self.one),
            self.backend.copy(after, self.total),
        ]


@EVERY_COUNT
def test_thirty_two_streams_take_turns(count: int) -> None:
    """Each waits for the one before it, the first for the last of the iteration before."""
    adding, issues = Adding(LlvmBackend(count)), list[Issue]()
    for stream in range(32):
        for launch in adding.steps():
            place, last = len(issues), 3 * 32 - 1
            waits = [] if place % 3 else [(place - 1, 0) if place else (last, 1)]
            issues.append(Issue(launch, stream, tuple(waits)))
    loop = captured(adding.backend, issues, devices=[stream % 5 for stream in range(32)])
    assert (loop.run(40), adding.total) == (40, 32 * 40)
    assert (loop.run(3), adding.total) == (3, 32 * 43)


@EVERY_COUNT
def test_critical_sections_lose_no_update(count: int) -> None:
    """Two of them an iteration on each of 8 streams, with something else between."""
    adding, issues = Adding(LlvmBackend(count)), list[Issue]()
    for stream in range(8):
        issues += [Issue(launch, stream, is_critical=True) for launch in adding.steps()]
        issues.append(Issue(adding.backend.copy(np.zeros(9), np.zeros(9)), stream))
        issues += [Issue(launch, stream, is_critical=True) for launch in adding.steps()]
    loop = captured(adding.backend, issues)
    assert (loop.run(500), adding.total) == (500, 2 * 8 * 500)


@EVERY_COUNT
def test_what_a_critical_section_waits_for_may_be_critical_too(count: int) -> None:
    """The last of a section waits for another section: nobody holds the lock meanwhile."""
    adding, issues = Adding(LlvmBackend(count)), list[Issue]()
    issues += [Issue(launch, 1, is_critical=True) for launch in adding.steps()]
    issues += [Issue(launch, 0, is_critical=True) for launch in adding.steps()[:2]]
    seen = np.zeros((), np.float64)
    issues.append(Issue(adding.backend.copy(adding.total, seen), 0, ((2, 0),), is_critical=True))
    issues[0] = replace(issues[0], waits=((5, 1),))
    assert captured(adding.backend, issues).run(300) == 300
    assert adding.total == seen == 300


def test_no_streams_are_done_as_often_as_asked() -> None:
    for backend in (NumpyBackend(), LlvmBackend(2)):
        loop = captured(backend, [])
        assert (loop.run(5), loop.run(0)) == (5, 0)


@pytest.mark.parametrize("is_traced", [False, True])
def test_what_has_no_entry_is_called_in_the_order_of_issue(is_traced: bool) -> None:
    adding = Adding(LlvmBackend(2))
    read, add, write = adding.steps()
    called: list[float] = []
    issues = [
        Issue(read, 1),
        Issue(lambda: called.append(float(adding.total)), 0, ((2, 1),)),
        Issue(add, 1),
        Issue(write, 1, ((1, 0),)),
    ]
    trace = Trace(np.zeros((3, 4, 3), np.int64)) if is_traced else None
    loop = adding.backend.capture(issues, [0, 0], trace)
    assert (loop.run(3), called) == (3, [0, 1, 2])


# --- shares --------------------------------------------------------------------------------------


def shared(backend: Backend, rows: int) -> tuple[list[Issue], list[Array]]:
    """Kernels and gathers with parts, products among them, on streams that seldom run together."""
    rng = np.random.default_rng(3)
    a, b, product, sum, batch = rng.standard_normal((5, 160, 160))
    source = rng.standard_normal((rows, 160))
    order = rng.integers(0, rows, (rows, 160))
    small, taken = np.zeros((), np.float64), np.zeros((rows, 160, 160), np.float64)
    issues = [
        Issue(Gathered(batch, source, order), 0, ((2, 1), (3, 1))),
        Issue(call(backend, "matmul", product, batch, b), 0, ((4, 1), (5, 1))),
        Issue(call(backend, "add", sum, batch, a), 1, ((0, 0), (3, 1))),
        Issue(Taken(sum, taken), 2, ((2, 0),)),
        Issue(call(backend, "subtract", a, product, sum), 1, ((1, 0),)),
        Issue(call(backend, "tanh", b, a), 1, ((1, 0),)),
        Issue(backend.copy(np.ones_like(small), small), 3),
    ]
    entries = [issue.thing for issue in issues if isinstance(issue.thing, Entry)]
    assert len([entry for entry in entries if entry.is_shared]) >= 3
    return issues, [a, b, product, sum, batch, taken]


def test_idle_workers_help_and_the_bits_stay() -> None:
    left: list[list[bytes]] = []
    for count in (1, 2, THREADS, THREADS):
        backend = LlvmBackend(count)
        issues, arrays = shared(backend, 30)
        assert captured(backend, issues).run(30) == 30
        left.append([array.tobytes() for array in arrays])
    assert all(one == left[0] for one in left)


# --- ends ----------------------------------------------------------------------------------------


def counting(backend: Backend, streams: int) -> tuple[list[Issue], Array]:
    """Streams that count their iterations; none is more than 20 ahead, and every second is slow."""
    counts, one = np.zeros(streams, np.float64), np.ones((), np.float64)
    issues: list[Issue] = []
    for stream in range(streams):
        mine = counts[stream, ...]
        next = np.zeros((), np.float64)
        waits = tuple((3 * other + 2, 20) for other in range(streams) if other != stream)
        issues.append(Issue(call(backend, "add", next, mine, one), stream, waits))
        size = 1 + 9999 * (stream % 2)
        issues.append(Issue(backend.copy(np.zeros(size), np.zeros(size)), stream))
        issues.append(Issue(backend.copy(next, mine), stream))
    return issues, counts


@EVERY_COUNT
@pytest.mark.parametrize("streams", [1, 2, 7])
def test_all_streams_have_done_the_same_when_a_loop_is_told_to_end(
    count: int, streams: int
) -> None:
    backend = LlvmBackend(count)
    issues, counts = counting(backend, streams)
    loop = captured(backend, issues)
    total = 0
    for _ in range(5):
        timer = threading.Timer(0.01, loop.end)
        timer.start()
        total += loop.run(MANY)
        assert (counts == total).all()
        timer.join()
    assert loop.run(6) == 6
    loop.end()
    assert loop.run(0) == 0
    assert loop.run(9) == 1
    assert (counts == total + 7).all()


@EVERY_COUNT
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_ends_all_streams(count: int, odd: float) -> None:
    """The stream where it stands; others end as far as the furthest was."""
    backend = LlvmBackend(count)
    issues, counts = counting(backend, 5)
    number = np.zeros((), np.float64)
    table, taken = np.ones(4000, np.float64), np.zeros(4000, np.float64)
    table[11:] = odd
    place = len(issues)
    issues.append(Issue(Given(number, table), 5))
    issues.append(Issue(Taken(number, taken, ends=True), 5))
    done = captured(backend, issues).run(4000)
    assert 12 <= done <= 4000
    assert (counts == done).all()
    np.testing.assert_array_equal(taken[:done], table[:done])
    assert (taken[done:] == 0).all()
    # Where every stream waits for it, none is further.
    waiting = [
        replace(issue, waits=((place + 1, 1),)) if issue.stream < 5 else issue for issue in issues
    ]
    assert captured(backend, waiting).run(4000) == 12


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no timers on this system")
@EVERY_COUNT
def test_a_signal_abandons_it_and_the_next_call_begins_anew(count: int) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    backend = LlvmBackend(count)
    adding, issues = Adding(backend), list[Issue]()
    for stream in range(4):
        issues += [Issue(launch, stream, is_critical=True) for launch in adding.steps()]
    wide, _ = counting(backend, 6)
    issues += [replace(issue, waits=((0, 1),) if issue.stream else ()) for issue in wide]
    loop = captured(backend, issues)

    def run_with_signal() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loop.run(MANY)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                run_with_signal()
            adding.total[...] = 0
            assert (loop.run(20), adding.total) == (20, 4 * 20)
    finally:
        signal.signal(signal.SIGALRM, before)
