"""Every f32 through the compiled functions of one number, against f64.

`python benchmarks/maths.py [function ...]`. For each function and all 2^32 inputs, in blocks: the
largest error in ulp (the distance of neighbours where the truth lies), and where it is. The truth
is numpy's f64 function, and scipy's of erf; sigmoid and softplus are put together of numpy's. It
fails where an error is above 2 ulp, or where a NaN or an infinity is missing or too many. A
function takes 20 seconds to a minute of a core that is free.
"""

import argparse
import ctypes
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fml.engine.ir.types import F32
from fml.engine.kernels import angles, maths, powers
from fml.engine.kernels.expr import Buffer, Expr, Load, Var, index
from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.loops import For, Kernel, Store
from fml.engine.ops.record import Array

AT_MOST = 2.0
BLOCK = 1 << 15  # what is made of it stays in the second cache
COUNT = 1 << 32
_ENDLESS, _NORMAL = 0x7F800000, 0x00800000  # bits of infinity and of the smallest normal number


@dataclass(frozen=True)
class Case:
    """A function's expression, and the truth, of f64 to f64."""

    made: Callable[[Expr], Expr]
    truth: Callable[[Array], Array]


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


CASES: Mapping[str, Case] = {
    "exp": Case(maths.exp, np.exp),
    "expm1": Case(maths.expm1, np.expm1),
    "log": Case(maths.log, np.log),
    "log1p": Case(maths.log1p, np.log1p),
    "tanh": Case(maths.tanh, np.tanh),
    "sigmoid": Case(maths.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": Case(maths.softplus, _softplus),
    "erf": Case(powers.erf, special.erf),
    "sin": Case(angles.sin, np.sin),
    "cos": Case(angles.cos, np.cos),
    "sqrt": Case(maths.sqrt, np.sqrt),
    "rsqrt": Case(maths.rsqrt, lambda x: 1 / np.sqrt(x)),
}


def compiled(case: Case, host: Host) -> Callable[[Array, Array], None]:
    """What fills the second array with the function of the first."""
    at, count = Var("at"), Var("n")
    given, out = Buffer("in0", F32), Buffer("out0", F32)
    loop = For(at, index(0), count, (Store(out, at, case.made(Load(given, at))),), lanes=16)
    text = emit(Kernel("function", (given, out), (loop,), (count,)), host)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    function = kind(load(text, host).address("function"))
    return lambda x, y: function(x.ctypes.data, y.ctypes.data, x.size)


def ulps(found: Array, exact: Array) -> Array:
    """How far results lie from the truth; infinity where only one of both is a finite number."""
    wanted = exact.astype(np.float32)
    # The bits of the exponent alone are 2^23 ulp, of small numbers those of the smallest normal.
    exponent = wanted.view(np.uint32) & np.uint32(_ENDLESS)
    unit = np.maximum(exponent, np.uint32(_NORMAL)).view(np.float32).astype(np.float64)
    apart = found.astype(np.float64)
    apart -= exact
    np.abs(apart, out=apart)
    apart /= unit
    apart *= 2.0**23
    if exponent.max() == _ENDLESS or not np.isfinite(apart.max()):
        ends = (exponent == _ENDLESS) | ~np.isfinite(apart)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        apart[ends] = np.where(same[ends], 0, np.inf)
    return apart


def worst(case: Case, host: Host) -> tuple[float, np.float32]:
    """The largest error of all inputs, and the first input that has it."""
    function = compiled(case, host)
    largest, place = -1.0, np.float32(0)
    found = np.empty(BLOCK, np.float32)
    for begin in range(0, COUNT, BLOCK):
        x = np.arange(begin, begin + BLOCK, dtype=np.uint32).view(np.float32)
        function(x, found)
        apart = ulps(found, case.truth(x.astype(np.float64)))
        at = int(np.argmax(apart))
        if apart[at] > largest:
            largest, place = float(apart[at]), x[at]
    return largest, place


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", nargs="*", metavar="function", help=", ".join(CASES))
    parser.add_argument("--level", choices=("native", "avx512", "avx2", "baseline"))
    given = parser.parse_args(arguments)
    unknown = [name for name in given.functions if name not in CASES]
    if unknown:
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(CASES)}")
    level = given.level or "native"
    host = Host.native() if level == "native" else Host.forced(level)
    missed = False
    print(f"{'':10} {'ulp':>6} {'at':>16} {'seconds':>8}")
    for name in given.functions or CASES:
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            largest, place = worst(CASES[name], host)
        bad = largest > AT_MOST
        missed |= bad
        seconds = time.perf_counter() - start
        mark = "  MISSED" if bad else ""
        print(f"{name:10} {largest:6.3f} {place!s:>16} {seconds:8.0f}{mark}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
