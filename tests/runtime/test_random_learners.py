"""Random plans of learners: planned without a race or a stall, and in any timing as one stream."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dsl.programs import lowered
from tests.runtime.test_simulated_learners import STEPS, assert_equal, left_by_numpy, simulated

CENTRAL, OWN = ("c0", "c1", "c2"), ("l0", "l1", "l2")
PLAN = """
data points = given {{ x: f64[3]; y: f64 }}
model line(x: f64[N, 3]) -> f64[N] {{
  param w: f64[3] ~ constant(0.3)
  x @ w
}}
train {{
  z = line()
{central}
  learners {learners} per device, staleness = {staleness} {{
    w = replica(z)
    feed x, y from points.train |> batch(4)
    loss = mse(w(x), y)
    state n: f64 ~ zeros
    n <- n + 1
{own}
{inside}
  }}
{below}
  stop after 6 steps
}}
"""
central, own = st.sampled_from(CENTRAL), st.sampled_from(OWN)


def states(names: Sequence[str]) -> str:
    return "\n".join(f"  state {name}: f64[2] ~ constant(0.{place + 1})"
                     for place, name in enumerate(names))  # fmt: skip


def when(condition: str, statement: str) -> str:
    return f"{condition} {{ {statement} }}" if condition else statement


inside = st.one_of(
    # A push, and what a learner computes of its own, with others' pushes or without.
    st.builds("{0} <- 0.5 * {0} + 0.1 * {1}".format, central, own),
    st.builds("{} <- 0.5 * {} + 0.1 * {} + 0.01 * loss".format, own, own, central | own),
    st.builds("{} <- {}".format, own, central),
)
inside = st.builds(when, st.sampled_from(["", "", "every 2 steps"]), inside)
below = st.one_of(
    st.builds("{0} <- 0.5 * {0} + 0.5 * mean(learners.{1}, over = learners)".format, central, own),
    st.builds("{0} <- 0.5 * {0} + 0.1 * {1}".format, central, central),
    st.builds("learners.{} <- 0.5 * learners.{} + 0.1 * {}".format, own, own, central),
    st.builds("learners.{} <- {}".format, own, central),
    st.builds("learners.{} <- 0.5 * roll(learners.{}, 1, over = learners)".format, own, own),
)
often = st.sampled_from(["every 1 step", "every 1 step", "every 2 steps"])
below = st.builds(when, often | st.builds("when sum({}) > 0.5".format, central), below)


@given(
    learners=st.integers(1, 4),
    devices=st.integers(1, 2),
    staleness=st.sampled_from(["0", "1", "unbounded"]),
    inside=st.lists(inside, min_size=1, max_size=5),
    below=st.lists(below, min_size=1, max_size=4),
    timing=st.integers(0, 99),
)
@settings(max_examples=50)
def test_any_plan_comes_to_its_end_with_the_bits_of_one_stream_where_it_has_them(
    learners: int,
    devices: int,
    staleness: str,
    inside: list[str],
    below: list[str],
    timing: int,
) -> None:
    """It has them at staleness 0; else the order of pushes is any, and all learners take all steps.

    Making a plan checks it for races and stalls.
    """
    training = lowered(
        PLAN.format(
            central=states(CENTRAL),
            own=states(OWN),
            learners=learners,
            staleness=staleness,
            inside="\n".join(inside),
            below="\n".join(below),
        )
    )
    run = simulated(training, timing, devices)
    for is_joined in (True, False):
        left = run.left(is_joined)
        if staleness == "0":
            assert_equal(left, left_by_numpy(training, devices))
        assert (left["learners.n"] == STEPS).all()
