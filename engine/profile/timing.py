"""How long a loop takes for one iteration."""

import statistics
import time

from fml.engine.backends.interface import Loop

# Long enough that reading the clock and calling native code cost nothing.
_SECONDS_AT_ONCE = 2e-4
_LEAST_SAMPLES, _MOST_SAMPLES = 3, 15


def seconds_of(loop: Loop, budget: float) -> float:
    """The median seconds of an iteration, measured for about `budget` seconds.

    Short ones are repeated in one call. The first iteration, which finds nothing in the caches, is
    not counted.
    """
    once = _seconds(loop, 1)
    if once < budget:
        once = _seconds(loop, 1)
    repeats = max(1, int(_SECONDS_AT_ONCE / max(once, 1e-8)))
    fitting = int(budget / max(repeats * once, 1e-8))
    samples = max(_LEAST_SAMPLES, min(fitting, _MOST_SAMPLES))
    return statistics.median(_seconds(loop, repeats) for _ in range(samples))


def _seconds(loop: Loop, repeats: int) -> float:
    begun = time.perf_counter()
    loop.run(repeats)
    return (time.perf_counter() - begun) / repeats
