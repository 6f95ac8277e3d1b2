"""Loops on several streams, which workers take by turns (`kernels/llvm/streams.py`)."""

import ctypes
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fml.engine.backends.interface import Issue, Trace
from fml.engine.backends.issuing import foreign_waits, sections
from fml.engine.backends.table import Entry, words_of
from fml.engine.backends.workers import workers
from fml.engine.kernels.llvm.board import (
    AMONG_ALL,
    AMONG_IDLE,
    BOARD_WORDS,
    LINE,
    STEP_WORDS,
    Board,
    Step,
    Stream,
)
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.streams import scheduler
from fml.engine.kernels.llvm.walk import ABANDON, END, WORDS
from fml.engine.ops.record import Array

# No stream can be asked for as many iterations: two such numbers share a word.
_TOO_MANY = 1 << 31


class Captured:
    """Things on streams, repeated by workers who take whichever stream can go on.

    The bits depend on the number of workers only where there are critical sections, which are done
    in any order.
    """

    def __init__(
        self,
        issues: Sequence[Issue],
        entries: Sequence[Entry],
        devices: Sequence[int],
        cores: int,
        trace: Trace | None = None,
    ) -> None:
        """Lay out things with the entry of each; `devices[s]` is where stream s is."""
        streams = _in_streams(issues)
        is_shared = any(entry.is_shared for entry in entries)
        count = cores if is_shared else max(1, min(cores, len(streams)))
        self._count = count
        self._kept = tuple(entries), trace
        self._events, events = _events(issues, streams)
        laid_out = tuple(_sections(issues, streams))
        sharing = _sharing(entries, issues, streams)
        self._steps, self._waits = _steps(entries, sharing, laid_out, events, trace)
        self._streams = _lines(len(streams), LINE)
        ends = np.cumsum([0, *map(len, streams.values())]) * self._steps.strides[0]
        self._streams[:, Stream.FIRST] = self._steps.ctypes.data + ends[:-1]
        self._streams[:, Stream.END] = self._steps.ctypes.data + ends[1:]
        self._offers = _lines(count, LINE)
        addresses = [stream.ctypes.data for stream in self._streams]
        self._orders = _orders(addresses, [devices[number] for number in streams], count)
        self._board = _lines(1, BOARD_WORDS)[0]
        self._board[Board.STREAMS] = len(streams)
        self._board[Board.WORKERS] = count
        self._board[Board.OFFERS] = self._offers.ctypes.data
        self._board[Board.ORDERS] = self._orders.ctypes.data

    def run(self, iterations: int) -> int:
        """Carry out iterations without Python; return how many.

        Raises:
            BaseException: what a signal's handler raises meanwhile; the last iterations may then
                have been abandoned half-way.
        """
        assert iterations < _TOO_MANY
        if not iterations:
            return 0
        self._rewind(iterations)
        board, serve = self._board.ctypes.data, _serve()

        def abandon() -> None:
            self._board[Board.TOLD] = ABANDON

        try:
            return workers().run(lambda worker: serve(board, worker), self._count, abandon)
        finally:
            self._board[Board.TOLD] = 0

    def end(self) -> None:
        """Let the furthest iteration under way, or the first of the next call, be the last."""
        self._board[Board.TOLD] = END

    def _rewind(self, iterations: int) -> None:
        """Set all to the first iteration, wherever the last call left it."""
        self._events[:] = 0
        self._streams[:, Stream.LOCK] = 0
        self._streams[:, Stream.PLACE] = self._streams[:, Stream.FIRST]
        self._streams[:, Stream.ITERATION] = 0
        self._offers[:] = 0
        self._board[Board.STATE] = iterations << 32
        self._board[[Board.FINISHED, Board.CRITICAL, Board.IDLE]] = 0


