"""Variables of which each learner has its own: one array for all, and what it begins with."""

from itertools import pairwise

import numpy as np
import pytest

from fml.engine.ir.training import LEARNERS, STEPS_PER_EPOCH, Role, Variable
from fml.engine.ir.types import Element, tensor
from fml.engine.plan.planner import lay_out
from fml.engine.runtime.first_values import new_store
from fml.engine.runtime.variables import VariableStore
from tests.backends import current_backend, on_each_backend
from tests.dsl.programs import LINE, lowered

CENTRAL = Variable("z.W", tensor(Element.F32, 2, 3), Role.PARAM, trained=True)
REPLICA = Variable("w.W", tensor(Element.F32, 2, 3), Role.PARAM, True, True, "z.W")
SLOT = Variable("w.m", tensor(Element.F64), Role.SLOT, mapped=True)
ALL = {variable.name: variable for variable in (CENTRAL, REPLICA, SLOT)}


def stored(learners: int) -> VariableStore:
    return VariableStore(ALL, current_backend(), learners)


@pytest.mark.parametrize("learners", [1, 2, 5, 64])
def test_variables_of_all_learners_lie_behind_each_other_and_apart_from_all_others(
    learners: int,
) -> None:
    layout = lay_out(ALL.values(), learners)
    own = [layout.regions[name].of(n) for name in ("w.W", "w.m") for n in range(learners)]
    places = [layout.regions["z.W"], *own]
    taken = sorted((place.offset, place.offset + place.nbytes) for place in places)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(taken))
    assert taken[0][0] == 0
    assert taken[-1][1] <= layout.nbytes
    assert [place.offset - own[0].offset for place in own[:learners]] == [
        24 * n for n in range(learners)
    ]


@on_each_backend
def test_a_mapped_variable_has_an_axis_of_learners() -> None:
    store = stored(3)
    mine = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    store["w.W"], store["w.m"] = mine, np.asarray([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(store["w.W"], mine)
    values = store.snapshot()
    assert {name: value.shape for name, value in values.items()} == {
        "z.W": (2, 3), "w.W": (3, 2, 3), "w.m": (3,)
    }  # fmt: skip
    other = stored(3)
    other.restore(values)
    np.testing.assert_array_equal(other["w.m"], [1, 2, 3])
    np.testing.assert_array_equal(other["z.W"], np.zeros((2, 3)))


@on_each_backend
def test_one_learner_s_value_is_given_to_all() -> None:
    store, value = stored(4), np.arange(6, dtype=np.float32).reshape(2, 3)
    store["w.W"], store["w.m"] = value, np.asarray(7.0)
    np.testing.assert_array_equal(store["w.W"], np.stack([value] * 4))
    np.testing.assert_array_equal(store["w.m"], [7] * 4)


def test_the_model_is_what_no_learner_has_of_its_own() -> None:
    assert stored(2).model().keys() == {"z.W"}


@on_each_backend
def test_a_learner_s_value_that_is_not_finite_is_found() -> None:
    store = stored(3)
    store["w.m"] = np.asarray([0.0, np.inf, 0.0])
    assert store.not_finite() == {"w.m"}


# --- first values --------------------------------------------------------------------------------

TEXT = (
    LINE
    + """
train {{
  z = line()
  learners 2 per device {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    state n: f32[{size}] ~ {first}
    n <- n + 1
    minimize loss = mse(w(x), y)
    using momentum(0.1)
  }}
  use sma(learners.w, z)
  stop after 2 epochs
}}"""
)


def begun(learners: int, first: str = "normal(0, 1)", size: int = 4) -> VariableStore:
    training = lowered(TEXT.format(first=first, size=size))
    sizes = {str(STEPS_PER_EPOCH): 7, str(LEARNERS): learners}
    return new_store(training, current_backend(), 3, sizes)


@on_each_backend
def test_replicas_begin_as_their_central_model() -> None:
    store = begun(3)
    assert store["z.w"].any()
    np.testing.assert_array_equal(store["w.w"], np.stack([store["z.w"]] * 3))
    np.testing.assert_array_equal(store["momentum.w.w.m"], np.zeros((3, 3)))


@on_each_backend
def test_what_is_drawn_is_another_for_each_learner_whatever_their_number() -> None:
    two, five = begun(2)["learners.n"], begun(5)["learners.n"]
    assert five.shape == (5, 4)
    assert len(np.unique(five)) == 20
    np.testing.assert_array_equal(two, five[:2])
    np.testing.assert_array_equal(begun(1)["z.w"], begun(5)["z.w"])


@on_each_backend
def test_a_first_value_may_depend_on_the_number_of_the_learner() -> None:
    index = "cast(learners.index, f32)"
    own = begun(4, f"uniform({index}, {index} + 0.5)", size=100)["learners.n"]
    for learner in range(4):
        assert np.all((own[learner] >= learner) & (own[learner] <= learner + 0.5))


@on_each_backend
def test_what_is_not_drawn_is_computed_once_for_all() -> None:
    np.testing.assert_array_equal(begun(3, "ones")["learners.n"], np.ones((3, 4)))
