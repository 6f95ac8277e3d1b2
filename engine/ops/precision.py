"""What numpy makes of elements: every operation is computed in at least 32 bits and rounded once.

bf16, which numpy does not have, is kept in f32 arrays whose entries are all bf16 numbers; f16 is
kept as it is and computed in f32. So products and sums of 16-bit floats add up in f32, as they do
on hardware that has them.
"""

from collections.abc import Sequence

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import F32, Element, TensorType
from fml.engine.ops.later import np
from fml.engine.ops.record import Array, Op

NARROW = frozenset({Element.F16, Element.BF16})


def computed(op: Op, inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    """Compute an operation that has a numpy implementation; may return a view of an input."""
    if op.compute is None:
        raise ValueError(f"`{op.name}` has nothing to compute: the runtime provides it")
    if result.element not in NARROW:
        return op.compute(tuple(map(_wide, inputs)), attributes, result)
    made = op.compute(tuple(map(_wide, inputs)), attributes, result.with_element(F32))
    return stored(made, result)


def stored(array: Array, type: TensorType) -> Array:
    """The numbers as a tensor of this type has them: those of bf16 rounded, halves to even."""
    with np.errstate(over="ignore"):
        kept = np.asarray(array).astype(type.dtype, copy=False)
    if type.element is not Element.BF16:
        return kept
    bits = kept.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    numbers = (rounded & np.uint32(0xFFFF0000)).view(np.float32)
    # The bits of a NaN may carry over into those of another number.
    return np.where(np.isnan(kept), kept, numbers)


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array
