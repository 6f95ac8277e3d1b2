"""A GPU that is none: right waits give one stream's bits in any timing, and rules are kept."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from random import Random

import networkx as nx
import numpy as np
import pytest

from fml.engine.backends.interface import Given, Issue, Launch, Taken
from fml.engine.backends.issuing import one_after_another, sections
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.backends.simulated import SimulatedBackend
from fml.engine.backends.simulated_streams import Kernel
from fml.engine.ops.record import Array

CELLS, ENTRIES = 6, 4
Wait = tuple[int, int, int]  # who, for whom, and how many iterations before

MODES = pytest.mark.parametrize("is_joined", [True, False], ids=["joined", "runs on"])


# --- things that mix numbers, so that every order of conflicting ones leaves other bits ----------


@dataclass(frozen=True)
class Mix:
    """Cells that a thing reads and the one it writes; given or taken from a table if so said."""

    reads: tuple[int, ...]
    writes: int
    kind: str = "mix"

    def conflicts(self, other: "Mix") -> bool:
        mine, theirs = {self.writes} - {-1}, {other.writes} - {-1}
        touched = {*self.reads, *mine}, {*other.reads, *theirs}
        return bool(mine & touched[1] or theirs & touched[0])


@dataclass(frozen=True)
class Program:
    """Things on streams, and what waits for what."""

    mixes: tuple[Mix, ...]
    streams: tuple[int, ...]
    waits: tuple[Wait, ...]

    def without(self, wait: Wait) -> "Program":
        return replace(self, waits=tuple(w for w in self.waits if w != wait))


def with_waits(mixes: list[Mix], streams: list[int]) -> Program:
    """Let all that conflict on different streams wait, within an iteration and across."""
    waits: list[Wait] = []
    for a, b in combinations(range(len(mixes)), 2):
        if streams[a] != streams[b] and mixes[a].conflicts(mixes[b]):
            waits += [(b, a, 0), (a, b, 1)]
    return Program(tuple(mixes), tuple(streams), tuple(waits))


def random_program(seed: int) -> Program:
    rng = Random(seed)
    count = rng.randint(2, 4)
    mixes = [Mix((), cell, "given") for cell in range(2)]
    for _ in range(14):
        reads = tuple(rng.sample(range(CELLS), rng.randint(1, 2)))
        mixes.append(Mix(reads, rng.randrange(CELLS)))
    mixes += [Mix((cell,), -1, "taken") for cell in range(CELLS)]
    return with_waits(mixes, [rng.randrange(count) for _ in mixes])


def mixed(salt: int, values: list[Array]) -> Array:
    return sum((3 + n) * value for n, value in enumerate(values)) * 5 % 65521 + salt


class Run:
    """A program's memory, things and tables for a backend."""

    def __init__(self, program: Program, backend: NumpyBackend) -> None:
        self.backend = backend
        self.cells = [np.full(3, cell + 1, np.int64) for cell in range(CELLS)]
        self.tables: list[Array] = []
        waits: list[list[tuple[int, int]]] = [[] for _ in program.mixes]
        for who, whom, before in program.waits:
            waits[who].append((whom, before))
        self.issues = [
            Issue(self._thing(place, mix), stream, tuple(own))
            for place, (mix, stream, own) in enumerate(
                zip(program.mixes, program.streams, waits, strict=True)
            )
        ]
        self.streams = max(program.streams) + 1

    def _thing(self, place: int, mix: Mix) -> Launch | Given | Taken:
        if mix.kind == "given":
            table = np.random.default_rng(place).integers(0, 99, (ENTRIES, 3))
            return Given(self.cells[mix.writes], table)
        if mix.kind == "taken":
            self.tables.append(np.zeros((ENTRIES, 3), np.int64))
            return Taken(self.cells[mix.reads[0]], self.tables[-1])
        reads, target = [self.cells[n] for n in mix.reads], self.cells[mix.writes]
        if not isinstance(self.backend, SimulatedBackend):
            return lambda: np.copyto(target, mixed(place, reads))

        def start() -> Launch:
            return partial(np.copyto, target, mixed(place, reads))

        return Kernel(self.backend.device, start, tuple(reads), (target,))

    def left(self) -> list[list[int]]:
        """Run twice; what is in memory and in the tables after each."""
        loop = self.backend.capture(self.issues, [0] * self.streams)
        found: list[list[int]] = []
        for iterations in (ENTRIES, ENTRIES - 1):
            assert loop.run(iterations) == iterations
            found += [array.reshape(-1).tolist() for array in (*self.cells, *self.tables)]
        return found


