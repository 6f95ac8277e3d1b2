"""How far numbers may be from those of numpy."""

import numpy as np

from fml.engine.ir.types import Element
from fml.engine.ops.record import Array

# Where the record's own expression is a few ulp away from the truth.
ULPS = {"erf": 4, "sigmoid": 4}
DIGITS = {Element.F16: 10, Element.BF16: 7, Element.F32: 23, Element.F64: 52}
_LEAST = {Element.F16: -24, Element.BF16: -133, Element.F32: -149, Element.F64: -1074}


def steps(found: Array, wanted: Array, element: Element) -> Array:
    """How many numbers of the element lie between, at most; 0 where both are no number."""
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(all="ignore"):
        return np.where(same, 0, np.abs(found.astype(np.float64) - wanted) / one(wanted, element))


def one(number: Array, element: Element) -> Array:
    """The distance from a number of the element to the next."""
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(number.astype(np.float64)))
        return np.ldexp(1.0, np.maximum(exponent - 1 - DIGITS[element], _LEAST[element]))
