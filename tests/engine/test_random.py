"""Random draws: the published generator, and what its words depend on."""

import numpy as np
import pytest

from fml.engine.ir.dims import Dim
from fml.engine.ir.types import F32, Element, tensor
from fml.engine.ops.philox import philox, random_words
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS

# The known answers that come with the generator (Random123, kat_vectors, philox4x32 10).
PHILOX = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "wanted"), PHILOX)
def test_philox_gives_the_published_words(counter: str, key: str, wanted: str) -> None:
    words = [int(word, 16) for word in counter.split()]
    low, high = (int(word, 16) for word in key.split())
    got = philox(np.array(words, np.uint32), (low, high))
    assert " ".join(f"{word:08x}" for word in got) == wanted


def uniform(
    seed: int = 0, learner: int = 0, step: int = 0, path: str = "a", element: Element = F32,
    size: int = 1000,
) -> Array:  # fmt: skip
    run = OPS["random_uniform"].compute
    assert run is not None
    attributes = {"path": path, "shape": (Dim.of(size),), "element": element}
    return run([np.array([seed, learner, step])], attributes, tensor(element, size))


def test_draws_depend_on_seed_learner_step_and_path() -> None:
    draws = [
        uniform(), uniform(seed=1), uniform(learner=1), uniform(step=1), uniform(step=1 << 32),
        uniform(path="b"),
    ]  # fmt: skip
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    np.testing.assert_array_equal(uniform(), uniform())


def test_entry_of_a_draw_does_not_depend_on_how_many_there_are() -> None:
    np.testing.assert_array_equal(uniform(size=7), uniform(size=1000)[:7])
    np.testing.assert_array_equal(
        random_words(3, 1, 4, "net.W", 5), random_words(3, 1, 4, "net.W", 4097)[:5]
    )


@pytest.mark.parametrize("element", [Element.F16, Element.BF16, F32, Element.F64], ids=str)
def test_draws_are_uniform_below_1(element: Element) -> None:
    draws = uniform(element=element, size=20_000).astype(np.float64)
    assert draws.min() >= 0
    assert draws.max() < 1
    # Kolmogorov-Smirnov at the 0.1 % level, and the grid of the narrowest element.
    distance = np.max(np.abs(np.sort(draws) - (np.arange(20_000) + 0.5) / 20_000))
    assert distance < 1.95 / np.sqrt(20_000) + 2.0**-8
