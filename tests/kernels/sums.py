"""How far a sum of products may be from the exact one."""

import numpy as np

from fml.engine.ir.types import Element, TensorType
from fml.engine.kernels.expr import wide
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array

# The most that rounding to nearest changes a number by, relatively.
_EPSILON = {
    Element.F16: 2.0**-11, Element.BF16: 2.0**-8, Element.F32: 2.0**-24, Element.F64: 2.0**-53
}  # fmt: skip


def assert_close(found: Array, exact: Array, of_sizes: Array, terms: int, element: Element) -> None:
    """Require |error| <= 4 (sqrt(terms) + 1) eps sum|a b|, where `of_sizes` is that sum."""
    width = wide(element)
    bound = 4 * (np.sqrt(terms) + 1) * _EPSILON[width] * of_sizes
    if width is not element:
        # Rounded once more when it is stored; below 2^-14 f16 has steps of 2^-24.
        bound = bound + 2 * _EPSILON[element] * np.abs(exact) + 2.0**-24
    wrong = ~(np.abs(found.astype(np.float64) - exact) <= bound)
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} wrong, first {np.argwhere(wrong)[0]}"


def drawn(rng: np.random.Generator, *sizes: int, element: Element) -> Array:
    """Random numbers that do not begin where a vector would."""
    return unaligned(stored(rng.standard_normal(sizes), TensorType(element)))


def unaligned(array: Array) -> Array:
    """A copy that begins one entry behind where memory is given out."""
    room = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    room[...] = array
    return room
