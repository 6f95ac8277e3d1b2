"""How many learners a plan has: so many a device, or as many as train fastest."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Node
from fml.engine.ir.training import Feed, Training

# A number of learners is tried for about so long, once everything is compiled and warm.
SECONDS_OF_A_TRIAL = 0.5


def learners_of(training: Training, devices: int) -> int | None:
    """How many learners a plan has on so many devices; None for a plan without.

    Raises:
        ValueError: it is `auto per device`, and has not been chosen yet.
    """
    if training.learners is None:
        return None
    if training.learners.per_device is None:
        raise ValueError("`auto per device` stands for no number yet")
    return training.learners.per_device * devices


def with_learners(training: Training, per_device: int) -> Training:
    """The plan with so many learners a device."""
    assert training.learners is not None
    return replace(training, learners=replace(training.learners, per_device=per_device))


def is_of_learners(training: Training, feed: Feed) -> bool:
    """Whether each learner draws its own batches of a feed; else all see the same one."""

    def is_of_feed(node: Node) -> bool:
        drawn = (node.attributes["data"], node.attributes["split"])
        return drawn == (feed.data, feed.split) and node.attributes["field"] in feed.fields

    feeds = training.step.of_op("feed")
    return training.learners is not None and all(n.mapped for n in feeds if is_of_feed(n))


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of learners a device, and why: samples a second by the numbers that were tried."""

    per_device: int
    speeds: dict[int, float]

    def __str__(self) -> str:
        """Say it in a line."""
        speeds = (f"{n} {speed:,.0f}" for n, speed in self.speeds.items())
        noun = "learner" if self.per_device == 1 else "learners"
        return (
            f"auto: {self.per_device} {noun} per device train fastest, in samples a second: "
            f"{', '.join(speeds)}"
        )


def choose_learners(speed: Callable[[int], float], most: int) -> Choice:
    """Try 1, 2, 4 ... learners a device, up to `most`, and take those that train fastest.

    `speed` returns how many samples a second so many learners a device train; they end where it
    raises that there are too few samples for them.

    Raises:
        FmlError: as `speed` raises of one learner.
    """
    speeds: dict[int, float] = {}
    for per_device in (1 << power for power in range(most.bit_length())):
        try:
            speeds[per_device] = speed(per_device)
        except FmlError as fault:
            if not speeds or {d.code for d in fault.diagnostics} != {"E0520"}:
                raise
            break
    return Choice(max(speeds, key=lambda n: speeds[n]), speeds)


def samples_a_second(take: Callable[[int], int], samples: int) -> float:
    """Take steps for a while; `take` is given how many, and returns how many were taken.

    The first steps are not counted; `samples` are those of a step.
    """
    take(1)
    steps, count, passed = 0, 1, 0.0
    while passed < SECONDS_OF_A_TRIAL:
        begun = time.perf_counter()
        steps += take(count)
        lasted = time.perf_counter() - begun
        passed += lasted
        count = max(1, min(2 * count, math.ceil(count * SECONDS_OF_A_TRIAL / max(lasted, 1e-9))))
    return steps * samples / passed
