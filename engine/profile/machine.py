"""What one core of the machine can do at most: arithmetic in registers, and plain copies."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

import numpy as np

from fml.engine.backends.interface import Backend, Launch
from fml.engine.ir.types import F32, Element, tensor
from fml.engine.kernels.expr import Apply, Buffer, Load, Local, Var, constant, index
from fml.engine.kernels.loops import Assign, Declare, For, Kernel, Let, Store
from fml.engine.profile.timing import least_seconds_of

F64 = Element.F64
# Bytes that a copy reads and writes, together: in a core's second cache, a shared one, and memory.
COPIED = (1 << 18, 1 << 22, 1 << 26)
# A chain of multiply-adds takes some cycles for each of its links: so many chains fill the pipes.
_CHAINS = 12
_LINKS = 20_000
_MATRIX = 384
_BUDGET = 0.04


@dataclass(frozen=True, slots=True)
class Machine:
    """The most that one core was seen to do.

    Attributes:
        flops: floating-point operations a second, by element; a multiply-add is two.
        copies: bytes a second, read and written, of plain copies, by the bytes that they touch.
        by: what `flops` was measured with, in words.
    """

    flops: Mapping[Element, float]
    copies: Mapping[int, float]
    by: str

    def bandwidth(self, nbytes: int) -> float:
        """Bytes a second of a copy that touches so many bytes, between those measured.

        Caches are lost little by little: both logarithms are taken to be on a line.
        """
        sizes = sorted(self.copies)
        rates = [log(self.copies[size]) for size in sizes]
        return exp(float(np.interp(log(max(nbytes, 1)), [log(size) for size in sizes], rates)))

    def peak(self, element: Element) -> float:
        """Operations a second in an element; narrow floats and whole numbers count as f32."""
        return self.flops[F64 if element is F64 else F32]


# What a core of a server or a laptop of these years comes to in compiled loops, for estimates that
# must not depend on the machine that makes them.
TYPICAL = Machine(
    {F32: 5e10, F64: 2.5e10},
    dict(zip(COPIED, (5e10, 2.5e10, 1e10), strict=True)),
    "typical rates",
)


def measured(backend: Backend) -> Machine:
    """Measure this machine, by the means of a backend, in less than a second."""
    copies = {nbytes: nbytes / _seconds(_copy(backend, nbytes), backend) for nbytes in COPIED}
    if backend.name == "llvm":
        flops = {element: _register_flops(element, backend) for element in (F32, F64)}
        return Machine(flops, copies, "multiply-adds of registers")
    flops = {element: _product_flops(element, backend) for element in (F32, F64)}
    return Machine(flops, copies, "numpy's product of matrices")


def _seconds(launch: Launch, backend: Backend) -> float:
    return least_seconds_of(backend.loop((launch,)), _BUDGET)


def _copy(backend: Backend, nbytes: int) -> Launch:
    type = tensor(Element.U8, nbytes // 2)
    source, target = (backend.view(backend.allocate(type.nbytes), 0, type) for _ in range(2))
    # Memory that was never written is one page of zeros.
    backend.upload(np.ones((), np.uint8), source)
    return backend.copy(source, target)


def _product_flops(element: Element, backend: Backend) -> float:
    a, b, out = (np.ones((_MATRIX, _MATRIX), tensor(element).dtype) for _ in range(3))

    def product() -> None:
        np.matmul(a, b, out=out)

    return 2.0 * _MATRIX**3 / _seconds(product, backend)


def _register_flops(element: Element, backend: Backend) -> float:
    # Imported where it is sure to be there: `llvmlite` is not on every system.
    from fml.engine.backends.llvm import entry_of
    from fml.engine.kernels.llvm.compiled import Recipe, compiled
    from fml.engine.kernels.llvm.host import Host

    host, itemsize = Host.native(), tensor(element).dtype.itemsize
    vector = host.vector_bytes // itemsize
    recipe = Recipe(
        f"chains of multiply-adds, {element}, {_CHAINS} of {_LINKS} links",
        lambda name, host: _chains(name, element, host.vector_bytes // itemsize),
    )
    (kernel,) = compiled((recipe,), host)
    buffers = [np.zeros(count * vector, tensor(element).dtype) for count in (2, _CHAINS)]
    seconds = _seconds(entry_of(kernel, buffers[:1], buffers[1:], host), backend)
    return 2.0 * vector * _CHAINS * _LINKS / seconds


def _chains(name: str, element: Element, vector: int) -> Kernel:
    """Sums of products that never leave their registers."""
    x, out = Buffer("x", element), Buffer("out", element)
    lane, a, b = Var("lane"), Var("a", element), Var("b", element)
    sums = [Local(f"sum{n}", element) for n in range(_CHAINS)]
    links = [Assign(s, Apply("multiply_add", (s, a, b), element)) for s in sums]
    body = (
        Let(a, Load(x, lane)),
        Let(b, Load(x, lane + vector)),
        *(Declare(s, constant(0, element)) for s in sums),
        For(Var("link"), index(0), index(_LINKS), tuple(links)),
        *(Store(out, lane + n * vector, s) for n, s in enumerate(sums)),
    )
    lanes = For(lane, index(0), index(vector), body, lanes=vector)
    return Kernel(name, (x, out), (lanes,))
