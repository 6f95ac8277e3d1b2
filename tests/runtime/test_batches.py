"""Mini-batches: which samples each step has, and each learner of it."""

import numpy as np
import pytest

from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.training import Feed
from fml.engine.runtime.feeding import Batches


def batches(batch: int | None, seed: int = 0, shuffle: bool = True, samples: int = 10) -> Batches:
    feed = Feed("d", "train", ("x",), batch, shuffle)
    return Batches(feed, {"x": np.arange(samples), "z": np.zeros(samples)}, seed)


def epoch(made: Batches, number: int) -> list[int]:
    first = number * made.per_epoch
    return made.rows(first, made.per_epoch).reshape(-1).tolist()


@pytest.mark.parametrize("batch", [None, 1, 2, 5, 10])
def test_an_epoch_is_every_sample_once(batch: int | None) -> None:
    made = batches(batch)
    orders = [epoch(made, number) for number in range(5)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_batches_of_several_steps_are_those_of_each() -> None:
    made = batches(3, samples=11)
    several = batches(3, samples=11).rows(1, 10)  # over the ends of three epochs
    for place, step in enumerate(range(1, 11)):
        np.testing.assert_array_equal(several[place], made.rows(step, 1)[0])


def test_the_last_short_batch_is_dropped() -> None:
    made = batches(4)
    assert made.per_epoch == 2
    assert all(len(set(epoch(made, number))) == 8 for number in range(5))


def test_without_shuffle_samples_come_in_order() -> None:
    made = batches(4, shuffle=False)
    assert epoch(made, 0) == epoch(made, 7) == list(range(8))


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    begun, other = batches(2, seed=5), batches(2, seed=6)
    whole = [epoch(begun, number) for number in range(6)]
    assert epoch(batches(2, seed=5), 4) == whole[4]
    assert [epoch(begun, number) for number in (3, 1)] == [whole[3], whole[1]]
    assert epoch(other, 0) != whole[0]


def test_an_order_that_was_cut_short_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(np.random.Generator):
        def permutation(self, *arguments: object, **more: object) -> None:
            raise KeyboardInterrupt

    made, whole = batches(2), epoch(batches(2), 1)
    epoch(made, 0)
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "Generator", Cut)
        with pytest.raises(KeyboardInterrupt):
            epoch(made, 1)
    assert epoch(made, 1) == whole


@pytest.mark.parametrize(("batch", "samples"), [(11, 10), (1, 0), (None, 0)])
def test_batches_that_cannot_be(batch: int | None, samples: int) -> None:
    with pytest.raises(FmlError, match=r"E0520.*`train` of `d`"):
        batches(batch, samples=samples)


# --- of learners ---------------------------------------------------------------------------------


def of_learners(
    learners: int, batch: int | None, samples: int = 40, shuffle: bool = True
) -> Batches:
    feed = Feed("d", "train", ("x",), batch, shuffle)
    return Batches(feed, {"x": np.arange(samples)}, 3, learners)


@pytest.mark.parametrize("learners", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_learners_have_disjoint_batches_and_an_epoch_is_one_joint_pass(
    learners: int, batch: int
) -> None:
    made = of_learners(learners, batch)
    assert made.per_epoch == 40 // (learners * batch)
    for epoch in range(3):
        rows = made.rows(epoch * made.per_epoch, made.per_epoch)
        assert rows.shape == (made.per_epoch, learners, batch)
        assert len(np.unique(rows)) == rows.size == made.per_epoch * made.per_step
    whole = rows.size == 40
    assert whole == (40 % (learners * batch) == 0)


@pytest.mark.parametrize(("learners", "size"), [(1, 40), (2, 20), (3, 13), (40, 1)])
def test_without_a_batch_the_learners_share_the_split(learners: int, size: int) -> None:
    made = of_learners(learners, None)
    assert (made.size, made.per_step, made.per_epoch) == (size, size * learners, 1)
    assert made.rows(0, 2).shape == (2, learners, size)


def test_learners_take_the_samples_that_one_of_so_large_a_batch_would() -> None:
    apart, together = of_learners(4, 5).rows(1, 7), of_learners(1, 20).rows(1, 7)
    np.testing.assert_array_equal(apart.reshape(7, 20), together.reshape(7, 20))
    alone = Batches(Feed("d", "train", ("x",), 20, True), {"x": np.arange(40)}, 3).rows(1, 7)
    np.testing.assert_array_equal(alone, together.reshape(7, 20))


def test_a_learner_has_its_part_of_each_step() -> None:
    rows = of_learners(2, 3, samples=12, shuffle=False).rows(0, 2)
    np.testing.assert_array_equal(rows, [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]])


@pytest.mark.parametrize(
    ("learners", "batch", "said"),
    [
        (4, 16, r"4 batches of 16, one a learner.*`batch\(10\)` or less"),
        (64, 16, "64 learners are more than the split `train` of `d` has samples for"),
        (64, None, "64 learners are more than .*use 40 learners or fewer"),
        (1, 41, "a batch of 41 is larger"),
    ],
)
def test_batches_that_learners_cannot_have(learners: int, batch: int | None, said: str) -> None:
    with pytest.raises(FmlError, match="(?s)E0520.*" + said):
        of_learners(learners, batch)
