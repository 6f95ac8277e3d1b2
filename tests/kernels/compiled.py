"""Compiles kernels for the tests, and calls them with arrays."""

import ctypes
import mmap
from collections.abc import Callable, Sequence

import numpy as np

from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.record import Array

HOSTS = {name: Host.forced(name) for name in ("avx2", "baseline")} | {"native": Host.native()}

Called = Callable[[Sequence[Array], Sequence[int]], None]


def built(kernel: Kernel, host: Host) -> Called:
    """A function of arrays and sizes."""
    return _called(kernel, load(emit(kernel, host), host).address(kernel.name))


def built_together(kernels: Sequence[Kernel], host: Host) -> list[Called]:
    """The functions of kernels with different names, compiled as one module, which is faster."""
    texts = [emit(kernel, host).splitlines() for kernel in kernels]
    # Declarations and what holds for the module are written once.
    shared = {line for text in texts for line in text if line.startswith(_SHARED)}
    own = [line for text in texts for line in text if not line.startswith(_SHARED)]
    library = load("\n".join([*sorted(shared, reverse=True), *own]), host)
    return [_called(kernel, library.address(kernel.name)) for kernel in kernels]


_SHARED = ("target", "declare", "attributes")


def _called(kernel: Kernel, address: int) -> Called:
    arguments = [ctypes.c_void_p] * len(kernel.buffers) + [ctypes.c_int64] * len(kernel.sizes)
    function = ctypes.CFUNCTYPE(None, *arguments)(address)

    def call(buffers: Sequence[Array], sizes: Sequence[int] = ()) -> None:
        assert all(b.flags.c_contiguous for b in buffers)
        if kernel.parts and not sizes:
            sizes = (0, kernel.parts)  # all of them
        function(*(b.ctypes.data for b in buffers), *sizes)

    return call


class Fenced:
    """Memory between pages that must not be touched: whoever reads or writes beside it is stopped.

    An array lies at the beginning or at the end, so that every alignment of its entries comes up.
    """

    def __init__(self, like: Array, at_end: bool) -> None:
        page, size = mmap.PAGESIZE, max(like.nbytes, 1)
        inner = -(-size // page) * page
        self._map = mmap.mmap(-1, inner + 2 * page)
        raw = np.frombuffer(self._map, np.uint8)
        for start in (0, page + inner):
            assert not _PROTECT(raw.ctypes.data + start, page, 0)
        offset = page + inner - like.nbytes if at_end else page
        flat = raw[offset : offset + like.nbytes].view(like.dtype)
        self.array = flat.reshape(like.shape)
        self.array[...] = like


_PROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_PROTECT.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
