"""What is made of a record's nest computes what numpy does, driven by the table: every record that
computes has a nest, and a new one is tested by being there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from clustered import alone
from compare import DIGITS, ULPS, one
from compiled import HOSTS, Fenced, built_together
from larger import samples

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import F32, Element, TensorType, tensor
from fml.engine.kernels.expr import wide
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array, Op, OpTypeError, Sample
from fml.engine.ops.rules import as_dim
from fml.engine.ops.table import OPS
from fml.engine.plan.kernels import kernel_of

LEARNERS = 3
COMPUTED = [op for op in OPS.values() if op.compute is not None and not op.view]
# Of these, entries are added up (or multiplied) in an order of our own.
ADDING = {
    "sum", "product", "cumsum", "matmul", "partial_matmul",
    "conv", "conv_input_gradient", "conv_weight_gradient", "window_sum",
    "window_sum_adjoint", "max_pool_gradient", "max_pool_pick", "take_adjoint", "learners_reduce",
}  # fmt: skip
# Of these, entries stay what they are, to the sign of a zero.
MOVING = {
    "reshape", "transpose", "broadcast", "concat", "slice", "pad", "flip", "roll", "take",
    "stop_gradient", "assign", "constant", "learners_roll",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A call of an operation: its inputs, and what numpy makes of them."""

    op: Op
    arrays: list[Array]
    types: list[TensorType]
    attributes: Attributes
    result: TensorType
    wanted: Array

    def kernel(self, name: str, host: Host) -> Kernel:
        types, result = self.types, self.result
        if self.op.across_learners:
            types = [stacked(type) for type in types]
            result = result if self.op.reduces_learners else stacked(result)
        return kernel_of(*alone(self.op.name, types, self.attributes, result), name, host)


def stacked(type: TensorType) -> TensorType:
    return type.with_shape((as_dim(LEARNERS), *type.shape))


def case_of(op: Op, sample: Sample, element: Element) -> Case | None:
    """The sample with its floats in this element; None where the operation does not take it."""
    types = [t.with_element(element) if t.is_float else t for t in sample.types]
    try:
        if op.has_given_type:
            result = tensor(element, *np.shape(sample.attributes["value"]))
        else:
            result = op.infer(types, sample.attributes)
    except OpTypeError:
        return None
    with np.errstate(all="ignore"):
        arrays = [stored(a, t) for a, t in zip(sample.arrays, types, strict=True)]
    with np.errstate(all="ignore"):
        wanted = computed(op, arrays, sample.attributes, result)
    return Case(op, arrays, types, sample.attributes, result, wanted)


def cases_of(op: Op, host: Host) -> list[Case]:
    """Every sample: on this machine in f32 and one more element, elsewhere in one, by turns."""
    turn = list(HOSTS.values()).index(host)
    found: list[Case | None] = []
    for number, sample in enumerate(samples(op.name)):
        takes = op.has_given_type or any(t.is_float for t in sample.types)
        one = list(Element)[(number + 3 * turn) % len(Element)] if takes else F32
        elements = {F32, one} if host is Host.native() and op.scalar is None else {one}
        found += [case_of(op, sample, element) for element in sorted(elements, key=str)]
    return [case for case in found if case is not None]


def missing_nest(op: Op) -> bool:
    return (op.compute is None or op.view) != (op.nest is None)


def test_what_computes_has_a_nest() -> None:
    assert not [op.name for op in OPS.values() if missing_nest(op)]
    assert missing_nest(replace(OPS["sum"], nest=None))


@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
@pytest.mark.parametrize("op", COMPUTED, ids=lambda op: op.name)
def test_kernels_agree_with_numpy(op: Op, host: Host) -> None:
    cases = cases_of(op, host)
    kernels = [case.kernel(f"kernel{n}", host) for n, case in enumerate(cases)]
    for number, (case, call) in enumerate(zip(cases, built_together(kernels, host), strict=True)):
        given = [Fenced(array, at_end=number % 2 == 0).array for array in case.arrays]
        # What is not written is not what numpy has.
        found = Fenced(np.full(case.wanted.shape, 77, case.wanted.dtype), number % 3 > 0).array
        call([*given, found])
        assert_agrees(case, found)
        for array, before in zip(given, case.arrays, strict=True):
            assert array.tobytes() == before.tobytes(), "an input was written to"


def assert_agrees(case: Case, found: Array) -> None:
    about = f"{case.types} {dict(case.attributes)} -> {case.result}"
    if case.op.name in MOVING:
        assert found.tobytes() == np.ascontiguousarray(case.wanted).tobytes(), about
        return
    wanted = np.asarray(case.wanted)
    with np.errstate(all="ignore"):
        apart = np.abs(found.astype(np.float64) - wanted) if case.result.is_float else np.inf
        same = np.asarray(found == wanted)
        if case.result.is_float:
            same |= np.isnan(found) & np.isnan(wanted)
        within = same | (apart <= bound(case))
    if not within.all():
        np.testing.assert_array_equal(found, wanted, err_msg=about)


def bound(case: Case) -> Array | float:
    """How far each entry may be from numpy's."""
    if not isinstance(case.result.element, Element) or not case.result.is_float:
        return -1.0
    element, step = case.result.element, one(case.wanted, case.result.element)
    if case.op.scalar is not None:
        return ULPS.get(case.op.name, 2) * step
    if case.op.name not in ADDING:
        return -1.0
    rounded = step if wide(element) is not element else 0.0
    made = rounded + errors_of_sums(case, 2.0 ** -DIGITS[wide(element)])
    return np.where(np.isfinite(made), made, -1.0)


def errors_of_sums(case: Case, epsilon: float) -> Array:
    """4 (sqrt(K) + 1) epsilon times the sum of the K terms' sizes."""
    if case.op.name == "product":
        count = case.arrays[0].size / max(case.wanted.size, 1)
        return 4 * (np.sqrt(count) + 1) * epsilon * np.abs(case.wanted.astype(np.float64))
    sizes = [np.abs(a.astype(np.float64)) if t.is_float else a for a, t in inputs(case)]
    ones = [np.ones_like(a) if t.is_float else a for a, t in zip(sizes, case.types, strict=True)]
    if case.op.name in {"max_pool_gradient", "max_pool_pick"}:
        # Which entries are the largest is told by the last two.
        sizes[1:] = ones[1:] = [a.astype(np.float64) for a in case.arrays[1:]]
    count = np.maximum(in_f64(case, ones), 1)
    return 4 * (np.sqrt(count) + 1) * epsilon * in_f64(case, sizes)


def inputs(case: Case) -> list[tuple[Array, TensorType]]:
    return list(zip(case.arrays, case.types, strict=True))


def in_f64(case: Case, arrays: Sequence[Array]) -> Array:
    with np.errstate(all="ignore"):
        result = case.result.with_element(Element.F64)
        return np.abs(computed(case.op, arrays, case.attributes, result))
