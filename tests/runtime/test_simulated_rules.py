"""What CUDA refuses, the simulated GPU refuses: streams, capture, and memory under way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from fml.engine.backends.simulated import SimulatedBackend
from fml.engine.backends.simulated_streams import CudaError, Kernel, SimulatedStream
from fml.engine.ops.record import Array


@dataclass
class Bench:
    """Two streams, and a kernel that adds one to a number."""

    backend: SimulatedBackend
    one: SimulatedStream
    two: SimulatedStream
    number: Array
    add: Kernel


def bench(seed: int = 0) -> Bench:
    backend = SimulatedBackend(seed)
    number = np.zeros((), np.int64)

    def start() -> Callable[[], None]:
        value = number + 1
        return lambda: np.copyto(number, value)

    add = Kernel(backend.device, start, (number,), (number,))
    return Bench(backend, backend.stream(), backend.stream(), number, add)


# --- streams and events --------------------------------------------------------------------------


def test_enqueueing_does_not_wait() -> None:
    """When the host comes back, any part of the work may be done, and not all must be."""
    seen: set[int] = set()
    for seed in range(40):
        b = bench(seed)
        for _ in range(4):
            b.one.enqueue(b.add)
        seen.add(int(b.number))
        b.one.synchronize()
        assert b.number == 4
    assert seen >= {0, 1, 2}


def test_an_event_is_behind_the_work_added_so_far() -> None:
    left: set[int] = set()
    for seed in range(40):
        b = bench(seed)
        b.one.enqueue(b.add)
        event = b.one.record()
        b.one.enqueue(b.add)
        event.synchronize()
        assert b.number in (1, 2)
        left.add(int(b.number))
        b.one.synchronize()
    assert left == {1, 2}


def test_streams_are_in_no_order_without_events() -> None:
    """Both read 0 before either writes 1: an addition is lost."""

    def total(seed: int, waits: bool) -> int:
        b = bench(seed)
        b.one.enqueue(b.add)
        if waits:
            b.two.wait(b.one.record())
        b.two.enqueue(b.add)
        b.one.synchronize()
        b.two.synchronize()
        return int(b.number)

    assert {total(seed, waits=False) for seed in range(60)} == {1, 2}
    assert {total(seed, waits=True) for seed in range(60)} == {2}


def test_a_graph_does_nothing_until_it_is_launched_and_then_all_of_it() -> None:
    b = bench()
    b.one.enqueue(b.add)
    b.one.begin_capture()
    b.one.enqueue(b.add)
    b.two.wait(b.one.record())
    b.two.enqueue(b.add)
    b.one.wait(b.two.record())
    graph = b.one.end_capture()
    b.one.synchronize()
    assert b.number == 1
    for _ in range(3):
        graph.launch(b.one)
    b.one.enqueue(b.add)
    b.one.synchronize()
    assert b.number == 8
    b.two.enqueue(b.add)  # it has left the capture too
    b.two.synchronize()
    assert b.number == 9


# --- what is refused -----------------------------------------------------------------------------


def capturing(b: Bench) -> None:
    b.one.begin_capture()
    b.one.enqueue(b.add)


def forked(b: Bench) -> None:
    capturing(b)
    b.two.wait(b.one.record())
    b.two.enqueue(b.add)


def old_event(b: Bench) -> None:
    capturing(b)
    event = b.one.record()
    b.one.end_capture()
    b.two.wait(event)


def no_fork(b: Bench) -> None:
    """Without the event, its work is done, not captured; the graph cannot wait for that."""
    capturing(b)
    b.two.enqueue(b.add)
    b.one.wait(b.two.record())


def no_join(b: Bench) -> None:
    forked(b)
    b.one.end_capture()


def joined_too_early(b: Bench) -> None:
    forked(b)
    b.one.wait(b.two.record())
    b.two.enqueue(b.add)
    b.one.end_capture()


def event_of_before(b: Bench) -> None:
    event = b.two.record()
    capturing(b)
    b.one.wait(event)


def after_an_error(b: Bench) -> None:
    with pytest.raises(CudaError, match="cudaErrorStreamCaptureUnsupported"):
        DURING_CAPTURE["reading"](b)
    b.one.enqueue(b.add)


def ended_after_an_error(b: Bench) -> None:
    with pytest.raises(CudaError, match="cudaErrorStreamCaptureUnsupported"):
        DURING_CAPTURE["reading"](b)
    b.one.end_capture()


def under_way(use: Callable[[Bench], object]) -> Callable[[Bench], None]:
    def broken(b: Bench) -> None:
        for _ in range(20):  # so that some are left
            b.one.enqueue(b.add)
        use(b)

    return broken


def during_capture(use: Callable[[Bench], object]) -> Callable[[Bench], None]:
    def broken(b: Bench) -> None:
        capturing(b)
        use(b)

    return broken


DURING_CAPTURE: dict[str, Callable[[Bench], None]] = {
    "reading": during_capture(lambda b: b.backend.download(np.zeros(3))),
    "writing": during_capture(lambda b: b.backend.upload(np.zeros(3), np.zeros(3))),
    "allocating": during_capture(lambda b: b.backend.allocate(8)),
    "waiting for the stream": during_capture(lambda b: b.one.synchronize()),
    "waiting for another stream": during_capture(lambda b: b.two.synchronize()),
    "a launch on no stream": during_capture(lambda b: b.add()),
    "another capture": during_capture(lambda b: b.two.begin_capture()),
}
BROKEN: list[tuple[str, Callable[[Bench], None], str]] = [
    *((what, broken, "cudaErrorStreamCaptureUnsupported")
      for what, broken in DURING_CAPTURE.items()),
    ("waiting for a captured event", during_capture(lambda b: b.one.record().synchronize()),
     "cudaErrorCapturedEvent"),
    ("an event of a capture that is over", old_event, "cudaErrorCapturedEvent"),
    ("a stream that did not join", no_fork, "cudaErrorStreamCaptureIsolation"),
    ("an event of before the capture", event_of_before, "cudaErrorStreamCaptureIsolation"),
    ("a stream that is not joined", no_join, "cudaErrorStreamCaptureUnjoined"),
    ("work behind the join", joined_too_early, "cudaErrorStreamCaptureUnjoined"),
    ("an end without a beginning", lambda b: b.one.end_capture(),
     "cudaErrorStreamCaptureUnmatched"),
    ("an end on another stream", lambda b: (forked(b), b.two.end_capture()),
     "cudaErrorStreamCaptureUnmatched"),
    ("going on after an error", after_an_error, "cudaErrorStreamCaptureInvalidated"),
    ("an end after an error", ended_after_an_error, "cudaErrorStreamCaptureInvalidated"),
    ("reading what is written", under_way(lambda b: b.backend.download(b.number)),
     "cudaErrorNotReady"),
    ("writing what is used", under_way(lambda b: b.backend.upload(np.ones(()), b.number)),
     "cudaErrorNotReady"),
    ("a launch on no stream of what is used", under_way(lambda b: b.add()), "cudaErrorNotReady"),
    ("a call of Python's", lambda b: b.one.enqueue(lambda: None),
     "cudaErrorInvalidDeviceFunction"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "broken", "error"), BROKEN, ids=[b[0] for b in BROKEN])
def test_what_is_refused(what: str, broken: Callable[[Bench], None], error: str) -> None:
    with pytest.raises(CudaError) as caught:
        broken(bench())
    assert caught.value.name == error, what


def test_memory_that_nothing_writes_may_be_read() -> None:
    """And after the host has waited, all of it."""
    b = bench()
    source, target = np.arange(3), np.zeros(3, np.int64)
    for _ in range(20):
        b.one.enqueue(b.backend.copy(source, target))
    np.testing.assert_array_equal(b.backend.download(source), source)
    with pytest.raises(CudaError):
        b.backend.upload(np.ones(3), source)
    b.one.synchronize()
    b.backend.upload(np.ones(3), source)
    np.testing.assert_array_equal(b.backend.download(target), [0, 1, 2])


def test_after_a_capture_that_failed_all_goes_on() -> None:
    b = bench()
    with pytest.raises(CudaError):
        no_join(b)
    b.two.enqueue(b.add)
    b.two.synchronize()
    assert b.backend.download(b.number) == 1
