"""What a run comes to."""

from collections.abc import Mapping
from dataclasses import dataclass

from fml.engine.ir.diagnostics import Diagnostic
from fml.engine.ops.record import Array
from fml.engine.runtime.watch import Point, Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: its parameters and all other variables, and its figures.

    `variables` are those kept (`keep`), or the last; `figures` are the series on whole splits at
    the end; `stopped_by` says in words why it ended; `failure` is set where it had to.
    """

    variables: Mapping[str, Array]
    history: tuple[Point, ...]
    figures: Mapping[str, float]
    stopped_by: str
    progress: Progress
    interrupted: bool = False
    failure: Diagnostic | None = None
