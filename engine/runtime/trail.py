"""The way back: variables as they were some steps ago, and which node spoiled them."""

import time
from dataclasses import dataclass, field, replace

from fml.engine.backends.interface import Backend, Launch
from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.graph import Node, Phase
from fml.engine.runtime.executor import VariableStore
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.steps import Steps

# Marks are made so often, and seldom enough that copying the variables takes no more than a share
# of the time. Going back takes as long again as all steps since the older one.
SECONDS_BETWEEN_MARKS = 0.25
SHARE_FOR_MARKS = 0.005


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps that were taken together."""

    moment: Moment
    seconds_before: float
    count: int


@dataclass(slots=True)
class _Mark:
    """A place for all variables, and the steps that were begun from there."""

    fill: Launch
    restore: Launch
    since: list[_Stretch] = field(default_factory=list[_Stretch])


class Trail:
    """Goes back: to a mark, and from there by steps that are taken again to the same bits.

    There are two marks, so that at least one step lies behind the older one: a step whose update
    overflows still reports a finite loss, and it is the next one that does not.
    """

    def __init__(self, steps: Steps, backend: Backend, store: VariableStore) -> None:
        """Take memory for the variables twice."""
        self._steps, self._backend, self._store = steps, backend, store
        self._marks = [_Mark(*store.second_place()) for _ in range(2)]  # the latest is last
        self._next = 0.0

    def begin(self, moment: Moment, seconds_before: float, count: int) -> None:
        """Remember that so many steps are about to be taken, and now and then the variables."""
        now = time.monotonic()
        if now >= self._next:
            self._marks.reverse()
            self._marks[-1].since.clear()
            self._marks[-1].fill()
            ended = time.monotonic()
            self._next = ended + max(SECONDS_BETWEEN_MARKS, (ended - now) / SHARE_FOR_MARKS)
        self._marks[-1].since.append(_Stretch(moment, seconds_before, count))

    def undo(self) -> None:
        """Go back to before the latest steps were begun."""
        latest = self._marks[-1]
        latest.restore()
        for stretch in latest.since[:-1]:
            self._steps.run(stretch.moment, stretch.seconds_before, stretch.count)

    def find_fault(self, series: str, value: float, failed: int) -> tuple[Moment, Diagnostic]:
        """Say why the figure of step `failed` is not finite, and go back to before it went wrong.

        Returns the moment that is gone back to, and E0703.
        """
        older, latest = self._marks
        oldest = older if older.since else latest
        oldest.restore()
        # From here on the other mark is where the variables were before a step.
        stretches, before = [*older.since, *latest.since], latest if oldest is older else older
        for stretch in stretches:
            for step in range(stretch.moment.step, stretch.moment.step + stretch.count):
                moment = replace(stretch.moment, step=step)
                before.fill()
                spoiled = self._store.not_finite()
                self._steps.run(moment, stretch.seconds_before, 1)
                if step == failed or self._store.not_finite() - spoiled:
                    before.restore()
                    node = self._first_not_finite(moment, stretch.seconds_before)
                    before.restore()
                    return moment, _diagnostic(series, value, failed, step, node)
        raise AssertionError(f"step {failed} is none of those taken since the marks")

    def _first_not_finite(self, moment: Moment, seconds_before: float) -> Node | None:
        """Take a step node by node; compiled code keeps no value of most nodes."""
        oracle = self._backend.oracle()
        section = Section(self._steps.section.graph, {}, oracle, self._store)
        self._steps.like(section, oracle).provide(moment, seconds_before)
        number = section.executable.first_not_finite()
        return None if number is None else section.graph[number]


def _diagnostic(series: str, value: float, step: int, origin: int, node: Node | None) -> Diagnostic:
    marks, notes = (), ()
    if node is not None:
        where = f" of `{node.scope}`" if node.scope else ""
        when = "" if origin == step else f", in step {origin}"
        notes = (f"the first value that is not finite is that of `{node.op}`{where}{when}",)
        marks = (Mark(node.span, "first here"),) if node.span else ()
    return Diagnostic(
        "E0703",
        f"{series} is {value} at step {step}",
        marks,
        notes,
        _way_out(origin, node),
    )


# What makes a value that is not finite of finite ones, and the way out.
_CAUSES = {
    "log": "the logarithm of 0 or less is not finite: `log(max(x, 1e-6))`, or a loss of logits",
    "divide": "something is divided by 0: `a / max(b, 1e-6)`, for b of at least 0",
    "sqrt": "the square root of less than 0 is no number: `sqrt(max(x, 0))`",
    "rsqrt": "the root of 0 or less is divided by: `rsqrt(max(x, 1e-6))`",
    "power": "this power has no finite value: see to its base with `max(x, 1e-6)`",
    "exp": "the exponential is too large for its element: `exp(min(x, 80))` in f32",
}


def _way_out(origin: int, node: Node | None) -> str:
    """Name the cause; before the first update, the rate is not to blame."""
    if origin or (node is not None and node.phase is Phase.UPDATE):
        return "lower the rate, warm it up, or clip the gradients with `clip_norm(1)`"
    cause = _CAUSES.get(node.op, "") if node is not None else ""
    if node is not None and node.phase is Phase.BACKWARD:
        cause = "a root, a norm or a logarithm has no finite gradient at 0: `sqrt(x + 1e-6)`"
    said = cause or "look at the data and at the first values of the parameters"
    return f"this is before any update, so the rate is not to blame: {said}"
