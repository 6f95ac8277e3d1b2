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
