"""Variables of which each learner has its own: one array for all learners."""

from itertools import pairwise

import numpy as np
import pytest

from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import Element, tensor
from fml.engine.plan.planner import lay_out
from fml.engine.runtime.executor import VariableStore
from tests.backends import current_backend, on_each_backend

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
