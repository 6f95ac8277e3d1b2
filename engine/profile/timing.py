"""How long a loop takes for one iteration."""

import statistics
import time
from time import perf_counter

from fml.engine.backends.interface import Loop

# Of the process, where the system counts it finely: time in which others had the core is left out.
cpu_clock = time.process_time if hasattr(time, "CLOCK_PROCESS_CPUTIME_ID") else perf_counter
# Long enough that handing a call to another thread, some tens of microseconds, costs nothing.
_SECONDS_AT_ONCE = 2e-3
_GROWTH = 4
_LEAST_SAMPLES, _MOST_SAMPLES = 3, 15


def least_seconds_of(loop: Loop, budget: float) -> float:
    """The least seconds of an iteration that is short, measured for about `budget` seconds.

    Others who use the machine make it slower and never faster, and one of them can make a single
    iteration look long: that is believed of nothing that has not been seen several times. Of the
    time that passes and that of the process the lesser counts, so that who has a core for himself
    now and then, in turn with others, sees what it can do.
    """
    repeats = 1
    while any(_own_seconds(loop, repeats) < _SECONDS_AT_ONCE for _ in range(_LEAST_SAMPLES)):
        repeats *= _GROWTH
    least, end = _own_seconds(loop, repeats), cpu_clock() + budget
    while cpu_clock() < end:
        least = min(least, _own_seconds(loop, repeats))
    return least / repeats


def seconds_of(loop: Loop, budget: float) -> float:
    """The median seconds of an iteration, measured for about `budget` seconds.

    Short ones are repeated in one call. The first iteration, which finds nothing in the caches, is
    not counted.
    """
    repeats, taken = 1, _seconds(loop, 1)
    if taken < budget:
        taken = _seconds(loop, 1)
    while taken < min(budget / _LEAST_SAMPLES, _SECONDS_AT_ONCE):
        repeats *= _GROWTH
        taken = _seconds(loop, repeats)
    samples = max(_LEAST_SAMPLES, min(int(budget / taken), _MOST_SAMPLES))
    return statistics.median(_seconds(loop, repeats) for _ in range(samples)) / repeats


def _seconds(loop: Loop, repeats: int) -> float:
    begun = perf_counter()
    loop.run(repeats)
    return perf_counter() - begun


def _own_seconds(loop: Loop, repeats: int) -> float:
    begun = cpu_clock()
    passed = _seconds(loop, repeats)
    return min(passed, cpu_clock() - begun)
