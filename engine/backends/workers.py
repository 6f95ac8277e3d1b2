"""Threads that go through tables of kernels together, one for each core."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from queue import SimpleQueue

from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.subnormals import flusher

# A signal is heard so late at most.
_SECONDS_UNHEARD = 0.05

# Of a job, the number of the worker that does it; what it returns is handed back.
Job = Callable[[int], int]


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Call:
    """A job for the first `count` workers, and what came of it.

    `busy` is a lock that is held until it is over: nothing above locks can be waited for so that a
    signal's exception leaves it as it was.
    """

    job: Job
    count: int
    result: int = 0
    fault: BaseException | None = None
    busy: threading.Lock = field(default_factory=_locked)

    def wait(self) -> None:
        """Wait until it is over, or a signal's handler raises.

        A signal that another thread is given, or that comes right before the wait, does not end it:
        the interpreter then hears of it when it looks up next.
        """
        while not self.busy.acquire(timeout=_SECONDS_UNHEARD):
            pass


class Workers:
    """Threads that wait for jobs, each on a core of its own where the system allows it.

    They compute without subnormal numbers (`kernels/llvm/subnormals.py`).

    The caller waits in Python, so that signals reach it while native code runs. It hands its job to
    the first worker, who hands it on: a signal then finds a job begun whole or not at all.
    """

    def __init__(self, count: int) -> None:
        """Start `count` threads, which end with the process."""
        self.count = count
        self._flush = flusher(Host.native())
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._jobs = [SimpleQueue[Job]() for _ in range(count - 1)]
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        threading.Thread(target=self._lead, daemon=True).start()
        for number in range(1, count):
            threading.Thread(target=self._follow, args=(number,), daemon=True).start()

    def run(self, job: Job, count: int, abandon: Callable[[], None]) -> int:
        """Let the first `count` workers do a job; return what the first of them returns.

        Raises:
            BaseException: what the job raises, or a signal's handler: then `abandon` is called,
                and the workers are waited for all the same.
        """
        call = _Call(job, count)
        try:
            self._calls.put(call)
            call.wait()
        except BaseException as signal:
            self._settle(abandon)
            raise signal
        if call.fault is not None:
            raise call.fault
        return call.result

    def _settle(self, abandon: Callable[[], None]) -> None:
        """Wait until nothing of what was handed over is under way, whatever signals come."""
        while True:
            try:
                abandon()
                # Jobs are done in order: when this one is over, so are all before it.
                last = _Call(lambda worker: 0, 1)
                self._calls.put(last)
                last.wait()
            except BaseException:
                continue
            return

    def _lead(self) -> None:
        if self.count > 1:
            _pin(0)
        self._flush()
        while True:
            call = self._calls.get()
            followers = self._jobs[: call.count - 1]
            for jobs in followers:
                jobs.put(call.job)
            try:
                call.result = call.job(0)
            except BaseException as fault:
                call.fault = fault
            faults = [self._done.get() for _ in followers]
            call.fault = next((f for f in (call.fault, *faults) if f is not None), None)
            call.busy.release()

    def _follow(self, number: int) -> None:
        _pin(number)
        self._flush()
        while True:
            job = self._jobs[number - 1].get()
            try:
                job(number)
            except BaseException as fault:
                self._done.put(fault)
            else:
                self._done.put(None)


@cache
def workers() -> Workers:
    """The workers of this process: as many as it may use cores."""
    return Workers(cores())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # threads are not forked


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _pin(number: int) -> None:
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(threading.get_native_id(), {allowed[number % len(allowed)]})
    except OSError:
        return  # containers may forbid it; the system then places the thread
