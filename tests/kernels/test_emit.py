"""What the LLVM emitter makes of a kernel does what the kernel says, on every kind of machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from compiled import HOSTS, built
from hypothesis import given, settings
from hypothesis import strategies as st
from interpret import dtype_of, interpret

from fml.engine.ir.types import BOOL, F32, Element, TensorType
from fml.engine.kernels.expr import (
    INDEX,
    NARROWING,
    PRIMITIVES,
    Apply,
    Buffer,
    Expr,
    Load,
    Local,
    Var,
    bits,
    compare,
    constant,
    convert,
    index,
    select,
    unary,
    wide,
)
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.subnormals import flusher
from fml.engine.kernels.loops import Assign, Declare, Fold, For, If, Kernel, Statement, Store
from fml.engine.kernels.packing import turned
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array

N, AT = Var("n"), Var("at")
FLOATS = (F32, Element.F64)
WHOLE = (Element.I32, INDEX, Element.U8)
EVERY = [*FLOATS, *WHOLE, BOOL, Element.F16, Element.BF16]
ODD = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1.5,
    3e9,
    -3e9,
    1e-40,
    8388609.5,
    float("nan"),
    float("inf"),
)
HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))


def over_lanes(lanes: int, body: Sequence[Statement]) -> For:
    return For(AT, index(0), N, tuple(body), lanes=lanes)


def values_of(element: Element, count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if element.is_float:
        made = rng.standard_normal(count) * 10
        made[: len(ODD)] = ODD[:count]
        with np.errstate(all="ignore"):
            return made.astype(dtype_of(element))
    if element is BOOL:
        return rng.integers(0, 2, count).astype(bool)
    limits = np.iinfo(dtype_of(element))
    made = rng.integers(limits.min, limits.max, count, dtype=dtype_of(element), endpoint=True)
    made[::5] = limits.min
    made[1::7] = limits.max
    return made


def agree(kernel: Kernel, host: Host, buffers: Sequence[Array], sizes: Sequence[int]) -> None:
    """The same bits as the interpreter makes; a NaN is a NaN."""
    wanted, found = ([b.copy() for b in buffers] for _ in range(2))
    interpret(kernel, wanted, sizes)
    built(kernel, host)(found, sizes)
    for want, have in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(have, want)


_FLOAT_ONLY = {
    "divide", "sqrt", "floor", "ceil", "round", "truncate", "fma", "multiply_add", "scale",
    "exponent", "significand",
}  # fmt: skip
_WHOLE_ONLY = {"and", "or", "xor", "shift_left", "shift_right", "not", "quotient", "remainder"}
_COMPARING = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}


def takes(function: str, element: Element) -> bool:
    if function in {"select", "convert", "bits"}:
        return False
    if function in NARROWING.values():
        return element is F32
    if function == "high_word":
        return element is Element.I32
    if element is BOOL:
        return function in {"and", "or", "xor", "not", "equal", "not_equal"}
    if function in _FLOAT_ONLY:
        return element.is_float
    return not (function in _WHOLE_ONLY and element.is_float)


def defined(function: str, given: Sequence[Expr]) -> tuple[Expr, ...]:
    """As many operands as a primitive takes, changed where it has no result for any number."""
    match function, given[: PRIMITIVES[function]]:
        case "quotient" | "remainder", [a, b]:
            one = constant(1, a.type)
            return a >> one, b | one  # the least by -1 has no quotient
        case "shift_left" | "shift_right", [a, b]:
            return a, b & constant(7, b.type)
        case "exponent", [a]:
            return (unary("abs", a),)
        case "significand", [a]:
            size = unary("abs", a)
            return (select((size > 0.0) & (size < np.inf), a, 1.4),)
        case "scale", [a, b]:
            power = unary("round", select(unary("abs", b) < 70.0, b * 2.0, 0.0))
            return select(unary("abs", a) < 0.01, 1.0, a), power
        case _, operands:
            return tuple(operands)


def rounds_twice(function: str, element: Element, host: Host) -> bool:
    """Whether a product and a sum are rounded each, for want of an instruction for both."""
    return function == "multiply_add" and element.is_float and not host.fuses


@HOST
@pytest.mark.parametrize("element", [*FLOATS, *WHOLE, BOOL], ids=str)
def test_every_primitive_is_what_numpy_makes_of_it(host: Host, element: Element) -> None:
    """All primitives of one element in one kernel, on numbers that are odd ones too."""
    functions = [f for f in PRIMITIVES if takes(f, element) and not rounds_twice(f, element, host)]
    given = [Buffer(f"in{k}", element) for k in range(3)]
    results = [Buffer(f"out{k}", BOOL if f in _COMPARING else element)
               for k, f in enumerate(functions)]  # fmt: skip
    body = []
    for function, out in zip(functions, results, strict=True):
        operands = defined(function, [Load(buffer, AT) for buffer in given])
        body.append(Store(out, AT, Apply(function, operands, out.element)))
    count = 301
    arrays = [np.roll(values_of(element, count, k), k * 3) for k in range(3)]
    arrays += [np.zeros(count, dtype_of(out.element)) for out in results]
    kernel = Kernel("primitives", (*given, *results), (over_lanes(16, body),), (N,))
    agree(kernel, host, arrays, [count])


@pytest.mark.parametrize("element", FLOATS, ids=str)
@pytest.mark.parametrize("function", ["fma", "multiply_add"])
def test_products_are_rounded_twice_only_where_they_are_said_to_be(
    function: str, element: Element
) -> None:
    given = [Buffer(f"in{k}", element) for k in range(3)]
    out = Buffer("out", element)
    value = Apply(function, tuple(Load(x, AT) for x in given), element)
    kernel = Kernel("twice", (*given, out), (over_lanes(4, [Store(out, AT, value)]),), (N,))
    arrays = [values_of(element, 40, k)[13:] for k in range(3)]
    found = np.zeros(27, dtype_of(element))
    built(kernel, HOSTS["baseline"])([*arrays, found], [27])
    twice = arrays[0] * arrays[1] + arrays[2]
    assert np.array_equal(found, twice) == rounds_twice(function, element, HOSTS["baseline"])


@HOST
@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("element", FLOATS, ids=str)
def test_extremes_of_constants_are_those_of_numpy(host: Host, element: Element, lanes: int) -> None:
    """A constant on either side, no number among them."""
    given, numbers = Buffer("in0", element), (1.0, float("nan"), float("-inf"))
    x = Load(given, AT)
    made = [
        Apply(function, operands, element)
        for function in ("maximum", "minimum")
        for number in (constant(number, element) for number in numbers)
        for operands in ((x, number), (number, x), (number, constant(2.0, element)))
    ]
    outs = [Buffer(f"out{k}", element) for k in range(len(made))]
    body = [Store(out, AT, value) for out, value in zip(outs, made, strict=True)]
    arrays = [values_of(element, 40), *(np.zeros(40, dtype_of(element)) for _ in outs)]
    agree(Kernel("extremes", (given, *outs), (over_lanes(lanes, body),), (N,)), host, arrays, [40])


@HOST
@pytest.mark.parametrize("source", EVERY, ids=str)
def test_conversions_are_those_of_numpy(host: Host, source: Element) -> None:
    """Between all elements, where the number fits."""
    count = 100
    given = values_of(source, count)
    if source.is_float:
        given = np.where(np.abs(given) < 100, np.abs(np.nan_to_num(given)), 3).astype(given.dtype)
    elif source in WHOLE:
        given = np.abs(given % 100).astype(given.dtype)
    targets = [element for element in EVERY if element is not source]
    buffer = Buffer("in0", source)
    outs = [Buffer(f"out{k}", b) for k, b in enumerate(targets)]
    body = [Store(o, AT, convert(Load(buffer, AT), wide(o.element))) for o in outs]
    arrays = [given, *(np.zeros(count, dtype_of(b)) for b in targets)]
    agree(Kernel("convert", (buffer, *outs), (over_lanes(16, body),), (N,)), host, arrays, [count])


@HOST
def test_every_half_is_read_and_written_as_it_is(host: Host) -> None:
    """All 65,536 of them, infinities, numbers below the normal ones and NaN among them."""
    given = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half, single = Buffer("in0", Element.F16), Buffer("out0", F32)
    back = Buffer("out1", Element.F16)
    body = [Store(single, AT, Load(half, AT)), Store(back, AT, Load(half, AT))]
    kernel = Kernel("halves", (half, single, back), (over_lanes(32, body),), (N,))
    call = built(kernel, host)

    def check() -> None:
        arrays = [given, np.zeros(len(given), np.float32), np.zeros(len(given), np.float16)]
        call(arrays, [len(given)])
        np.testing.assert_array_equal(arrays[1], given.astype(np.float32))
        np.testing.assert_array_equal(arrays[2], given)

    check()
    # Workers take subnormal numbers for 0, and halves are none.
    with ThreadPoolExecutor(1, initializer=flusher(Host.native())) as worker:
        worker.submit(check).result()


@HOST
@pytest.mark.parametrize("element", [Element.F16, Element.BF16], ids=str)
def test_singles_are_rounded_to_sixteen_bits_ties_to_even(host: Host, element: Element) -> None:
    """Around every bound between two numbers of 16 bits, and at random."""
    rng = np.random.default_rng(3)
    words = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    edges = np.arange(0, 1 << 32, 4096, dtype=np.uint64).astype(np.uint32)
    near = np.concatenate([edges, edges + np.uint32(1), edges - np.uint32(1)])
    given = np.concatenate([words, near]).view(np.float32)
    single, out = Buffer("in0", F32), Buffer("out0", element)
    kernel = Kernel(
        "rounded", (single, out), (over_lanes(32, [Store(out, AT, Load(single, AT))]),), (N,)
    )
    agreed = np.zeros(len(given), dtype_of(element))
    built(kernel, host)([given, agreed], [len(given)])
    np.testing.assert_array_equal(agreed, stored(given, TensorType(element)))


@HOST
def test_bits_are_kept(host: Host) -> None:
    pairs = ((F32, Element.I32), (Element.F64, INDEX))
    for one, other in pairs:
        there, back = Buffer("in0", one), Buffer("out0", one)
        turned = bits(bits(Load(there, AT), other) + 1, one)
        kernel = Kernel("bits", (there, back), (over_lanes(8, [Store(back, AT, turned)]),), (N,))
        given = np.array([1.0, 1.5, 3.0, 0.25, 7.0])
        found = np.zeros(5, dtype_of(one))
        built(kernel, host)([given.astype(found.dtype), found], [5])
        np.testing.assert_array_equal(found, np.nextafter(given.astype(found.dtype), 10))


@HOST
@given(
    count=st.integers(0, 200), lanes=st.sampled_from([4, 8, 16, 64]),
    combine=st.sampled_from(["add", "maximum", "minimum", "multiply"]),
)  # fmt: skip
@settings(max_examples=15)
def test_lanes_meet_in_one_total(host: Host, count: int, lanes: int, combine: str) -> None:
    """Whole numbers as floats, so that the order of a sum makes no difference."""
    given = np.random.default_rng(count).integers(1, 3, count).astype(np.float64)
    if combine == "multiply":
        given[30:] = 1
    source, out, total = (
        Buffer("in0", Element.F64),
        Buffer("out0", Element.F64),
        Local("t", Element.F64),
    )
    body = (
        Declare(total, constant(5, Element.F64)),
        over_lanes(lanes, [Fold(total, combine, Load(source, AT))]),
        Store(out, index(0), total),
    )
    agree(Kernel("total", (source, out), body, (N,)), host, [given, np.zeros(1)], [count])


@HOST
@given(count=st.integers(1, 70), shift=st.integers(-3, 3), step=st.sampled_from([-1, 0, 1, 2]))
@settings(max_examples=15)
def test_what_a_guard_excludes_is_not_touched(
    host: Host, count: int, shift: int, step: int
) -> None:
    """The interpreter says so where it would be: its arrays know where they end."""
    source, out = Buffer("in0", F32), Buffer("out0", F32)
    place = AT * step + shift
    inside = (place >= 0) & (place < N)
    body = [Store(out, AT, Load(source, place, inside, 7.5))]
    kernel = Kernel("guarded", (source, out), (over_lanes(16, body),), (N,))
    given = np.arange(count, dtype=np.float32)
    agree(kernel, host, [given, np.zeros(count, np.float32)], [count])


@HOST
def test_entries_are_scattered(host: Host) -> None:
    places, source, out = Buffer("in0", INDEX), Buffer("in1", F32), Buffer("out0", F32)
    body = [Store(out, Load(places, AT), Load(source, AT))]
    kernel = Kernel("scatter", (places, source, out), (over_lanes(16, body),), (N,))
    order = np.random.default_rng(0).permutation(77)
    agree(kernel, host, [order, values_of(F32, 77), np.zeros(77, np.float32)], [77])


@HOST
@pytest.mark.parametrize("element", [F32, Element.F64, Element.F16, Element.BF16, BOOL], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(35, 50), (8, 3), (1, 17), (16, 16)])
def test_a_matrix_is_turned_round(host: Host, element: Element, rows: int, columns: int) -> None:
    """In squares of a vector's entries, and nothing beside the matrix is written."""
    source, to = Buffer("in0", element), Buffer("out0", wide(element))
    body = turned(
        source, to, rows, columns, columns + 3, rows + 2, host.vector_bytes // 4,
        ((2, rows * (columns + 3), columns * (rows + 2)),),
    )  # fmt: skip
    before = values_of(element, 2 * rows * (columns + 3), rows)
    after = np.full(2 * columns * (rows + 2), 7, dtype_of(wide(element)))
    agree(Kernel("turn", (source, to), tuple(body)), host, [before, after], [])


@HOST
@pytest.mark.parametrize("count", [16, 37])
def test_lanes_for_which_a_condition_does_not_hold_are_left_out(host: Host, count: int) -> None:
    """They write nothing, read nothing, and keep their locals."""
    given, out, kept = Buffer("in0", F32), Buffer("out0", F32), Buffer("out1", F32)
    total = Local("total", F32)
    body = (
        Declare(total, Load(given, AT)),
        If(
            compare("less", AT, 11),
            (Assign(total, total * Load(given, AT + 5)), Store(out, AT, total)),
        ),
        Store(kept, AT, total),
    )
    arrays = [values_of(F32, count, 1), np.full(count, 7, np.float32), np.zeros(count, np.float32)]
    kernel = Kernel("chosen", (given, out, kept), (over_lanes(16, body),), (N,))
    agree(kernel, host, arrays, [count])
