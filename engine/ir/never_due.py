"""Warnings of updates that are never due: an `every` that is longer than the run (W0603)."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.graph import Node
from fml.engine.ir.source import Span
from fml.engine.ir.training import TOLERANCE, Duration, Stop, StopAfter, Unit, duration_of

_NOTHING: Mapping[Unit, float] = MappingProxyType({})


def never_due(
    nodes: Iterable[Node], stops: Iterable[Stop], steps: Mapping[Unit, float] = _NOTHING
) -> tuple[Diagnostic, ...]:
    """Warn of what the nodes of a step do `every` so often, but not before the run ends.

    `steps` is how many steps an epoch, a sample is, if that is known. Without it, only what is
    told in the same unit is compared.
    """
    every = list(nodes)
    ends = [stop.duration for stop in stops if isinstance(stop, StopAfter)]
    meetings = {node.guard for node in every if node.op == "learners_reduce"}
    found: dict[tuple[Duration, Span | None], Diagnostic] = {}
    for node in every:
        if node.op != "fires":
            continue
        due = duration_of(node.attributes)
        end = next((end for end in ends if _is_longer(due, end, steps)), None)
        if end is not None:
            known = end.unit in steps and end.unit is not due.unit
            after = f"{end} ({_steps(end, steps[end.unit]):,} steps)" if known else str(end)
            found[due, node.span] = _told(due, after, node.span, is_meeting=node.id in meetings)
    return tuple(found.values())


def _told(due: Duration, end: str, span: Span | None, *, is_meeting: bool) -> Diagnostic:
    note = "so the learners do not meet there, and what they share is left as it is"
    return Diagnostic(
        "W0603",
        f"`every {due}` is never due: the run ends after {end}",
        (Mark(span),) if span else (),
        (note,) if is_meeting else (),
        "let it be shorter (of a strategy, its `tau`), or the run longer",
    )


def _is_longer(due: Duration, end: Duration, steps: Mapping[Unit, float]) -> bool:
    """Whether a run is known to end before a duration has passed."""
    known = {**steps, Unit.STEPS: 1.0}
    if due.unit is end.unit is Unit.EPOCHS:
        known.setdefault(Unit.EPOCHS, 1.0)  # it ends in the next whole epoch at the latest
    if due.unit not in known or end.unit not in known:
        return False
    return _steps(due, known[due.unit]) > _steps(end, known[end.unit])


def _steps(duration: Duration, each: float) -> int:
    """After how many steps a duration has passed, of so many steps a unit."""
    return math.ceil(duration.amount * each - TOLERANCE)
