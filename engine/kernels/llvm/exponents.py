"""Exponents of floats: by the instructions of AVX-512, and by bits where there are none."""

from dataclasses import replace

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.llvm.instructions import Value, Writer, number, vector

# Bits of the fraction, and what is added to an exponent.
_FRACTION = {F32: (23, 127), Element.F64: (52, 1023)}
_REGISTER = 64  # bytes
_AS_IT_IS = "i32 4"  # the rounding in force


def scaled(w: Writer, x: Value, n: Value) -> str:
    """x 2^n for a whole n; 2^(n / 2) and x 2^(n / 2) are normal numbers."""
    registers = _registers(w, x)
    if not registers:
        return _in_two_steps(w, x, n)
    name = f"llvm.x86.avx512.mask.scalef.{'ps' if x.element is F32 else 'pd'}.512"
    made: list[Value] = []
    for lanes in registers:
        a, b = w.part(x, lanes), w.part(n, lanes)
        mask = f"i{a.lanes} -1"
        text = w.call(a.type, name, a.typed, b.typed, f"{a.type} poison", mask, _AS_IT_IS)
        made.append(replace(a, text=text))
    return w.joined(made).text


def _registers(w: Writer, x: Value) -> list[range]:
    """The lanes of each of the widest registers that an operand fills; none if it fills none."""
    size = _REGISTER // (4 if x.element is F32 else 8)
    if not w.host.has_masks or x.lanes % size:
        return []
    return [range(begin, begin + size) for begin in range(0, x.lanes, size)]


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
