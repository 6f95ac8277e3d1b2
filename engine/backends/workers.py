"""Threads that go through tables of kernels together, one for each core."""

import os
import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue

# Of a job, the number of the worker that does it; what it returns is handed back.
Job = Callable[[int], int]


class Workers:
    """Threads that wait for jobs, each on a core of its own where the system allows it.

    The caller waits in Python, so that signals reach it while native code runs.
    """

    def __init__(self, count: int) -> None:
        """Start `count` threads, which end with the process."""
        self.count = count
        self._done: SimpleQueue[int | BaseException] = SimpleQueue()
        self._jobs = [SimpleQueue[Job]() for _ in range(count)]
        for number in range(count):
            threading.Thread(target=self._work, args=(number,), daemon=True).start()

    def run(self, job: Job, count: int, abandon: Callable[[], None]) -> int:
        """Let the first `count` workers do a job; return what the first of them returns.

        Raises:
            BaseException: what a signal's handler raises; `abandon` is called then, and the
                workers are waited for all the same.
        """
        for jobs in self._jobs[:count]:
            jobs.put(job)
        results: list[int | BaseException] = []
        interrupted: BaseException | None = None
        while len(results) < count:
            try:
                results.append(self._done.get())
            except BaseException as signal:
                interrupted = signal
                abandon()
        if interrupted is not None:
            raise interrupted
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return max(result for result in results if not isinstance(result, BaseException))

    def _work(self, number: int) -> None:
        if self.count > 1:
            _pin(number)
        while True:
            job = self._jobs[number].get()
            try:
                self._done.put(job(number))
            except BaseException as fault:
                self._done.put(fault)


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
