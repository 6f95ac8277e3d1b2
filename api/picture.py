"""Pictures of a plan's graphs: `program.visualize` draws them, and notebooks show them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean, error
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Training

GraphName: TypeAlias = Literal["step", "init", "model", "measure", "data"]
GRAPHS = ("step", "init", "model", "measure", "data")


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph to look at: a notebook shows it, and `dot` is its text for Graphviz."""

    title: str
    dot: str = field(repr=False)

    def _repr_svg_(self) -> str:
        """Draw it for a notebook.

        Raises:
            FmlError: E0731, there is nothing to draw with.
        """
        from fml.engine.draw.render import svg

        return svg(self.dot)

    def write(self, path: Path) -> None:
        """Write a `.svg`, `.png`, `.pdf` or `.dot` file.

        Raises:
            FmlError: it cannot be drawn or written.
        """
        from fml.engine.draw.render import render

        render(self.dot, path)


def drawn(
    training: Training, file: str, graph: str, max_depth: int | None, *, unroll: bool
) -> Picture:
    """Draw a graph of a plan of a file; see `Program.visualize`.

    Raises:
        FmlError: E0734 and E0735, there is no such graph; E0735, no learners to unroll.
    """
    from fml.engine.draw.dot import to_dot
    from fml.engine.draw.sides import EACH_LEARNER, unrolled
    from fml.engine.passes.pipeline import readable

    shown, learner_of = readable(_graph_of(training, graph)), None
    if unroll:
        shown, learner_of = unrolled(shown, _learners_of(training))
    title = " · ".join(filter(None, (file, training.name and f"plan {training.name}", graph)))
    heading = str(training.learners) if training.learners else EACH_LEARNER
    dot = to_dot(shown, title, max_depth, learners=heading, learner_of=learner_of)
    return Picture(title, dot)


def _graph_of(training: Training, name: str) -> Graph:
    """Return the graph of that name; of several models, measurements or data sets, the first.

    Raises:
        FmlError: there is no graph of that name (E0734), or the plan has none (E0735).
    """
    if name not in GRAPHS:
        listed = "the graphs of a plan are " + ", ".join(GRAPHS)
        raise error(
            "E0734", f"there is no graph `{name}`", help=did_you_mean(str(name), GRAPHS) or listed
        )
    graphs = {
        "step": [training.step],
        "init": [training.init],
        "model": [model.graph for model in training.models],
        "measure": [measure.graph for measure in training.measures],
        "data": [dataset.graph for dataset in training.datasets.values()],
    }[name]
    if not graphs:
        raise error("E0735", f"the plan has no `{name}` graph", help="draw `step` instead")
    return graphs[0]


def _learners_of(training: Training) -> int:
    """Return how many learners one device has.

    Raises:
        FmlError: E0735, there are none, or nobody knows how many.
    """
    if training.learners is None:
        raise error("E0735", "the plan has no learners", help="draw it without unrolling them")
    if training.learners.per_device is None:
        span = training.learners.span
        diagnostic = Diagnostic(
            "E0735", "how many learners there are is found out by a run",
            (Mark(span),) if span else (), (),
            "write a number in place of `auto`, or draw one of them",
        )  # fmt: skip
        raise FmlError([diagnostic])
    return training.learners.per_device
