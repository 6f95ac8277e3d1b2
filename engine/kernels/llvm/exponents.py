"""Exponents of floats: by the instructions of AVX-512, and by bits where there are none."""

import math
import struct
from collections.abc import Callable
from dataclasses import replace

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.llvm.instructions import Value, Writer, number, vector

# Bits of the fraction, and what is added to an exponent.
_FRACTION = {F32: (23, 127), Element.F64: (52, 1023)}
_REGISTER = 64  # bytes
_ROUNDING = "i32 4"  # the one in force
# Fractions in 3/4 .. 3/2, and NaN of what is below 0.
_SIGNIFICAND = "i32 11"


def scaled(w: Writer, x: Value, n: Value) -> str:
    """x 2^n for a whole n; 2^(n / 2) and x 2^(n / 2) are normal numbers."""
    if not _fills_registers(w, x):
        return _in_two_steps(w, x, n)
    return _by_registers(
        w, x, lambda part, lanes: _avx512(w, "scalef", part, w.part(n, lanes).typed)
    )


def exponent(w: Writer, x: Value) -> str:
    """e where x = m 2^e, 3/4 <= m < 3/2, as a float; -inf of 0, x of inf and NaN."""
    if not _fills_registers(w, x):
        return _Bits(w, x).exponent()

    def of_register(part: Value, lanes: range) -> str:
        found = replace(part, text=_avx512(w, "getexp", part))
        m = _avx512(w, "getmant", part, _SIGNIFICAND)
        one = w.spread(number(1.0, x.element), part.lanes)
        is_small = w.put(f"fcmp olt {part.type} {m}, {one.text}")
        more = w.put(f"fadd {found.typed}, {one.text}")
        mask = vector("i1", part.lanes)
        return w.put(f"select {mask} {is_small}, {part.type} {more}, {found.typed}")

    return _by_registers(w, x, of_register)


def significand(w: Writer, x: Value) -> str:
    """m where x = m 2^e, 3/4 <= m < 3/2; NaN below 0, finite of 0 and infinity."""
    if not _fills_registers(w, x):
        return _Bits(w, x).significand()
    return _by_registers(w, x, lambda part, lanes: _avx512(w, "getmant", part, _SIGNIFICAND))


def _fills_registers(w: Writer, x: Value) -> bool:
    """Whether there are such instructions, and a number of whole registers for them."""
    return w.host.vector_bytes == 64 and x.lanes % _lanes_of(x) == 0


def _lanes_of(x: Value) -> int:
    return _REGISTER // (4 if x.element is F32 else 8)


def _by_registers(w: Writer, x: Value, emit: Callable[[Value, range], str]) -> str:
    """The result of what is written for each register of an operand."""
    size = _lanes_of(x)
    parts: list[Value] = []
    for begin in range(0, x.lanes, size):
        lanes = range(begin, begin + size)
        part = w.part(x, lanes) if size < x.lanes else x
        parts.append(replace(part, text=emit(part, lanes)))
    return w.joined(parts).text


def _avx512(w: Writer, name: str, x: Value, *others: str) -> str:
    full = f"llvm.x86.avx512.mask.{name}.{'ps' if x.element is F32 else 'pd'}.512"
    return w.call(x.type, full, x.typed, *others, f"{x.type} poison", f"i{x.lanes} -1", _ROUNDING)


class _Bits:
    """Exponent and significand of x by the bits of the fraction."""

    def __init__(self, w: Writer, x: Value) -> None:
        self.w, self.x = w, x
        self.fraction, self.bias = _FRACTION[x.element]
        self.whole = vector("i32" if x.element is F32 else "i64", x.lanes)
        self.mask = vector("i1", x.lanes)
        self.is_below = self._test("olt", 2.0 ** (1 - self.bias))
        large = self._put("fmul", x.text, self._float(2.0 ** (self.fraction + 1)))
        normal = self._choose(self.is_below, large, x.text)
        # The bits of 3/4 are taken away, so that the exponent changes there.
        self.root = _bits_of(0.75, x.element)
        self.moved = self._count("sub", self._as_whole(normal), self._whole(self.root))

    def exponent(self) -> str:
        """The higher bits, put into the last ones of a float whose unit is 1."""
        magic = 1.5 * 2.0**self.fraction
        e = self._count("ashr", self.moved, self._whole(self.fraction))
        shifted = self._count("add", e, self._whole(_bits_of(magic, self.x.element)))
        base = self._choose(
            self.is_below, self._float(magic + self.fraction + 1), self._float(magic)
        )
        found = self._put("fsub", self._as_float(shifted), base)
        found = self._choose(self._test("olt", math.inf), found, self.x.text)
        return self._choose(self._test("oeq", 0.0), self._float(-math.inf), found)

    def significand(self) -> str:
        """The lower bits, and those of 3/4."""
        rest = self._count("and", self.moved, self._whole((1 << self.fraction) - 1))
        found = self._as_float(self._count("add", rest, self._whole(self.root)))
        return self._choose(self._test("oge", 0.0), found, self._float(math.nan))

    def _put(self, word: str, a: str, b: str) -> str:
        return self.w.put(f"{word} {self.x.type} {a}, {b}")

    def _count(self, word: str, a: str, b: str) -> str:
        return self.w.put(f"{word} {self.whole} {a}, {b}")

    def _test(self, order: str, bound: float) -> str:
        return self.w.put(f"fcmp {order} {self.x.typed}, {self._float(bound)}")

    def _choose(self, condition: str, yes: str, no: str) -> str:
        type = self.x.type
        return self.w.put(f"select {self.mask} {condition}, {type} {yes}, {type} {no}")

    def _float(self, value: float) -> str:
        return self.w.spread(number(value, self.x.element), self.x.lanes).text

    def _whole(self, value: int) -> str:
        element = Element.I32 if self.x.element is F32 else Element.I64
        return self.w.spread(number(value, element), self.x.lanes).text

    def _as_whole(self, text: str) -> str:
        return self.w.put(f"bitcast {self.x.type} {text} to {self.whole}")

    def _as_float(self, text: str) -> str:
        return self.w.put(f"bitcast {self.whole} {text} to {self.x.type}")


def _bits_of(value: float, element: Element) -> int:
    """The bits of a float as a whole number."""
    kind, whole = ("<f", "<i") if element is F32 else ("<d", "<q")
    return int(struct.unpack(whole, struct.pack(kind, value))[0])


def _in_two_steps(w: Writer, x: Value, n: Value) -> str:
    """By 2^(n / 2) and by what is left; only the second product may be rounded.

    A number whose unit in the last place is 1 rounds what is added to it to a whole number, which
    then stands in its last bits, the bias of exponents with it.
    """
    fraction, bias = _FRACTION[x.element]
    magic = w.spread(number(1.5 * 2.0**fraction + bias, x.element), x.lanes).text
    whole = vector("i32" if x.element is F32 else "i64", x.lanes)
    shift = number(fraction, Element.I32 if x.element is F32 else Element.I64)
    places = w.spread(shift, x.lanes).text
    half = w.spread(number(0.5, x.element), x.lanes).text

    def put(word: str, a: str, b: str) -> str:
        return w.put(f"{word} {x.type} {a}, {b}")

    def power(sum_: str) -> str:
        word = w.put(f"bitcast {x.type} {sum_} to {whole}")
        return w.put(f"bitcast {whole} {w.put(f'shl {whole} {word}, {places}')} to {x.type}")

    first = put("fadd", put("fmul", n.text, half), magic)
    left = put("fsub", n.text, put("fsub", first, magic))
    second = put("fadd", left, magic)
    return put("fmul", put("fmul", x.text, power(first)), power(second))
