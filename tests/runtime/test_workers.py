"""However many workers go through a table, they leave the same bits, and none waits for ever."""

import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.backends import workers
from fml.engine.backends.interface import Gathered, Taken
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.table import Entry, Table, meetings
from fml.engine.backends.workers import Workers
from fml.engine.kernels.llvm.compiler import object_code
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.subnormals import flusher_text
from fml.engine.kernels.llvm.symbols import symbols
from fml.engine.runtime.trainer import Trainer
from tests.dsl.programs import lowered

# Shared kernels, kernels that one worker does, guarded ones, draws, sums that depend on all of it.
NETWORK = """
data d = given { x: f32[20, 20, 3]; y: label[5] }
model net(x: f32[N, 20, 20, 3]) -> f32[N, 5] =
  x |> conv(8, 3) |> batch_norm |> relu |> conv(8, 3) |> relu |> max_pool(2) |> flatten
    |> dense(96) |> relu |> dropout(0.3) |> dense(5)
train {
  n = net()
  feed x, y from d.train |> shuffle |> batch(12)
  minimize loss = cross_entropy(n(x), y)
  using momentum(0.05)
  state drift: f32 ~ zeros
  every 3 steps { drift <- drift + norm(n) - previous(norm(n)) }
  stop after 40 steps
}
"""
THREADS = 3


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many workers on any machine; more than this one may have cores."""
    made = Workers(THREADS)
    monkeypatch.setattr("fml.engine.backends.llvm.workers", lambda: made)
    monkeypatch.setattr("fml.engine.backends.table.workers", lambda: made)


def test_any_number_of_workers_leaves_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    fields = {
        "x": rng.standard_normal((48, 20, 20, 3)).astype(np.float32),
        "y": rng.integers(0, 5, 48).astype(np.int32),
    }
    left: list[dict[str, bytes]] = []
    for count in (1, 2, THREADS, 2):
        trainer = Trainer(lowered(NETWORK), {"d": {"train": fields}}, LlvmBackend(THREADS), 1)
        steps = trainer.steps
        steps.fill(trainer.moment, 0.0, 9)
        table = steps._loop
        assert isinstance(table, Table)
        assert any(entry.is_shared for entry in table._entries)
        assert table.walk(9, count) == 9
        found = trainer.store.snapshot() | {"loss": steps.figures["loss"][:9]}
        left.append({name: value.tobytes() for name, value in found.items()})
    assert all(one == left[0] for one in left)


def test_a_table_of_more_workers_than_there_are_is_done_by_those(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a process that was forked and may use fewer cores: nobody waits for the others."""
    view, source = np.zeros((4, 3), np.float32), np.eye(9, 3, dtype=np.float32)
    order = np.arange(20).reshape(5, 4) % 9
    taken = Taken(view, np.zeros((5, 4, 3), np.float32))
    loop = LlvmBackend(THREADS).loop([], [Gathered(view, source, order)], [taken])
    made = Workers(1)
    monkeypatch.setattr("fml.engine.backends.table.workers", lambda: made)
    assert [loop.run(5) for _ in range(9)] == [5] * 9  # any of which tries another number
    np.testing.assert_array_equal(taken.table, source[order])


# --- who must meet -------------------------------------------------------------------------------

SPANS = st.lists(st.integers(0, 7).map(lambda n: (n, n + 1)), max_size=2).map(tuple)
ENTRIES = st.lists(
    st.builds(
        lambda reads, writes, is_shared: Entry(0, (), reads, writes, (), is_shared=is_shared),
        SPANS, SPANS, st.booleans(),
    ),
    max_size=9,
)  # fmt: skip


@settings(max_examples=300)
@given(ENTRIES)
def test_workers_meet_between_what_depends_and_nowhere_else(entries: list[Entry]) -> None:
    meets = meetings(entries)
    for late, second in enumerate(entries):
        for early, first in enumerate(entries[:late]):
            apart = first.is_shared or second.is_shared  # perhaps done by different workers
            if apart and first.conflicts(second):
                assert any(meets[early:late])
    for place in (n for n, meet in enumerate(meets) if meet):
        begin = max((n + 1 for n in range(place) if meets[n]), default=0)
        group, following = entries[begin : place + 1], entries[place + 1]
        assert any(
            one.conflicts(following) and (one.is_shared or following.is_shared) for one in group
        )


# --- signals and faults --------------------------------------------------------------------------


def test_what_a_worker_raises_reaches_the_caller() -> None:
    def job(worker: int) -> int:
        if worker == 1:
            raise ValueError("from a worker")
        return worker

    with pytest.raises(ValueError, match="from a worker"):
        Workers(2).run(job, 2, lambda: None)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no timers on this system")
def test_a_signal_is_heard_while_workers_work_and_they_are_waited_for() -> None:
    told, over = threading.Event(), threading.Event()

    def job(worker: int) -> int:
        assert told.wait(60), "nobody said to abandon it"
        over.set()
        return 0

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            Workers(1).run(job, 1, told.set)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert over.is_set()


def test_a_process_has_as_many_workers_as_it_may_use_cores() -> None:
    assert workers.workers().count == workers.cores() >= 1


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no timers on this system")
def test_signals_at_any_moment_leave_nobody_waiting() -> None:
    """Thousands of short jobs under a storm of signals: each is done whole, or was not begun."""
    made, begun, ended = Workers(2), [0, 0], [0, 0]
    is_armed, interrupted = [False], 0

    def job(worker: int) -> int:
        begun[worker] += 1
        ended[worker] += 1
        return 0

    def interrupt(number: int, frame: object) -> None:
        if is_armed[0]:
            is_armed[0] = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
        for _ in range(4000):
            try:
                is_armed[0] = True
                made.run(job, 2, lambda: None)
                is_armed[0] = False
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    made.run(job, 2, lambda: None)
    assert begun[0] == begun[1] == ended[0] == ended[1] > 0


def test_workers_take_subnormal_numbers_for_zero_and_others_do_not() -> None:
    made, least = Workers(2), np.full(2, 2e-38, np.float32)
    halves = [np.ones(2, np.float32) for _ in range(2)]

    def job(worker: int) -> int:
        np.multiply(least, np.float32(0.5), out=halves[worker])
        return 0

    made.run(job, 2, lambda: None)
    assert all((half == 0).all() for half in halves)
    assert (least * np.float32(0.5) == np.float32(1e-38)).all()


@pytest.mark.parametrize(
    "triple", ["x86_64-linux-gnu", "aarch64-linux-gnu", "aarch64-apple-darwin"]
)
def test_every_kind_of_machine_is_told_to(triple: str) -> None:
    host = replace(Host.native(), triple=triple, cpu="", features="")
    found = symbols(object_code(flusher_text(host), host))
    assert (found.defined, found.undefined) == ({"flush"}, set())


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="threads are given no signals here")
def test_a_signal_that_another_thread_is_given_is_heard_while_a_job_goes_on() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    abandoned = threading.Event()
    waited: list[bool] = []

    def job(worker: int) -> int:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        waited.append(abandoned.wait(timeout=60))
        return 0

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            Workers(1).run(job, 1, abandoned.set)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert waited == [True]
