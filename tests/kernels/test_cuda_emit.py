"""Kernels as CUDA C: text, primitives, who does what, and what NVRTC makes of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import nvrtc
import on_host
import pytest
from interpret import dtype_of, interpret
from test_emit import FLOATS, ODD, WHOLE, defined, takes, values_of
from test_fusion import by_itself, folded, mapped, softmax_of

from fml.engine.ir.types import BOOL, F32, Element, TensorType, tensor
from fml.engine.kernels.composing import compose
from fml.engine.kernels.cuda.emit import NotPrinted, emit, program
from fml.engine.kernels.cuda.geometry import VECTOR_BYTES, Launch, Team, phases
from fml.engine.kernels.expr import (
    INDEX,
    Apply,
    Buffer,
    Expr,
    Load,
    Local,
    Var,
    binary,
    bits,
    constant,
    convert,
    fma,
    index,
    maximum,
    unary,
    wide,
)
from fml.engine.kernels.expr import (
    PRIMITIVES as OPERANDS,
)
from fml.engine.kernels.loops import Declare, For, Kernel, Let, Store, loop
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array

GOLDEN = Path(__file__).parent / "golden"
AT = Var("at")


def f32(*sizes: int) -> TensorType:
    return tensor(F32, *sizes)


def chain() -> Kernel:
    """max(w x + b, 0), b along the last axis."""
    types = f32(64, 100), f32(), f32(100)
    nest = mapped(lambda x, w, b: maximum(w * x + b, 0.0), (64, 100), *types)
    return compose(by_itself(nest), "chain", VECTOR_BYTES)


def total(*sizes: int, axes: Sequence[int] = (1,)) -> Kernel:
    return compose(by_itself(folded(f32(*sizes), axes, "add")), "total", VECTOR_BYTES)


KERNELS = {
    "chain": chain(),
    "softmax": compose(softmax_of(64, 100), "softmax", VECTOR_BYTES),
    "sum": total(300, 5000),
    "columns": total(400, 50, axes=(0,)),
}


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_cuda_c_as_text(name: str) -> None:
    printed = emit(KERNELS[name])
    text = printed.text + "".join(f"// {launch}\n" for launch in printed.launches)
    assert text == (GOLDEN / f"{name}.cu").read_text(encoding="utf-8")


def test_who_does_what() -> None:
    teams = {name: [phase.team for phase in phases(k)] for name, k in KERNELS.items()}
    assert teams == {
        "chain": [Team.THREAD], "softmax": [Team.WARP], "sum": [Team.BLOCK],
        "columns": [Team.COLUMN],
    }  # fmt: skip


def test_loops_one_after_another_are_launched_one_after_another() -> None:
    x, y = Buffer("x", F32), Buffer("y", F32)
    first = loop("i", 1000, [Store(x, AT, constant(1, F32))], AT)
    behind = Var("i")
    second = loop("i", 999, [Store(y, behind, Load(x, behind + 1))], behind)
    printed = emit(Kernel("both", (x, y), (first, second)))
    assert printed.launches == (Launch("both_0", 4, (256, 1)), Launch("both_1", 4, (256, 1)))


def test_kernels_in_parts_are_refused() -> None:
    begin, end = Var("begin"), Var("end")
    body = (For(AT, begin, end, (Store(Buffer("x", F32), AT, constant(1, F32)),)),)
    with pytest.raises(NotPrinted, match="in parts"):
        emit(Kernel("parted", (Buffer("x", F32),), body, (begin, end), parts=4))


def test_what_a_later_phase_would_read_changed_is_one_phase() -> None:
    """A name that is given to an entry of memory which a loop behind it overwrites."""
    x, y, first = Buffer("x", F32), Buffer("y", F32), Var("first", F32)
    filled = loop("at", 9, [Store(y, AT, first)], AT)
    apart = Kernel("named", (x, y), (Let(first, Load(x, index(0))), filled, filled))
    assert len(emit(apart).launches) == 2
    assert len(emit(replace(apart, shared=((0, 1),))).launches) == 1


@on_host.NEEDED
def test_names_are_those_of_c_plus_plus_or_changed(tmp_path: Path) -> None:
    """Words of the language, of the text before; one for two loops in each other, one twice."""
    out, float_, again = Buffer("out", F32), Var("float"), Var("float")
    rank, twice = Local("rank", F32), Var("plus", F32)
    number = convert(float_ * 3 + again, F32)
    body = (
        Declare(rank, number),
        Let(twice, rank + 1),
        Let(twice, twice * 2),
        Store(out, float_ * 3 + again, twice),
    )
    loops = loop("", 2, [loop("", 3, body, again)], float_)
    found = np.zeros(6, np.float32)
    (call,) = on_host.built([Kernel("names", (out,), (loops,))], tmp_path)
    call([found], (), False)
    np.testing.assert_array_equal(found, (np.arange(6) + 1) * 2)


# --- primitives ----------------------------------------------------------------------------------


def agree(kernel: Kernel, folder: Path, buffers: Sequence[Array], results: int) -> None:
    """The same bits as the interpreter makes; a NaN is a NaN."""
    wanted, found = ([b.copy() for b in buffers] for _ in range(2))
    interpret(kernel, wanted)
    (call,) = on_host.built([kernel], folder)
    on_host.both_ways(kernel, call, found[:-results], found[-results:])
    for want, have in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(have, want)


@on_host.NEEDED
@pytest.mark.parametrize("element", [*FLOATS, *WHOLE, BOOL], ids=str)
def test_every_primitive_is_what_numpy_makes_of_it(element: Element, tmp_path: Path) -> None:
    functions = [f for f in OPERANDS if takes(f, element)]
    given = [Buffer(f"in{k}", element) for k in range(3)]
    comparing = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
    results = [Buffer(f"out{k}", BOOL if f in comparing else element)
               for k, f in enumerate(functions)]  # fmt: skip
    body = []
    for function, out in zip(functions, results, strict=True):
        operands = defined(function, [Load(buffer, AT) for buffer in given])
        body.append(Store(out, AT, Apply(function, operands, out.element)))
    count = 301
    arrays = [np.roll(values_of(element, count, k), k * 3) for k in range(3)]
    arrays += [np.zeros(count, dtype_of(out.element)) for out in results]
    kernel = Kernel("primitives", (*given, *results), (loop("at", count, body, AT),))
    agree(kernel, tmp_path, arrays, len(results))


@on_host.NEEDED
@pytest.mark.parametrize("element", FLOATS, ids=str)
def test_exponents_are_those_of_numpy(element: Element, tmp_path: Path) -> None:
    """Of any bits, numbers below the normal ones among them, and scaled to both ends and beyond."""
    dtype = dtype_of(element)
    word = np.int32 if element is F32 else np.int64
    rng = np.random.default_rng(4)
    x = rng.integers(0, np.iinfo(word).max, 3000, word).view(dtype)
    x[:600] = rng.integers(0, 1 << np.finfo(dtype).nmant, 600, word).view(dtype)
    x[:5] = 0, np.inf, np.nan, 0.75, 1.5
    with np.errstate(invalid="ignore"):
        m, e = np.frexp(x)
        m, e = np.where(m < 0.75, m * 2, m), np.where(np.isfinite(x), e - (m < 0.75), x)
    e[0] = -np.inf
    powers = np.rint(rng.uniform(-1.1, 1.1, 3000) * np.finfo(dtype).maxexp).astype(dtype)
    near_one = rng.uniform(-2, 2, 3000).astype(dtype)
    given = [Buffer(name, element) for name in ("x", "power", "near_one")]
    outs = [Buffer(name, element) for name in ("e", "m", "scaled")]
    of_x, by, small = (Load(buffer, AT) for buffer in given)
    made = (unary("exponent", of_x), unary("significand", of_x), binary("scale", small, by))
    body = [Store(out, AT, value) for out, value in zip(outs, made, strict=True)]
    kernel = Kernel("exponents", (*given, *outs), (loop("at", 3000, body, AT),))
    found = [np.zeros(3000, dtype) for _ in outs]
    (call,) = on_host.built([kernel], tmp_path)
    on_host.both_ways(kernel, call, [x, powers, near_one], found)
    np.testing.assert_array_equal(found[0], e)
    np.testing.assert_array_equal(found[1][2:], m[2:])
    assert np.isfinite(found[1][:2]).all()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found[2], np.ldexp(near_one, powers.astype(int)))


@on_host.NEEDED
def test_conversions_are_those_of_numpy(tmp_path: Path) -> None:
    """Between all elements, where the number fits, and bits kept as another element."""
    elements = [*FLOATS, *WHOLE, BOOL]
    arrays = [values_of(element, 100) for element in elements]
    for place, element in enumerate(elements):
        if element is not BOOL:
            small = np.nan_to_num(arrays[place].astype(np.float64))
            arrays[place] = (np.abs(small) % 100).astype(dtype_of(element))
    given = [Buffer(f"in{k}", element) for k, element in enumerate(elements)]
    body, results = [], []
    for source in given:
        for target in elements:
            results.append(Buffer(f"out{len(results)}", target))
            body.append(Store(results[-1], AT, convert(Load(source, AT), wide(target))))
    for one, other in ((F32, Element.I32), (Element.F64, INDEX)):
        results.append(Buffer(f"out{len(results)}", one))
        turned = bits(bits(Load(given[elements.index(one)], AT), other) + 1, one)
        body.append(Store(results[-1], AT, turned))
    arrays += [np.zeros(100, dtype_of(out.element)) for out in results]
    kernel = Kernel("conversions", (*given, *results), (loop("at", 100, body, AT),))
    agree(kernel, tmp_path, arrays, len(results))


@on_host.NEEDED
def test_the_shim_rounds_to_16_bits_as_the_engine_does(tmp_path: Path) -> None:
    """Around every bound between two numbers of 16 bits, at random, and all halves back."""
    rng = np.random.default_rng(3)
    edges = np.arange(0, 1 << 32, 4096, dtype=np.uint64).astype(np.uint32)
    words = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    given = np.concatenate([words, edges, edges + np.uint32(1), edges - np.uint32(1)])
    x, outs = Buffer("x", F32), [Buffer("f", Element.F16), Buffer("b", Element.BF16)]
    count, back = len(given), Buffer("back", F32)
    narrow = loop("at", count, [Store(out, AT, Load(x, AT)) for out in outs], AT)
    again = Kernel(
        "back", (outs[0], back), (loop("at", 1 << 16, [Store(back, AT, Load(outs[0], AT))], AT),)
    )
    calls = on_host.built([Kernel("narrow", (x, *outs), (narrow,)), again], tmp_path)
    found = [np.zeros(count, dtype_of(out.element)) for out in outs]
    calls[0]([given.view(np.float32), *found], (), False)
    for have, out in zip(found, outs, strict=True):
        with np.errstate(all="ignore"):
            want = stored(given.view(np.float32), TensorType(out.element))
        np.testing.assert_array_equal(have, want)
    halves, singles = (
        np.arange(1 << 16, dtype=np.uint16).view(np.float16),
        np.zeros(1 << 16, np.float32),
    )
    calls[1]([halves, singles], (), False)
    np.testing.assert_array_equal(singles, halves.astype(np.float32))


# --- what NVRTC makes of it ----------------------------------------------------------------------


def ptx(value: Expr, element: Element, *given: Buffer) -> str:
    """The instructions that one entry takes."""
    out = Buffer("out", element)
    kernel = Kernel("one", (*given, out), (Store(out, index(0), value),))
    return nvrtc.compiled(program([emit(kernel)]), "compute_80").decode()


@nvrtc.NEEDED
def test_a_product_and_a_sum_are_one_operation_only_where_it_is_said() -> None:
    given = [Buffer(f"in{n}", F32) for n in range(3)]
    a, b, c = (Load(buffer, index(0)) for buffer in given)
    assert "fma" not in ptx(a * b + c, F32, *given)
    assert "fma.rn.f32" in ptx(fma(a, b, c), F32, *given)
    halves = [Buffer(f"in{n}", Element.F16) for n in range(2)]
    both = Load(halves[0], index(0)) * Load(halves[1], index(0))
    assert "cvt.rn.f16.f32" in ptx(both, Element.F16, *halves)
    assert "cvt.rn.bf16.f32" in ptx(both, Element.BF16, *halves)
    assert "div.rn.f32" in ptx(a / b, F32, *given)


@nvrtc.NEEDED
@pytest.mark.parametrize("element", [F32, Element.F64], ids=str)
def test_numbers_are_written_without_loss(element: Element) -> None:
    rng = np.random.default_rng(1)
    dtype, whole = dtype_of(element), np.uint32 if element is F32 else np.uint64
    numbers = rng.integers(0, np.iinfo(whole).max, 300, dtype=whole).view(dtype)
    with np.errstate(all="ignore"):
        numbers = np.concatenate([numbers, np.array(ODD).astype(dtype), [np.finfo(dtype).max]])
    out = Buffer("out", element)
    stores = (Store(out, index(n), constant(float(x), element)) for n, x in enumerate(numbers))
    text = nvrtc.compiled(program([emit(Kernel("numbers", (out,), tuple(stores)))]), "compute_80")
    code = text.decode().lower()
    for x in numbers[~np.isnan(numbers)]:
        word = int(np.asarray(x).view(whole))
        written = f"{word:08x}" if element is F32 else f"{word:016x}"
        signed = word - (1 << 8 * dtype.itemsize) if word >> (8 * dtype.itemsize - 1) else word
        assert f"0{'f' if element is F32 else 'd'}{written}" in code or f" {signed};" in code, x
