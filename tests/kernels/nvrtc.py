"""Compiles CUDA C with NVRTC, which needs no GPU, from the package that brings the library."""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, files

import pytest

from fml.engine.kernels.cuda.prelude import OPTIONS

_Function = Callable[..., int]
# Every program is made for both, machine code for one of them. PTX takes half the time, and half of
# that where it is not optimised.
OPS_FOR = ("sm_80", "compute_90")
STEPS_FOR = ("compute_80", "sm_90")
_QUICKLY = ("--Ofast-compile=max",)


@cache
def library() -> ctypes.CDLL | None:
    """NVRTC; None where its package is not installed, as on macOS, for which there is none."""
    try:
        found = files("nvidia-cuda-nvrtc") or []
    except PackageNotFoundError:
        return None
    name = next(f for f in found if f.name.startswith(("libnvrtc.so", "nvrtc64_")))
    return ctypes.CDLL(str(name.locate()))


NEEDED = pytest.mark.skipif(library() is None, reason="no NVRTC: `nvidia-cuda-nvrtc` is missing")


def is_virtual(architecture: str) -> bool:
    """Whether PTX is made for it, and no machine code."""
    return architecture.startswith("compute")


def taken(text: str, architecture: str) -> bytes:
    """The same of a program of which only machine code is to be good."""
    return compiled(text, architecture, *(_QUICKLY if is_virtual(architecture) else ()))


def compiled(text: str, architecture: str, *more: str) -> bytes:
    """The machine code of a program, or where that is asked for (`compute_80`) its PTX."""
    nvrtc = library()
    assert nvrtc is not None
    what = "PTX" if is_virtual(architecture) else "CUBIN"
    handle = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(handle), text.encode(), b"k.cu", 0, None, None))
    options = [f"-arch={architecture}", *OPTIONS, *more]
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    try:
        status = nvrtc.nvrtcCompileProgram(handle, len(options), given)
        log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, handle).rstrip(b"\0")
        assert status == 0, log.decode()[:4000]
        assert not log.strip(), f"a warning: {log.decode()[:4000]}"
        sizes, contents = (getattr(nvrtc, f"nvrtcGet{what}{end}") for end in ("Size", ""))
        return _read(sizes, contents, handle)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(handle))


def _read(size_of: _Function, contents: _Function, handle: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(handle, ctypes.byref(size)))
    room = ctypes.create_string_buffer(size.value)
    _check(contents(handle, room))
    return room.raw


def _check(status: int) -> None:
    assert status == 0, f"NVRTC's status is {status}"
