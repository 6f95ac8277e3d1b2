"""Runs CUDA C without a GPU: compiled as C++ with `cuda_shim.h`, thread by thread."""

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fml.engine.ir.types import Element
from fml.engine.kernels.cuda.emit import Printed, emit
from fml.engine.kernels.cuda.geometry import Launch
from fml.engine.kernels.cuda.prelude import PRIMITIVES
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.record import Array

SHIM = Path(__file__).with_name("cuda_shim.h")
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
NEEDED = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler to run CUDA C on the CPU")
_OPTIONS = ("-std=c++17", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC")

# Arrays, sizes, and whether threads go backwards.
Called = Callable[[Sequence[Array], Sequence[int], bool], None]


def built(
    kernels: Sequence[Kernel], folder: Path, primitives: str = PRIMITIVES, level: str = "-O0"
) -> list[Called]:
    """The functions of kernels with different names, compiled together.

    Most run for less time than it takes to optimise them.
    """
    printed = [emit(kernel) for kernel in kernels]
    functions = (part for p in printed for part in (p.text, *map(_entry_point, p.launches)))
    text = "\n".join((f'#include "{SHIM}"', primitives, *functions))
    library = ctypes.CDLL(str(_compiled(text, folder, level)))
    return [_called(k, p, library) for k, p in zip(kernels, printed, strict=True)]


def _compiled(text: str, folder: Path, level: str) -> Path:
    assert COMPILER is not None
    source = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.cpp"
    library = source.with_suffix(".so")
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [COMPILER, *_OPTIONS, level, "-o", library, source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    return library


def _entry_point(launch: Launch) -> str:
    """A function that takes arguments as CUDA does, and launches."""
    name = launch.function
    return (
        f'extern "C" void launch_{name}(void **a, unsigned grid, int x, int y, int waits, '
        "int backwards) {\n"
        f"  host::launch([](void **a) {{ host::call({name}, a); }}, a, grid, x, y, waits, "
        "backwards);\n}\n"
    )


def _called(kernel: Kernel, printed: Printed, library: ctypes.CDLL) -> Called:
    def call(buffers: Sequence[Array], sizes: Sequence[int] = (), backwards: bool = False) -> None:
        stored = [_stored(a, b.element) for a, b in zip(buffers, kernel.buffers, strict=True)]
        pointers = (ctypes.c_void_p * (len(stored) + len(sizes)))(
            *(array.ctypes.data for array in stored), *sizes
        )
        waits = "_fold<" in printed.text or "__sync" in printed.text
        for launch in printed.launches:
            library[f"launch_{launch.function}"](
                pointers, ctypes.c_uint(launch.grid), *launch.block, waits, backwards
            )
        for array, kept, buffer in zip(buffers, stored, kernel.buffers, strict=True):
            if kept is not array:
                array[...] = _widened(kept, buffer.element)

    return call


def _stored(array: Array, element: Element) -> Array:
    """The array as a GPU has it: numbers of 16 bits have 16 bits, where numpy has f32 for bf16."""
    assert array.flags.c_contiguous
    if element is not Element.BF16:
        return array
    return np.asarray(array.view(np.uint32) >> 16).astype(np.uint16)


def _widened(array: Array, element: Element) -> Array:
    assert element is Element.BF16
    return (array.astype(np.uint32) << 16).view(np.float32)


def both_ways(
    kernel: Kernel, called: Called, given: Sequence[Array], results: Sequence[Array]
) -> None:
    """Fill the results with threads forwards, and require the same bits of threads backwards.

    Buffers that may be the same memory are.
    """
    first = len(given)
    found: list[list[Array]] = []
    for backwards in (False, True):
        arrays = [*given, *(array.copy() for array in results)]
        for place, result in kernel.shared:
            arrays[place] = arrays[result] = arrays[place].copy()
        called(arrays, (), backwards)
        found.append(arrays[first:])
    for result, one, other in zip(results, *found, strict=True):
        assert one.tobytes() == other.tobytes(), "the result depends on which thread comes first"
        result[...] = one
