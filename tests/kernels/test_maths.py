"""Functions are at most 2 ulp from the truth, on a million inputs each.

The truth is numpy's function on numbers of twice the precision: f64 for f32, and the 64-bit
fractions of x86's long double for f64, which is enough to tell half an ulp from two.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from compiled import HOSTS, built
from interpret import dtype_of
from scipy import special

from fml.engine.ir.types import F32, Element
from fml.engine.kernels import angles, maths, powers
from fml.engine.kernels.expr import Buffer, Expr, Load, Var, index
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import For, Kernel, Store
from fml.engine.ops.record import Array

F64 = Element.F64
WIDER = {F32: np.float64, F64: np.longdouble}
AT, N = Var("at"), Var("n")
MILLION = 1_000_000
CLOSEST = 6381956970095103 * 2.0**797
HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
ELEMENT = pytest.mark.parametrize("element", [F32, F64], ids=str)

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="no long double to hold f64 against"
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def kernel_of(function: Callable[..., Expr], element: Element, count: int) -> Kernel:
    given = [Buffer(f"in{n}", element) for n in range(count)]
    out = Buffer("out", element)
    made = function(*(Load(buffer, AT) for buffer in given))
    loop = For(AT, index(0), N, (Store(out, AT, made),), lanes=16)
    return Kernel("function", (*given, out), (loop,), (N,))


def ulps(found: Array, exact: Array) -> Array:
    """How far a result is from the truth, in the distance of neighbours there."""
    wanted = exact.astype(found.dtype)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    apart = np.abs(found.astype(exact.dtype) - exact) / np.spacing(np.abs(wanted))
    return np.where(same & ~np.isfinite(wanted), 0, np.where(np.isnan(apart), np.inf, apart))


def every_kind(element: Element, low: float, high: float, near: float, count: int) -> Array:
    """Bits at random, numbers in a range, numbers near a point, and the odd ones."""
    rng = np.random.default_rng(17)
    whole = np.uint32 if element is F32 else np.uint64
    bits = rng.integers(0, np.iinfo(whole).max, count // 2, dtype=whole, endpoint=True)
    dtype = dtype_of(element)
    spread = rng.uniform(low, high, count // 4)
    close = near + rng.standard_normal(count // 4) * 10.0 ** rng.uniform(-12, 0, count // 4)
    # The last one is the angle of f64 that comes closest to a multiple of pi/2.
    odd = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, np.finfo(dtype).tiny, CLOSEST])
    return np.concatenate(
        [bits.view(dtype), spread.astype(dtype), close.astype(dtype), odd.astype(dtype)]
    )


def logistic(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def error_function(x: Array) -> Array:
    """In f64 as it is; beyond that the series where it is short, and else 1 - erfc."""
    if x.dtype == np.float64:
        return special.erf(x)
    size = np.minimum(np.abs(x), 7)
    term = total = np.minimum(size, 1.5)
    for n in range(1, 60):
        term = -term * np.minimum(size, 1.5) ** 2 / n
        total = total + term / (2 * n + 1)
    series = total * 2 / np.sqrt(np.longdouble(np.pi) + np.longdouble(1.2246467991473532e-16))
    far = 1 - special.erfc(size.astype(np.float64)).astype(np.longdouble)
    return np.copysign(np.where(np.isnan(x), x, np.where(size < 1.5, series, far)), x)


# Function, truth, range, and a point near which it is hard.
CASES = {
    "exp": (maths.exp, np.exp, -104, 89, 0.0),
    "expm1": (maths.expm1, np.expm1, -20, 89, 0.0),
    "log": (maths.log, np.log, 0, 1e4, 1.0),
    "log1p": (maths.log1p, np.log1p, -1, 1e4, 0.0),
    "tanh": (maths.tanh, np.tanh, -10, 10, 0.0),
    "sigmoid": (maths.sigmoid, logistic, -104, 40, 0.0),
    "softplus": (maths.softplus, lambda x: np.logaddexp(0, x), -104, 40, 0.0),
    "erf": (powers.erf, error_function, -7, 7, 1.0),
    "sin": (angles.sin, np.sin, -1000, 1000, 355.0),
    "cos": (angles.cos, np.cos, -1000, 1000, 699 * np.pi / 2),
    "sqrt": (maths.sqrt, np.sqrt, 0, 1e4, 1.0),
    "rsqrt": (maths.rsqrt, lambda x: 1 / np.sqrt(x), 0, 1e4, 1.0),
}


@HOST
@ELEMENT
@pytest.mark.parametrize("name", CASES)
def test_a_function_is_at_most_2_ulp_from_the_truth(
    name: str, element: Element, host: Host
) -> None:
    function, truth, low, high, near = CASES[name]
    count = MILLION if host is HOSTS["native"] else MILLION // 10
    x = every_kind(element, low, high, near, count)
    found = np.zeros_like(x)
    built(kernel_of(function, element, 1), host)([x, found], [len(x)])
    exact = truth(x.astype(WIDER[element]))
    apart = ulps(found, exact)
    worst = int(np.argmax(apart))
    assert apart[worst] <= 2, f"{name}({x[worst]!r}) = {found[worst]!r}, not {exact[worst]!r}"


@HOST
@pytest.mark.parametrize("name", ["sin", "tanh", "expm1", "log1p", "erf", "sqrt"])
def test_zero_keeps_its_sign(name: str, host: Host) -> None:
    for element in (F32, F64):
        x = np.array([0.0, -0.0], dtype_of(element))
        found = np.ones_like(x)
        built(kernel_of(CASES[name][0], element, 1), host)([x, found], [2])
        np.testing.assert_array_equal(np.signbit(found), [False, True])
        np.testing.assert_array_equal(found, [0, 0])


@HOST
@ELEMENT
def test_powers_are_at_most_2_ulp_from_the_truth(element: Element, host: Host) -> None:
    rng = np.random.default_rng(5)
    dtype, count = dtype_of(element), 300_000 if host is HOSTS["native"] else 30_000
    odd = np.array([0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30])
    bases = [
        np.exp(rng.normal(size=count) * 5),
        rng.normal(size=count),
        rng.uniform(0.9, 1.1, count),
    ]
    exponents = [
        rng.normal(size=count) * 10,
        rng.integers(-9, 9, count),
        rng.uniform(-900, 900, count),
    ]
    x = np.concatenate([*bases, np.repeat(odd, len(odd))]).astype(dtype)
    y = np.concatenate([*exponents, np.tile(odd, len(odd))]).astype(dtype)
    found = np.zeros_like(x)
    built(kernel_of(powers.power, element, 2), host)([x, y, found], [len(x)])
    exact = np.power(x.astype(WIDER[element]), y.astype(WIDER[element]))
    assert ulps(found, exact).max() <= 2
    zeros = found == 0
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(exact[zeros]))


@HOST
def test_remainders_of_f32_are_those_of_c(host: Host) -> None:
    """Numpy's remainder in f64 is C's, which is exact, brought to the sign of the divisor."""
    rng = np.random.default_rng(11)
    count = 300_000 if host is HOSTS["native"] else 30_000
    odd = np.array([0, -0.0, 1, -1, 3, 0.1, np.inf, -np.inf, np.nan, 1e-45, -3e38], np.float32)
    bits = rng.integers(0, 1 << 32, (2, count), dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits[0], rng.normal(size=count).astype(np.float32), np.repeat(odd, 11)])
    y = np.concatenate([bits[1], rng.normal(size=count).astype(np.float32), np.tile(odd, 11)])
    found = np.zeros_like(x)
    built(kernel_of(powers.modulo, F32, 2), host)([x, y, found], [len(x)])
    exact = np.mod(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(found, exact)
    np.testing.assert_array_equal(np.signbit(found[found == 0]), np.signbit(exact[found == 0]))
