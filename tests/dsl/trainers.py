"""Who takes the steps of a text in the tests: the reference, node by node, or the engine's plans.

A test `by_each_trainer` runs with all of them, `trained` with that of the running test.
"""

import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import pytest

from fml.engine.ops.record import Array
from tests.backends import BACKENDS, using
from tests.dsl import reference
from tests.dsl.programs import trained as by_the_engine

Fields = Mapping[str, Array]
_chosen: ContextVar[str] = ContextVar("trainer", default="reference")


@dataclass(frozen=True, slots=True)
class Run:
    """What a training came to: variables, stacked where learners have them, and figures at the end.

    `figures` are those of the plan's measures, by series.
    """

    variables: Fields
    figures: Mapping[str, float]


def trained(text: str, data: Mapping[str, Fields], learners: int, steps: int) -> Run:
    """Take so many steps of a text's plan with so many learners, whatever the text says."""
    text = re.sub(r"learners \d+ per device", f"learners {learners} per device", text)
    text = re.sub(r"stop after .*", f"stop after {steps} steps", text)
    if _chosen.get() == "reference":
        run = reference.trained(text, data, learners, steps)
        names = [series.name for measure in run.training.measures for series in measure.series]
        return Run(run.variables, {name: run.measured(name) for name in names})
    outcome = by_the_engine(text, data)
    assert outcome.failure is None
    assert outcome.progress.step == steps
    return Run(outcome.variables, outcome.figures)


@pytest.fixture(params=["reference", *BACKENDS])
def each_trainer(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each trainer, which is the current one meanwhile."""
    token = _chosen.set(request.param)
    try:
        with using("numpy" if request.param == "reference" else request.param):
            yield request.param
    finally:
        _chosen.reset(token)


by_each_trainer = pytest.mark.usefixtures("each_trainer")
