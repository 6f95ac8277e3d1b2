"""How many learners a plan has: so many a device, or as many as train fastest."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Training
from fml.engine.runtime.faults import StepRaised
from fml.engine.runtime.footprint import Footprint
from fml.engine.runtime.free_memory import available_nbytes
from fml.engine.runtime.section import Moment
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.watch import Listener

# A number of learners is tried for about so long, once everything is compiled and warm.
SECONDS_OF_A_TRIAL = 0.5
# Twice as many learners are taken if they are so many times as fast: trials differ by less, and
# more learners take more samples to get as far.
LEAST_RISE = 1.05


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

    def footprint(self) -> Footprint:
        """How much memory it takes."""
        ...


def decided(
    training: Training,
    begun: Callable[[Training], Begun],
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

    def tried(per_device: int) -> Trial:
        run = begun(with_learners(training, per_device))
        return Trial(samples_a_second(run.steps, run.moment), run.footprint().nbytes)

    choice = choose_learners(tried, available_nbytes())
    listener.noted(f"auto: {choice}")
    return with_learners(training, choice.per_device)


@dataclass(frozen=True, slots=True)
class Trial:
    """What so many learners came to: samples a second, and the bytes that their run takes."""

    speed: float
    nbytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of learners a device, and why.

    `speeds` are samples a second by the numbers that were tried, `bound` what speaks against more;
    where a single one raised at once, which the run will say, there are none.
    """

    per_device: int
    speeds: dict[int, float]
    bound: str

    def __str__(self) -> str:
        """Say it in a line."""
        speeds = (f"{n} {speed:,.0f}" for n, speed in self.speeds.items())
        if not self.speeds:
            return f"1 learner per device: {self.bound}"
        noun = "learner trains" if self.per_device == 1 else "learners train"
        return (
            f"{self.per_device} {noun} fastest per device, in samples a second: "
            f"{', '.join(speeds)}; {self.bound}"
        )


def choose_learners(tried: Callable[[int], Trial], available: int | None) -> Choice:
    """Try 1, 2, 4 ... learners a device as long as more are faster, and take the last that were.

    They end where twice the memory would be more than is `available` (bytes, None if that is not
    known), and where `tried` raises that there are too few samples or too little memory, or that an
    operation of a step raised. If one learner's does, it is taken: what it raises is the run's.

    Raises:
        FmlError: as `tried` raises of one learner that cannot begin; MemoryError likewise.
    """
    speeds: dict[int, float] = {}
    chosen, per_device, bound = 1, 1, ""
    while not bound:
        try:
            trial = tried(per_device)
        except (FmlError, MemoryError) as fault:
            bound = _bound(fault, per_device)
            if not bound or not (speeds or isinstance(fault, StepRaised)):
                raise
            break
        speeds[per_device] = trial.speed
        if per_device > 1 and trial.speed < LEAST_RISE * speeds[chosen]:
            bound = f"{per_device} are not {LEAST_RISE - 1:.0%} faster than {chosen}"
            break
        chosen, per_device = per_device, 2 * per_device
        if available is not None and 2 * trial.nbytes > available:
            bound = _no_memory(per_device)
    return Choice(chosen, speeds, bound)


def _bound(fault: Exception, per_device: int) -> str:
    """Say why so many learners cannot train; nothing for what has nothing to do with how many."""
    codes = {d.code for d in fault.diagnostics} if isinstance(fault, FmlError) else {"E0714"}
    if codes == {"E0520"}:
        return f"for {per_device} there are too few samples"
    if codes == {"E0714"}:
        return _no_memory(per_device)
    if isinstance(fault, StepRaised):
        return f"for {per_device}, {fault.diagnostics[0].message}"
    return ""


def _no_memory(per_device: int) -> str:
    return f"for {per_device} there is not enough memory"


def samples_a_second(steps: Steps, moment: Moment) -> float:
    """Take steps for a while, the first of which is not counted, and return how fast they were.

    Raises:
        StepRaised: an operation did, before any step could be counted.
    """
    taken = steps.run(moment, 0.0, 1)
    count, counted, seconds = 1, 0, 0.0
    while seconds < SECONDS_OF_A_TRIAL:
        begun = time.perf_counter()
        asked = min(count, steps.most)
        try:
            now = steps.run(replace(moment, step=moment.step + taken), 0.0, asked)
        except StepRaised:
            if not counted:
                raise
            break  # the steps before it are known, and the run will say it
        lasted = time.perf_counter() - begun
        taken, counted, seconds = taken + now, counted + now, seconds + lasted
        if now < asked:
            break  # a figure that is not finite: from here on every call would end at once
        left = max(0.0, SECONDS_OF_A_TRIAL - seconds)
        count = max(1, min(2 * count, int(left * counted / seconds)))
    return counted * moment.batch / seconds