def left_by(program: Program, seed: int, is_joined: bool) -> list[list[int]]:
    return Run(program, SimulatedBackend(seed, is_joined)).left()


@MODES
@pytest.mark.parametrize("seed", range(25))
def test_right_waits_give_the_bits_of_one_stream(seed: int, is_joined: bool) -> None:
    program = random_program(seed)
    expected = Run(program, NumpyBackend()).left()
    for timing in range(8):
        assert left_by(program, timing, is_joined) == expected


def shows(program: Program, is_joined: bool, timings: int = 80) -> bool:
    """Whether some timing leaves other bits."""
    expected = Run(program, NumpyBackend()).left()
    return any(left_by(program, timing, is_joined) != expected for timing in range(timings))


SMALLEST = [
    # What the second waits for: what it reads; what it spoils; that it be the last to write; and
    # the same of the iteration before.
    ("a write is read", [Mix((0,), 1), Mix((1,), 2), Mix((2,), -1, "taken")], [0, 1, 1], (1, 0, 0)),
    ("a read is spoiled", [Mix((1,), 0), Mix((2,), 1), Mix((0,), -1, "taken")], [0, 1, 0],
     (1, 0, 0)),
    ("two writes", [Mix((1,), 0), Mix((2,), 0), Mix((0,), -1, "taken")], [0, 1, 1], (1, 0, 0)),
    ("what was read before is spoiled", [Mix((0,), 0), Mix((0,), 1), Mix((1,), -1, "taken")],
     [0, 1, 1], (0, 1, 1)),
    ("what was written before is read", [Mix((1,), 0), Mix((0,), -1, "taken"), Mix((2,), 1),
                                         Mix((1,), 2)], [0, 0, 1, 1], (0, 2, 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "mixes", "streams", "wait"), SMALLEST, ids=[s[0] for s in SMALLEST]
)
def test_one_wait_less_is_seen(what: str, mixes: list[Mix], streams: list[int], wait: Wait) -> None:
    program = with_waits(mixes, streams)
    assert wait in program.waits
    assert not shows(program, is_joined=False)
    assert shows(program.without(wait), is_joined=False)
    # Where iterations are joined, that of the iteration before is satisfied by their order.
    assert shows(program.without(wait), is_joined=True) == (wait[2] == 0)


def needed(program: Program) -> Iterator[Wait]:
    """Waits of one iteration that do not follow from the others."""
    for wait in program.waits:
        who, whom, before = wait
        rest = program.without(wait)
        order = nx.DiGraph([(b, a) for a, b, earlier in rest.waits if not earlier])
        order.add_nodes_from(range(len(program.mixes)))
        for a, b in combinations(range(len(program.mixes)), 2):
            if program.streams[a] == program.streams[b]:
                order.add_edge(a, b)
        if not before and not nx.has_path(order, whom, who):
            yield wait


def test_most_waits_that_are_dropped_are_seen() -> None:
    """Not all: what is spoiled may be overwritten before anyone looks."""
    dropped = [(p, w) for p in map(random_program, range(3)) for w in needed(p)]
    seen = sum(shows(program.without(wait), is_joined=True) for program, wait in dropped)
    assert len(dropped) > 20
    assert seen > 0.8 * len(dropped)


# --- critical sections ---------------------------------------------------------------------------


def adding(
    backend: SimulatedBackend, learners: int, is_critical: bool
) -> tuple[Array, list[Issue]]:
    """Each learner reads a sum, and then writes it back with something added: two kernels."""
    total = np.zeros((), np.int64)
    issues: list[list[Issue]] = []
    for learner in range(learners):
        own, salt = np.zeros((), np.int64), np.asarray(10**learner)
        read, write = backend.copy(total, own), added(backend, own, salt, total)
        issues.append([Issue(t, learner, is_critical=is_critical) for t in (read, write)])
    # All that they read first, as a plan has it.
    return total, [one for pair in zip(*issues, strict=True) for one in pair]


def added(backend: SimulatedBackend, a: Array, b: Array, target: Array) -> Kernel:
    return Kernel(
        backend.device, lambda: partial(np.copyto, target, np.add(a, b)), (a, b), (target,)
    )


@MODES
@pytest.mark.parametrize("learners", [1, 2, 4])
def test_nothing_critical_comes_between(learners: int, is_joined: bool) -> None:
    for timing in range(20):
        backend = SimulatedBackend(timing, is_joined)
        total, issues = adding(backend, learners, is_critical=True)
        assert backend.capture(issues, [0] * learners).run(9) == 9
        assert backend.download(total) == 9 * sum(10**n for n in range(learners))


@MODES
def test_without_exclusion_something_is_lost(is_joined: bool) -> None:
    def total(timing: int) -> int:
        backend = SimulatedBackend(timing, is_joined)
        total, issues = adding(backend, 2, is_critical=False)
        backend.capture(issues, [0, 0]).run(9)
        return int(total)

    assert any(total(timing) != 99 for timing in range(20))


def test_sections_are_what_follows_on_one_stream() -> None:
    who = [(0, True), (1, True), (0, True), (1, False), (1, True), (0, False)]
    issues = [Issue(lambda: None, stream, is_critical=critical) for stream, critical in who]
    assert sections(issues) == [[0, 2], [1], [4]]
    # In a graph the second comes behind all of the first, the third behind the second.
    chained = one_after_another(issues)
    assert [one.stream for one in chained] == [0, 0, 1, 1, 1, 0]
    assert [one.waits for one in chained] == [(), (), ((1, 0),), (), ((2, 0),), ()]


def crossing(backend: SimulatedBackend, waits: bool) -> tuple[Array, list[Issue]]:
    """Two sections of two things on two streams; the first one's second half waits for the other.

    If that also `waits` for the first one's first half, none can begin.
    """
    total, issues = adding(backend, 2, is_critical=True)
    issues[2] = replace(issues[2], waits=((1, 0),))
    if waits:
        issues[3] = replace(issues[3], waits=((0, 0),))
    return total, issues


@MODES
def test_a_section_begins_when_all_is_done_that_it_waits_for(is_joined: bool) -> None:
    """Whoever took a lock before would never see the other section begin."""
    for timing in range(20):
        backend = SimulatedBackend(timing, is_joined)
        total, issues = crossing(backend, waits=False)
        assert backend.capture(issues, [0, 0]).run(9) == 9
        assert backend.download(total) == 99


@MODES
def test_sections_that_wait_for_each_other_are_found(is_joined: bool) -> None:
    backend = SimulatedBackend(0, is_joined)
    _, issues = crossing(backend, waits=True)
    with pytest.raises(ValueError, match="a critical section waits for what comes behind it"):
        backend.capture(issues, [0, 0])


# --- how loops end -------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_number_that_is_not_finite_ends_the_loop(odd: float, is_joined: bool) -> None:
    """If streams run on, some have gone further by then; all do as many iterations in the end."""
    counts: set[int] = set()
    for timing in range(20):
        backend = SimulatedBackend(timing, is_joined)
        value, counted, one = np.zeros(()), np.zeros((), np.int64), np.ones((), np.int64)
        values, seen = np.asarray([1, 2, odd, *[4.0] * 40]), np.zeros(43)
        issues = [
            Issue(Given(value, values)),
            Issue(Taken(value, seen, ends=True)),
            Issue(added(backend, counted, one, counted), 1),
        ]
        loop = backend.capture(issues, [0, 0])
        done = loop.run(43)
        assert counted == done
        np.testing.assert_array_equal(seen[:done], values[:done])
        assert loop.run(2) == 2
        counts.add(done)
    if is_joined:
        assert counts == {3}
    else:
        assert min(counts) < 20
        assert len(counts) > 5


@MODES
def test_a_loop_that_is_told_to_end_takes_one_iteration_more(is_joined: bool) -> None:
    backend = SimulatedBackend(0, is_joined)
    here, table = np.zeros(()), np.arange(9.0)
    loop = backend.capture([Issue(Given(here, table))], [0])
    assert loop.run(9) == 9
    loop.end()
    assert (loop.run(9), here) == (1, 0)
    assert (loop.run(5), here) == (5, 4)
