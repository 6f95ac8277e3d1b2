"""Elementwise records as machine code: numpy's numbers, to 2 ulp, on every kind of machine."""

import numpy as np
import pytest
from clustered import alone
from compare import ULPS, steps
from compiled import HOSTS, built
from interpret import dtype_of

from fml.engine.ir.types import BOOL, Element, Label, TensorType, tensor
from fml.engine.kernels.llvm.host import Host
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array, Op, OpTypeError
from fml.engine.ops.table import OPS
from fml.engine.plan.kernels import kernel_of

ELEMENTWISE = [op for op in OPS.values() if op.scalar is not None]
NUMBERS = [element for element in Element if element is not BOOL]
ODD = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan, 88.0, -104.0)
COUNT = 500


def odd_values(element: object, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if element is BOOL:
        return rng.integers(0, 2, COUNT).astype(bool)
    if isinstance(element, Label):
        return rng.integers(0, 3, COUNT).astype(np.int32)
    assert isinstance(element, Element)
    if not element.is_float:
        small = rng.integers(0 if element is Element.U8 else -9, 10, COUNT)
        limits = np.iinfo(dtype_of(element))
        small[::50], small[25::50] = limits.min, limits.max
        return small.astype(dtype_of(element))
    made = rng.standard_normal(COUNT) * 10.0 ** rng.integers(-3, 4, COUNT)
    made[: len(ODD) * 14] = np.roll(np.repeat(ODD, 14) if seed else np.tile(ODD, 14), seed)
    with np.errstate(all="ignore"):
        return stored(made.astype(dtype_of(element)), TensorType(element))


def typed(op: Op, element: Element) -> list[TensorType] | None:
    """The types of the inputs where the element stands in for floats, if the record takes them."""
    for sample in op.samples(np.random.default_rng(0)):
        types = [t.with_element(element) if t.is_float else t for t in sample.types]
        types = [tensor(t.element, COUNT) for t in types]
        try:
            op.infer(types, sample.attributes)
        except OpTypeError:
            continue
        return types
    return None


CASES = [
    pytest.param(op, types, id=f"{op.name}-{element}")
    for op in ELEMENTWISE
    for element in NUMBERS
    if (types := typed(op, element)) is not None
]


@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
@pytest.mark.parametrize(("op", "types"), CASES)
def test_elementwise_records_agree_with_numpy(op: Op, types: list[TensorType], host: Host) -> None:
    result = op.infer(types, {})
    kernel = kernel_of(*alone(op.name, types, {}, result), "kernel", host)
    arrays = [odd_values(t.element, seed) for seed, t in enumerate(types)]
    found = np.zeros(result.sizes, result.dtype)
    built(kernel, host)([*arrays, found])
    wanted = computed(op, arrays, {}, result)
    if not result.is_float:
        np.testing.assert_array_equal(found, wanted)
        return
    assert isinstance(result.element, Element)
    apart = steps(found, wanted, result.element)
    if op.name == "mod" and result.element is Element.F64:
        # What is left is told exactly as long as the quotient is.
        with np.errstate(all="ignore"):
            apart[~(np.abs(arrays[0].astype(np.float64) / arrays[1]) < 2.0**53)] = 0
    # numpy's own are within an ulp or two of the truth, and so are 16 bits rounded from f32.
    assert apart.max() <= ULPS.get(op.name, 2)
