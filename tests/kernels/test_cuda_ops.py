"""Every operation as CUDA C: NVRTC compiles it for GPUs, and what it says, run on the CPU thread by
thread, is what numpy computes. Nothing here is run on a GPU.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import nvrtc
import on_host
import pytest
from clustered import alone
from compiled import Fenced
from larger import samples
from test_op_kernels import COMPUTED, Case, assert_agrees, case_of, stacked

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.cuda.emit import emit, program
from fml.engine.kernels.cuda.geometry import VECTOR_BYTES
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.record import Array, Op
from fml.engine.plan.kernels import plain_kernel_of

OP = pytest.mark.parametrize("op", COMPUTED, ids=lambda op: op.name)


@cache
def cases_of(op: Op) -> list[Case]:
    """Every sample, in f32 and in one more element by turns."""
    found: list[Case | None] = []
    for number, sample in enumerate(samples(op.name)):
        takes = op.has_given_type or any(t.is_float for t in sample.types)
        elements = {F32, list(Element)[number % len(Element)]} if takes else {F32}
        found += [case_of(op, sample, element) for element in sorted(elements, key=str)]
    return [case for case in found if case is not None]


def key_of(case: Case) -> object:
    """What cases of the same kernel have in common."""
    return tuple(case.types), repr(dict(case.attributes)), case.result


@cache
def kernels_of(op: Op) -> dict[object, Kernel]:
    """The different kernels of an operation."""
    cases = {key_of(case): case for case in cases_of(op)}
    return {key: kernel_of(c, f"kernel{n}") for n, (key, c) in enumerate(cases.items())}


def kernel_of(case: Case, name: str) -> Kernel:
    types, result = case.types, case.result
    if case.op.across_learners:
        types = [stacked(type) for type in types]
        result = result if case.op.reduces_learners else stacked(result)
    operation = alone(case.op.name, types, case.attributes, result)
    return plain_kernel_of(*operation, name, VECTOR_BYTES)


@nvrtc.NEEDED
@pytest.mark.parametrize("architecture", nvrtc.OPS_FOR)
@OP
def test_nvrtc_compiles_it(op: Op, architecture: str) -> None:
    printed = [emit(kernel) for kernel in kernels_of(op).values()]
    code = nvrtc.taken(program(printed), architecture)
    for kernel in printed:
        for launch in kernel.launches:
            assert launch.function.encode() in code
            assert 0 < launch.grid < 1 << 31
            assert np.prod(launch.block) <= 1024


@on_host.NEEDED
@OP
def test_it_computes_what_numpy_computes(op: Op, tmp_path: Path) -> None:
    kernels = kernels_of(op)
    calls = dict(zip(kernels, on_host.built(list(kernels.values()), tmp_path), strict=True))
    for case in cases_of(op):
        given = [Fenced(np.asarray(array), at_end=True).array for array in case.arrays]
        # What is not written is not what numpy has.
        found = np.full(case.wanted.shape, 77, case.wanted.dtype)
        on_host.both_ways(kernels[key_of(case)], calls[key_of(case)], given, [found])
        assert_agrees(replace(case, wanted=one_nan(case.wanted)), one_nan(found))


def one_nan(array: Array) -> Array:
    """The array with one kind of NaN: conversions to 16 bits have their own."""
    if array.dtype.kind != "f":
        return array
    return np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
