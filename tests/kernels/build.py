"""Compiles kernels for the tests, and calls them with arrays."""

import ctypes
from collections.abc import Callable, Sequence

from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.record import Array

HOSTS = {name: Host.forced(name) for name in ("avx2", "baseline")} | {"native": Host.native()}

Called = Callable[[Sequence[Array], Sequence[int]], None]


def built(kernel: Kernel, host: Host) -> Called:
    """A function of arrays and sizes."""
    address = load(emit(kernel, host), host).address(kernel.name)
    arguments = [ctypes.c_void_p] * len(kernel.buffers) + [ctypes.c_int64] * len(kernel.sizes)
    function = ctypes.CFUNCTYPE(None, *arguments)(address)

    def call(buffers: Sequence[Array], sizes: Sequence[int] = ()) -> None:
        assert all(b.flags.c_contiguous for b in buffers)
        function(*(b.ctypes.data for b in buffers), *sizes)

    return call
