"""What keeps a run from going on: figures that are not finite, and operations that raise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark
from fml.engine.ir.graph import Node, Phase
from fml.engine.ir.training import Series
from fml.engine.ops.record import Array


@dataclass(frozen=True, slots=True)
class Fault:
    """A figure that is not finite, of which step, and of which learners where each has its own."""

    series: str
    value: float
    step: int
    learners: tuple[int, ...] = ()


class StepRaised(FmlError):
    """An operation raised in a step, as `raised` says.

    Attributes:
        step: in which step of the run.
        learner: of which learner, if each has its own.
    """

    def __init__(
        self, cause: BaseException | None, node: Node | None, learner: int | None, step: int
    ) -> None:
        """`node` is None for what is no node's."""
        self.step, self.learner = step, learner
        super().__init__([raised(cause, node, learner, step)])


def raised(
    cause: BaseException | None, node: Node | None, learner: int | None, step: int | None = None
) -> Diagnostic:
    """Say what an operation raised, and where it stands: E0714 for lack of memory, or E0715."""
    what = "a copy" if node is None else f"`{node.op}`"
    at = "" if step is None else f" at step {step}"
    when = at + in_words(() if learner is None else (learner,))
    marks = (Mark(node.span, "here"),) if node is not None and node.span else ()
    words = str(cause).strip()
    scope = (f"it is a part of `{node.scope}`",) if node is not None and node.scope else ()
    notes = (*scope, *((words,) if words else ()))
    if isinstance(cause, MemoryError):
        return Diagnostic(
            "E0714", f"there is not enough memory for {what}{when}", marks, notes,
            "make the batches or the model smaller; `fml summary FILE` tells what they need",
        )  # fmt: skip
    return Diagnostic(
        "E0715", f"{what} raised {type(cause).__name__}{when}", marks, notes,
        "look at what it is given there: the data, and the values that it is computed from",
    )  # fmt: skip


def first_fault(
    all_series: Iterable[Series], figures: Mapping[str, Array], step: int, count: int
) -> Fault | None:
    """The first figure of `count` steps from `step` on that is not finite.

    It need not be the last one: other learners may have gone on meanwhile. `figures` are by output,
    [steps] or [steps, learners].
    """
    faults: list[Fault] = []
    for series in all_series:
        values = figures[series.output][:count]
        finite = np.isfinite(values)
        if finite.all():
            continue
        wrong = ~finite.reshape(count, -1)
        row = int(np.argmax(wrong.any(axis=1)))
        (places,) = np.nonzero(wrong[row])
        learners = tuple(places.tolist()) if values.ndim > 1 else ()
        value = float(values[row].flat[places[0]])
        faults.append(Fault(series.name, value, step + row, learners))
    return min(faults, key=lambda fault: fault.step, default=None)


def diagnosed(fault: Fault, origin: int, node: Node | None, learner: int | None) -> Diagnostic:
    """Say which figure is not finite, and which node spoiled it in the step `origin`: E0703.

    `learner` is the one whose value of the node is meant.
    """
    marks, notes = (), ()
    if node is not None:
        where = f" of `{node.scope}`" if node.scope else ""
        whose = "" if learner is None else f" in learner {learner}"
        when = "" if origin == fault.step else f", in step {origin}"
        notes = (f"the first value that is not finite is that of `{node.op}`{where}{whose}{when}",)
        marks = (Mark(node.span, "first here"),) if node.span else ()
    return Diagnostic(
        "E0703",
        f"{fault.series} is {fault.value} at step {fault.step}{in_words(fault.learners)}",
        marks,
        notes,
        _way_out(origin, node),
    )


def in_words(learners: Sequence[int]) -> str:
    """` of learner 3`, ` of learners 0, 2 and 5`; nothing where there are none."""
    if not learners:
        return ""
    if len(learners) == 1:
        return f" of learner {learners[0]}"
    *some, last = map(str, learners)
    return f" of learners {', '.join(some)} and {last}"


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
