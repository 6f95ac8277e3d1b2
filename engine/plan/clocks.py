"""What happens before what: vector clocks over streams (Fidge 1988, Mattern 1989).

Both who makes waits and who checks them walk the tasks of a few iterations with these clocks.

A few learners stand for all. Waits are the same for every learner, and but for `in_turn` nothing
tells one learner from another: so whether learner a's instance of one task happens before learner
b's instance of another depends on the two tasks, the iterations between, and on whether a is
before b, is b, or is behind b. Two learners show all three cases; three have one that is neither
first nor last.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fml.engine.plan.task import Streams, Task, Wait

ENOUGH_LEARNERS = 3

Clock = list[int]


class Clocks:
    """The clocks of all streams of some learners, while tasks are walked in their order.

    The time of a task is its place on its stream, counted over iterations: the same for the
    instances of all learners.
    """

    def __init__(self, tasks: Sequence[Task], streams: Streams, learners: int) -> None:
        """The first `learners` are those that are looked at."""
        few = replace(streams, learners=learners)
        self._tasks = tasks
        self._on = [
            [few.number(task, learner) for learner in range(learners)]
            if task.mapped
            else [few.number(task)]
            for task in tasks
        ]
        self._now: list[Clock] = [[0] * few.count for _ in range(few.count)]
        self._ended: list[dict[int, list[Clock]]] = []

    def begin_iteration(self) -> None:
        """Let the first task of another iteration be the next."""
        self._ended.append({})

    def begin(self, number: int, waits: Iterable[Wait] = ()) -> int:
        """Begin a task's instances, behind what is before them and what they wait for.

        Returns the time. Raises as `wait` does.
        """
        for stream in self._on[number]:
            self._now[stream][stream] += 1
        self._take_turns(number)
        for wait in waits:
            self.wait(number, wait)
        return self._now[self._on[number][0]][self._on[number][0]]

    def wait(self, number: int, wait: Wait) -> None:
        """Let the instances of the task that was begun wait for others.

        Raises:
            ValueError: these come later, so that nobody would ever run.
        """
        iteration = len(self._ended) - 1 - wait.before
        if iteration < 0:
            return
        if wait.task not in self._ended[iteration]:
            raise ValueError(f"task {number} waits for task {wait.task}, which comes later")
        ended = self._ended[iteration][wait.task]
        clocks = [self._now[stream] for stream in self._on[number]]
        if not self._is_own(number, wait.task, wait.all_learners):
            ended = [_latest(ended)] * len(clocks)
        for clock, other in zip(clocks, ended, strict=True):
            clock[:] = map(max, clock, other)
        self._take_turns(number)

    def end(self, number: int) -> None:
        """End the instances of the task that was begun: later ones may wait for them."""
        self._ended[-1][number] = [list(self._now[stream]) for stream in self._on[number]]

    def stream(self, number: int) -> int:
        """Return the stream of a task: the first learner's stands for those of all."""
        return self._on[number][0]

    def now(self, number: int) -> dict[int, Clock]:
        """Return, by stream, what is before each instance of the task that was begun."""
        return {stream: list(self._now[stream]) for stream in self._on[number]}

    def known(self, number: int, other: int, all_learners: bool) -> int:
        """Return up to which time the other's stream is before the task that was begun.

        It is so for all instances of the two, or, where both are learners' and it is not about
        `all_learners`, for those of any one learner.
        """
        clocks = [self._now[stream] for stream in self._on[number]]
        if self._is_own(number, other, all_learners):
            return min(c[stream] for c, stream in zip(clocks, self._on[other], strict=True))
        return min(clock[stream] for clock in clocks for stream in self._on[other])

    def unordered(
        self, number: int, other: int, time: int, all_learners: bool
    ) -> Iterator[tuple[int | None, int | None]]:
        """Yield the learners whose instance of the other task, at a time, may not be before.

        Each with the learner whose instance of the task that was begun it may race with; None
        stands for what is central. The rest is as in `known`.
        """
        is_own = self._is_own(number, other, all_learners)
        for another, seen in self._instances(other):
            for learner, stream in self._instances(number):
                if self._now[stream][seen] < time and (learner == another or not is_own):
                    yield another, learner

    def _instances(self, number: int) -> Iterator[tuple[int | None, int]]:
        for learner, stream in enumerate(self._on[number]):
            yield (learner if self._tasks[number].mapped else None), stream

    def _is_own(self, number: int, other: int, all_learners: bool) -> bool:
        mapped = self._tasks[number].mapped and self._tasks[other].mapped
        return mapped and not all_learners

    def _take_turns(self, number: int) -> None:
        if not (self._tasks[number].in_turn and self._tasks[number].mapped):
            return
        clocks = [self._now[stream] for stream in self._on[number]]
        before = clocks[0]
        if len(self._ended) > 1:
            before = self._ended[-2][number][-1]
        for clock in clocks:
            clock[:] = map(max, clock, before)
            before = clock


def _latest(clocks: Sequence[Clock]) -> Clock:
    return [max(times) for times in zip(*clocks, strict=True)]
