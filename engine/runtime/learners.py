"""How many learners a plan has: so many a device, or as many as train fastest."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from fml.engine.backends.workers import cores
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Training
from fml.engine.runtime.section import Moment
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.watch import Listener

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


class Begun(Protocol):
    """A run of which steps can be taken."""

    steps: Steps
    moment: Moment


def decided(
    training: Training,
    begun: Callable[[Training], Begun],
    devices: int,
    listener: Listener,
    known: int | None = None,
) -> Training:
    """The plan with a definite number of learners a device, `auto` being what trains fastest.

    It is found by taking steps of runs that are `begun` and lost, unless it is `known`.

    Raises:
        FmlError: as `begun` raises of one learner.
    """
    if training.learners is None or training.learners.per_device is not None:
        return training
    if known is not None:
        return with_learners(training, known)

    def speed(per_device: int) -> float:
        run = begun(with_learners(training, per_device))
        return samples_a_second(run.steps, run.moment)

    choice = choose_learners(speed, max(1, 2 * cores() // devices))
    listener.noted(str(choice))
    return with_learners(training, choice.per_device)


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


def samples_a_second(steps: Steps, moment: Moment) -> float:
    """Take steps for a while, the first of which is not counted, and return how fast they were."""
    taken = steps.run(moment, 0.0, 1)
    count, counted, seconds = 1, 0, 0.0
    while seconds < SECONDS_OF_A_TRIAL:
        begun = time.perf_counter()
        now = steps.run(replace(moment, step=moment.step + taken), 0.0, min(count, steps.most))
        lasted = time.perf_counter() - begun
        taken, counted, seconds = taken + now, counted + now, seconds + lasted
        left = max(0.0, SECONDS_OF_A_TRIAL - seconds)
        count = max(1, min(2 * count, int(left * counted / seconds)))
    return counted * moment.batch / seconds
