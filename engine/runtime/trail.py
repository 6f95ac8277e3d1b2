"""The way back: variables as they were before the last steps, and which node spoiled them."""

from collections.abc import Mapping
from dataclasses import dataclass

from fml.engine.backends.interface import Launch
from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.graph import Node
from fml.engine.ops.record import Array
from fml.engine.runtime.executor import VariableStore
from fml.engine.runtime.section import Moment, Section


@dataclass(slots=True)
class _Mark:
    """A place for all variables, and what the step that began there was given."""

    fill: Launch
    restore: Launch
    moment: Moment | None = None
    seconds_before: float = 0.0
    fields: Mapping[tuple[str, str], Array] | None = None


class Trail:
    """Goes back as far as two steps.

    One is not enough: a step whose update overflows still reports a finite loss, and it is the
    next one that does not.
    """

    def __init__(self, step: Section, store: VariableStore) -> None:
        """Take memory for the variables twice."""
        self._step, self._store = step, store
        self._marks = [_Mark(*store.second_place()) for _ in range(2)]  # the latest is last

    def begin(
        self,
        moment: Moment,
        seconds_before: float,
        fields: Mapping[tuple[str, str], Array],
    ) -> None:
        """Remember the variables, and give a step what it needs."""
        self._marks.reverse()
        mark = self._marks[-1]
        mark.moment, mark.seconds_before, mark.fields = moment, seconds_before, fields
        mark.fill()
        self._give(mark)

    def undo(self) -> None:
        """Go back to before the latest step."""
        self._marks[-1].restore()

    def find_fault(self, series: str, value: float) -> tuple[Moment, Diagnostic]:
        """Say why the latest step's figure is not finite, and go back to before it went wrong.

        Returns the moment that is gone back to, and E0703.
        """
        older, latest = self._marks
        mark = older if older.moment is not None and self._spoils(older) else latest
        mark.restore()
        self._give(mark)
        number = self._step.executable.first_not_finite()
        mark.restore()
        assert mark.moment is not None
        assert latest.moment is not None
        node = None if number is None else self._step.graph[number]
        failed = latest.moment.step
        return mark.moment, _diagnostic(series, value, failed, mark.moment.step, node)

    def _spoils(self, mark: _Mark) -> bool:
        """Whether a step leaves a variable that is not finite, and was before it."""
        mark.restore()
        before = self._store.not_finite()
        self._give(mark)
        self._step.run()
        return bool(self._store.not_finite() - before)

    def _give(self, mark: _Mark) -> None:
        assert mark.moment is not None
        assert mark.fields is not None
        self._step.feed(mark.fields)
        self._step.provide(mark.moment, mark.seconds_before)


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
        "lower the rate, warm it up, or clip the gradients with `clip_norm(1)`",
    )