def _in_streams(issues: Sequence[Issue]) -> dict[int, list[int]]:
    """The places of each stream's things."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for place, issue in enumerate(issues):
        found[issue.stream].append(place)
        for other, before in issue.waits:
            assert before > 0 or (before == 0 and other < place), "in an order of issue"
    return dict(found)


def _events(
    issues: Sequence[Issue], streams: Mapping[int, Sequence[int]]
) -> tuple[Array, dict[int, int]]:
    """Counters for what others wait for, and the address of each by its thing's place.

    Those of one stream lie side by side, and on a cache line with no other's.
    """
    awaited = {other for one in issues for other, _ in foreign_waits(one, issues)}
    words: dict[int, int] = {}
    end = 0
    for own in streams.values():
        counted = [place for place in own if place in awaited]
        words |= {place: end + number for number, place in enumerate(counted)}
        end += -(-len(counted) // LINE) * LINE
    counters = _lines(1, end)[0]
    first = counters.ctypes.data
    return counters, {place: first + word * counters.itemsize for place, word in words.items()}


def _sharing(
    entries: Sequence[Entry], issues: Sequence[Issue], streams: Mapping[int, Sequence[int]]
) -> list[int]:
    """Who may share each entry.

    While a stream that several others wait for goes on, their workers run out of work one by one.
    """
    awaiting: defaultdict[int, set[int]] = defaultdict(set)
    for issue in issues:
        for other, _ in foreign_waits(issue, issues):
            awaiting[issues[other].stream].add(issue.stream)
    hubs = {number for number in streams if len(awaiting[number]) > 1}
    among = [AMONG_ALL if issue.stream in hubs else AMONG_IDLE for issue in issues]
    return [who * entry.is_shared for who, entry in zip(among, entries, strict=True)]


@dataclass(frozen=True, slots=True)
class _Section:
    """Things that follow each other on a stream and begin together.

    Attributes:
        places: theirs, among all things.
        waits: what any of them waits for: places, and how many iterations before.
        is_critical: it is a critical section.
    """

    places: tuple[int, ...]
    waits: tuple[tuple[int, int], ...]
    is_critical: bool


def _sections(issues: Sequence[Issue], streams: Mapping[int, Sequence[int]]) -> Iterator[_Section]:
    """Critical sections, and each other thing for itself, stream by stream."""
    begun = {places[0]: tuple(places) for places in sections(issues)}
    for place in (place for own in streams.values() for place in own):
        if not issues[place].is_critical:
            yield _section(issues, (place,))
        elif place in begun:
            yield _section(issues, begun[place])


def _section(issues: Sequence[Issue], places: tuple[int, ...]) -> _Section:
    latest: dict[int, int] = {}
    for other, before in (w for p in places for w in foreign_waits(issues[p], issues)):
        latest[other] = min(before, latest.get(other, before))
    return _Section(places, tuple(latest.items()), issues[places[0]].is_critical)


def _steps(
    entries: Sequence[Entry],
    sharing: Sequence[int],
    laid_out: Sequence[_Section],
    events: Mapping[int, int],
    trace: Trace | None,
) -> tuple[Array, Array]:
    """The steps of all sections one behind the other, and what they wait for."""
    pairs = [(events[other], before) for one in laid_out for other, before in one.waits]
    waits = np.array(pairs, np.int64).reshape(len(pairs), 2)
    steps = _lines(len(entries), STEP_WORDS)
    row = wait = 0
    for section in laid_out:
        first = steps[row]
        first[Step.WAITS] = waits.ctypes.data + wait * waits.strides[0]
        first[Step.WAIT_COUNT] = len(section.waits)
        first[Step.OPENS] = section.is_critical
        for place in section.places:
            steps[row, :WORDS] = words_of(entries[place], sharing[place])
            steps[row, Step.EVENT] = events.get(place, 0)
            if trace is not None:
                steps[row, Step.TRACE] = trace.rows.ctypes.data + place * trace.rows.strides[1]
                steps[row, Step.TRACE_STEP] = trace.rows.strides[0]
            row += 1
        steps[row - 1, Step.CLOSES] = section.is_critical
        wait += len(section.waits)
    return steps, waits


def _orders(addresses: Sequence[int], devices: Sequence[int], count: int) -> Array:
    """In which order each worker looks at the streams, behind the number of those it looks at
    by turns: its own, those of the devices that it serves, and all others.
    """
    places = {device: number for number, device in enumerate(sorted(set(devices)))}
    serves = [_served(worker, count, len(places)) for worker in range(count)]
    owners: list[int] = []
    seen: Counter[int] = Counter()
    for device in devices:
        group = [worker for worker, served in enumerate(serves) if places[device] in served]
        owners.append(group[seen[device] % len(group)])
        seen[device] += 1
    rows: list[list[int]] = []
    for worker, served in enumerate(serves):
        ranks = [
            (owner != worker, places[device] not in served)
            for owner, device in zip(owners, devices, strict=True)
        ]
        order = sorted(range(len(devices)), key=ranks.__getitem__)
        rows.append([owners.count(worker), *(addresses[stream] for stream in order)])
    return np.array(rows, np.int64)


def _served(worker: int, workers: int, devices: int) -> range:
    """The devices that a worker serves first: each has one at least, and so has each worker."""
    if workers >= devices:
        one = worker * devices // workers
        return range(one, one + 1)
    return range(-(-worker * devices // workers), -(-(worker + 1) * devices // workers))


def _lines(rows: int, words: int) -> Array:
    """Zeros, i64[rows, words], from the beginning of a cache line on."""
    nbytes = LINE * 8
    spare = np.zeros(rows * words + LINE, np.int64)
    skipped = -spare.ctypes.data % nbytes // 8
    return spare[skipped : skipped + rows * words].reshape(rows, words)


@cache
def _serve() -> Callable[[int, int], int]:
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
    return function(scheduler(Host.native()))
