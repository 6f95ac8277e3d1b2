"""16-bit floats in registers: by whole numbers, where machines have no instructions for them."""

from fml.engine.ir.types import F32, Element
from fml.engine.kernels.llvm.instructions import Value, Writer, number, vector
from fml.engine.kernels.llvm.primitives import primitive

_BITS = Element.I32


class _Bits:
    """Primitives with constants beside registers, all of as many lanes as the first operand."""

    def __init__(self, writer: Writer) -> None:
        self.w = writer

    def __call__(
        self, function: str, a: Value, *others: "Value | float", to: Element = _BITS
    ) -> Value:
        given = [
            x if isinstance(x, Value) else self.w.spread(number(x, a.element), a.lanes)
            for x in others
        ]
        return primitive(self.w, function, [a, *given], to)

    def choose(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` where the condition holds."""
        return primitive(self.w, "select", [condition, yes, no], yes.element)

    def constant(self, value: float, like: Value) -> Value:
        """A number in every lane."""
        return self.w.spread(number(value, like.element), like.lanes)


def narrowed(w: Writer, x: Value, element: Element) -> Value:
    """An f32 rounded to a float of 16 bits, still an f32."""
    if element is Element.BF16:
        return rounded_to_bf16(w, x)
    if not w.host.converts_halves:
        return widened_half_bits(w, to_half_bits(w, x))
    half = vector("half", x.lanes)
    short = w.put(f"fptrunc {x.typed} to {half}")
    return Value(w.put(f"fpext {half} {short} to {x.type}"), F32, x.lanes)


def widened_half_bits(w: Writer, half: Value) -> Value:
    """The f32 whose f16 has these bits, which stand in an i32.

    Exponent and fraction are moved to where an f32 has them, 112 lower than its bias. A number
    below the normal ones counts in 2^-24, as what is above 2^-14 by its fraction does: no operand
    is a subnormal f32, which threads may take for 0.
    """
    on = _Bits(w)
    sign = on("shift_left", on("and", half, 0x8000), 16)
    size = on("and", half, 0x7FFF)
    moved = on("shift_left", size, 13)
    above = on("bits", on("add", moved, 113 << 23), to=F32)
    small = on("bits", on("subtract", above, 2.0**-14, to=F32))
    is_small = on("less", size, 0x0400, to=Element.BOOL)
    found = on.choose(is_small, small, on("add", moved, 112 << 23))
    # Infinities and NaN keep their fraction under the largest exponent.
    odd = on("greater_equal", size, 0x7C00, to=Element.BOOL)
    found = on.choose(odd, on("or", moved, 0x7F800000), found)
    return on("bits", on("or", found, sign), to=F32)


def to_half_bits(w: Writer, x: Value) -> Value:
    """The bits of an f32 rounded to f16, to nearest, ties to even, in an i32."""
    on = _Bits(w)
    word = on("bits", x)
    sign = on("and", on("shift_right", word, 16), 0x8000)
    size = on("and", word, 0x7FFFFFFF)
    # Below 2^-14 an f16 counts in 2^-24, as an f32 does above 0.5: adding 0.5 rounds.
    shifted = on("add", on("bits", size, to=F32), 0.5, to=F32)
    small = on("subtract", on("bits", shifted), 0x3F000000)
    odd = on("and", on("shift_right", size, 13), 1)
    even = on("add", on("subtract", size, 0x38000000 - 0xFFF), odd)
    normal = on("shift_right", even, 13)
    fits = on("less", size, 0x38800000, to=Element.BOOL)
    found = on.choose(fits, small, normal)
    above = on("greater_equal", size, 0x477FF000, to=Element.BOOL)
    found = on.choose(above, on.constant(0x7C00, size), found)
    is_nan = on("greater", size, 0x7F800000, to=Element.BOOL)
    found = on.choose(is_nan, on.constant(0x7E00, size), found)
    return on("or", found, sign)


def rounded_to_bf16(w: Writer, x: Value) -> Value:
    """An f32 rounded to the precision of bf16, to nearest, ties to even, still an f32."""
    on = _Bits(w)
    word = on("bits", x)
    odd = on("and", on("shift_right", word, 16), 1)
    kept = on("and", on("add", on("add", word, 0x7FFF), odd), -0x10000)
    is_nan = primitive(w, "not_equal", [x, x], Element.BOOL)
    return on.choose(is_nan, x, on("bits", kept, to=F32))
