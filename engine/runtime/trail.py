"""The way back: variables as they were some steps ago, and which node spoiled them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fml.engine.backends.interface import Backend
from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ir.graph import Node
from fml.engine.ir.training import Series
from fml.engine.ops.record import Array
from fml.engine.runtime.faults import Fault, StepRaised, diagnosed
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.steps import Steps
from fml.engine.runtime.variables import SecondPlace, VariableStore
from fml.engine.runtime.watch import Mean, add_figures

# Marks are made so often, and seldom enough that copying the variables takes no more than a share
# of the time. Going back takes as long again as all steps since the older one.
SECONDS_BETWEEN_MARKS = 0.25
SHARE_FOR_MARKS = 0.002


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps that are taken together; `means` are those of the epoch's figures before them."""

    moment: Moment
    seconds_before: float
    count: int
    means: Mapping[str, Mean] = field(default_factory=dict[str, Mean])


@dataclass(frozen=True, slots=True)
class Found:
    """Where a fault began: the moment that was gone back to, and the epoch's means then.

    `diagnostic` says what it was, `learners` whose, if it is not that of a central value.
    """

    moment: Moment
    means: Mapping[str, Mean]
    diagnostic: Diagnostic
    learners: tuple[int, ...]


@dataclass(slots=True)
class _Mark:
    """A place for all variables, and the steps that were begun from there."""

    place: SecondPlace
    since: list[Stretch] = field(default_factory=list[Stretch])


class Trail:
    """Goes back: to a mark, and from there by steps that are taken again to the same bits.

    There are two marks, so that at least one step lies behind the older one: a step whose update
    overflows still reports a finite loss, and it is the next one that does not.
    """

    def __init__(
        self, steps: Steps, backend: Backend, store: VariableStore, series: Sequence[Series]
    ) -> None:
        """Take memory for the variables twice; `series` are those of the steps' figures."""
        self._steps, self._backend, self._store = steps, backend, store
        self._series = series
        self._marks = [_Mark(store.second_place()) for _ in range(2)]  # the latest is last
        self._next = 0.0

    def begin(self, stretch: Stretch) -> None:
        """Remember that steps are about to be taken, and now and then the variables."""
        now = time.monotonic()
        if now >= self._next:
            self._marks.reverse()
            self._marks[-1].since.clear()
            self._marks[-1].place.fill()
            ended = time.monotonic()
            self._next = ended + max(SECONDS_BETWEEN_MARKS, (ended - now) / SHARE_FOR_MARKS)
        self._marks[-1].since.append(stretch)

    def remember(self, values: Mapping[str, Array]) -> None:
        """Set what a look between two steps leaves for the next one, and what no step touches.

        It holds in the marks too: whoever goes back there takes no look again.
        """
        for mark in self._marks:
            mark.place.put(values)
        self._store.restore(values)

    def undo(self) -> None:
        """Go back to before the latest steps were begun."""
        latest = self._marks[-1]
        latest.place.restore()
        for stretch in latest.since[:-1]:
            self._take_again(stretch, stretch.count, _copied(stretch.means))

    def before(self, fault: StepRaised) -> Found:
        """Go back to before the step in which an operation raised.

        It may raise in an earlier step when that is taken again (there is less memory now): then
        to before that.
        """
        latest = self._marks[-1]
        while True:
            latest.place.restore()
            try:
                return self._taken_again(latest.since, fault)
            except StepRaised as earlier:
                fault = earlier

    def _taken_again(self, stretches: Sequence[Stretch], fault: StepRaised) -> Found:
        """Take the steps before the one in which something raised, from a mark on."""
        for stretch in stretches:
            means = _copied(stretch.means)
            count = min(stretch.count, fault.step - stretch.moment.step)
            self._take_again(stretch, count, means)
            if count < stretch.count:
                learners = () if fault.learner is None else (fault.learner,)
                moment = replace(stretch.moment, step=fault.step)
                return Found(moment, means, fault.diagnostics[0], learners)
        raise AssertionError(f"step {fault.step} is none of those taken since the mark")

    def _take_again(self, stretch: Stretch, count: int, means: Mapping[str, Mean]) -> None:
        """Take so many steps of a stretch once more, and add their figures to the means.

        They were told to end perhaps, which whatever is taken next obeys: so until all are taken.
        """
        taken = 0
        while taken < count:
            moment = replace(stretch.moment, step=stretch.moment.step + taken)
            some = self._steps.run(moment, stretch.seconds_before, count - taken)
            add_figures(means, self._series, self._steps.figures, some)
            taken += some

    def find_fault(self, fault: Fault) -> Found:
        """Say why a figure is not finite, and go back to before it went wrong."""
        older, latest = self._marks
        if older.since:
            # The other way round: `undo` can still go back while the later one is made use of.
            older.since.extend(latest.since)
            self._marks.reverse()
            latest.since.clear()
        before, oldest = self._marks  # before: where the variables were before a step
        oldest.place.restore()
        for stretch in oldest.since:
            means = _copied(stretch.means)
            for step in range(stretch.moment.step, stretch.moment.step + stretch.count):
                moment = replace(stretch.moment, step=step)
                before.place.fill()
                spoiled = self._store.not_finite()
                self._steps.run(moment, stretch.seconds_before, 1)
                if step == fault.step or self._store.not_finite() - spoiled:
                    before.place.restore()
                    node, learner = self._first_not_finite(moment, stretch.seconds_before)
                    before.place.restore()
                    words = diagnosed(fault, step, node, learner)
                    return Found(moment, means, words, fault.learners)
                add_figures(means, self._series, self._steps.figures, 1)
        raise AssertionError(f"step {fault.step} is none of those taken since the marks")

    def begin_anew(self) -> None:
        """Forget the steps taken so far: the variables have become others."""
        for mark in self._marks:
            mark.since.clear()
        self._next = 0.0

    def _first_not_finite(
        self, moment: Moment, seconds_before: float
    ) -> tuple[Node | None, int | None]:
        """Take a step node by node; compiled code keeps no value of most nodes.

        Returns the node, and the learner whose value it is if each has its own. It stays unknown
        where that takes more memory than there is.
        """
        oracle = self._backend.oracle()
        section = Section(self._steps.section.graph, {}, oracle, self._store)
        try:
            self._steps.like(section, oracle).provide(moment, seconds_before)
            found = section.executable.first_not_finite()
        except MemoryError:
            found = None
        if found is None:
            return None, None
        node = section.graph[found[0]]
        return node, found[1] if node.mapped else None


def _copied(means: Mapping[str, Mean]) -> dict[str, Mean]:
    return {name: replace(mean) for name, mean in means.items()}
