"""The primitives of expressions as LLVM instructions, on scalars and vectors alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fml.engine.ir.types import BOOL, F32, Element
from fml.engine.kernels.expr import INDEX
from fml.engine.kernels.llvm.exponents import exponent, scaled, significand
from fml.engine.kernels.llvm.instructions import INTRINSIC, TYPES, Value, Writer, number, vector

_FLOATS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
_WHOLE = {
    "add": "add", "subtract": "sub", "multiply": "mul", "quotient": "sdiv", "remainder": "srem",
    "and": "and", "or": "or", "xor": "xor", "shift_left": "shl", "shift_right": "lshr",
}  # fmt: skip
_UNSIGNED = {**_WHOLE, "quotient": "udiv", "remainder": "urem"}
_ORDER = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}
_BITS = {F32: 32, Element.F64: 64, Element.I32: 32, INDEX: 64, Element.U8: 8, BOOL: 1}
# From here on every float is whole, so adding and taking away this number rounds smaller ones.
_WHOLE_FROM = {F32: 2.0**23, Element.F64: 2.0**52}

Emit = Callable[[Writer, Sequence[Value], Element], str]


def primitive(w: Writer, function: str, operands: Sequence[Value], element: Element) -> Value:
    """Apply a primitive to operands with equal lanes; `element` is that of the result."""
    lanes = max(operand.lanes for operand in operands)
    return Value(_SPECIAL.get(function, _plain(function))(w, operands, element), element, lanes)


def _plain(function: str) -> Emit:
    def emit(w: Writer, operands: Sequence[Value], element: Element) -> str:
        a = operands[0]
        b = operands[1].text
        if function in _ORDER or function in {"equal", "not_equal"}:
            return w.put(f"{_comparison(function, a.element)} {a.typed}, {b}")
        if a.element.is_float:
            return w.put(f"{_FLOATS[function]} {a.typed}, {b}")
        names = _UNSIGNED if a.element is Element.U8 else _WHOLE
        return w.put(f"{names[function]} {a.typed}, {b}")

    return emit


def _comparison(function: str, element: Element) -> str:
    if element.is_float:
        # NaN is different from all, and neither below nor above.
        return "fcmp " + {"equal": "oeq", "not_equal": "une"}.get(
            function, "o" + _ORDER.get(function, "")
        )
    sign = "u" if element in {Element.U8, BOOL} else "s"
    return "icmp " + {"equal": "eq", "not_equal": "ne"}.get(
        function, sign + _ORDER.get(function, "")
    )


def _extreme(function: str) -> Emit:
    """The larger or smaller one as numpy has it: NaN if one is NaN."""
    beats = "greater" if function == "maximum" else "less"

    def emit(w: Writer, operands: Sequence[Value], element: Element) -> str:
        a, b = operands
        if element.is_float and b.text[0] != "%":
            a, b = b, a  # what is compared first is not kept where the other is NaN
        wins = w.put(f"{_comparison(beats, element)} {a.typed}, {b.text}")
        mask = vector("i1", a.lanes)
        best = w.put(f"select {mask} {wins}, {a.typed}, {b.typed}")
        if not element.is_float or not _may_be_nan(a):
            return best
        odd = w.put(f"fcmp uno {a.typed}, {a.text}")
        return w.put(f"select {mask} {odd}, {a.typed}, {b.type} {best}")

    return emit


def _may_be_nan(a: Value) -> bool:
    """Whether a float may be no number: of a constant its bits tell."""
    if a.text[0] == "%":
        return True
    bits = int(a.text.rpartition("0x")[2].rstrip(">"), 16)  # of an f64, in every lane the same
    return bits & (1 << 63) - 1 > 0x7FF << 52


def _select(w: Writer, operands: Sequence[Value], element: Element) -> str:
    condition, yes, no = operands
    return w.put(f"select {condition.typed}, {yes.typed}, {no.typed}")


def _negate(w: Writer, operands: Sequence[Value], element: Element) -> str:
    (a,) = operands
    if element.is_float:
        return w.put(f"fneg {a.typed}")
    return w.put(
        f"sub {a.type} zeroinitializer, {a.text}" if a.lanes > 1 else f"sub {a.type} 0, {a.text}"
    )


def _not(w: Writer, operands: Sequence[Value], element: Element) -> str:
    (a,) = operands
    ones = w.spread(number(-1 if element is not BOOL else 1, element), a.lanes)
    return w.put(f"xor {a.typed}, {ones.text}")


def _abs(w: Writer, operands: Sequence[Value], element: Element) -> str:
    (a,) = operands
    if element.is_float:
        return _intrinsic(w, "fabs", a)
    if element is Element.U8:
        return a.text
    below = w.put(f"icmp slt {a.typed}, {_zero(a)}")
    turned = w.put(f"sub {a.type} {_zero(a)}, {a.text}")
    return w.put(f"select {vector('i1', a.lanes)} {below}, {a.type} {turned}, {a.typed}")


def _zero(a: Value) -> str:
    return "zeroinitializer" if a.lanes > 1 else "0"


def _intrinsic(w: Writer, name: str, *operands: Value) -> str:
    a = operands[0]
    lanes = f"v{a.lanes}" if a.lanes > 1 else ""
    full = f"llvm.{name}.{lanes}{INTRINSIC[TYPES[a.element]]}"
    return w.call(a.type, full, *(operand.typed for operand in operands))


def _rounding(name: str) -> Emit:
    """Round to a whole number; without an instruction for it, by adding and taking away 2^p."""

    def emit(w: Writer, operands: Sequence[Value], element: Element) -> str:
        (a,) = operands
        if w.host.rounds:
            return _intrinsic(w, name, a)
        nearest = replace(a, text=_nearest(w, a))
        if name == "rint":
            return nearest.text
        return _corrected(w, name, a, nearest)

    return emit


def _nearest(w: Writer, a: Value) -> str:
    size = replace(a, text=_intrinsic(w, "fabs", a))
    large = w.spread(number(_WHOLE_FROM[a.element], a.element), a.lanes)
    up = w.put(f"fadd {size.typed}, {large.text}")
    down = replace(a, text=w.put(f"fsub {a.type} {up}, {large.text}"))
    signed = replace(a, text=_intrinsic(w, "copysign", down, a))
    small = w.put(f"fcmp olt {size.typed}, {large.text}")
    return w.put(f"select {vector('i1', a.lanes)} {small}, {signed.typed}, {a.typed}")


def _corrected(w: Writer, name: str, a: Value, nearest: Value) -> str:
    """One less where `floor` was rounded up, one more where `ceil` was rounded down."""
    one = w.spread(number(1.0, a.element), a.lanes)
    mask = vector("i1", a.lanes)

    def moved(base: Value, test: str, way: str) -> Value:
        wrong = w.put(f"fcmp {test} {base.typed}, {a.text}")
        other = w.put(f"{way} {base.typed}, {one.text}")
        found = w.put(f"select {mask} {wrong}, {base.type} {other}, {base.typed}")
        return replace(a, text=_intrinsic(w, "copysign", replace(a, text=found), a))

    low, high = moved(nearest, "ogt", "fsub"), moved(nearest, "olt", "fadd")
    if name == "floor":
        return low.text
    if name == "ceil":
        return high.text
    below = w.put(f"fcmp olt {a.typed}, {w.spread(number(0.0, a.element), a.lanes).text}")
    return w.put(f"select {mask} {below}, {high.typed}, {low.typed}")


def _fma(w: Writer, operands: Sequence[Value], element: Element) -> str:
    """a b + c; where no instruction has it, f32 by way of f64, whose product is exact."""
    if w.host.fuses:
        return _intrinsic(w, "fma", *operands)
    if element is Element.F64:
        return _fma_in_parts(w, operands)
    double = vector("double", operands[0].lanes)
    a, b, c = (w.put(f"fpext {x.typed} to {double}") for x in operands)
    product = w.put(f"fmul {double} {a}, {b}")
    total = w.put(f"fadd {double} {product}, {c}")
    return w.put(f"fptrunc {double} {total} to {operands[0].type}")


def _fma_in_parts(w: Writer, operands: Sequence[Value]) -> str:
    """a b + c from a product and a sum with what rounding took from them (Dekker 1971)."""
    a, b, c = operands

    def put(word: str, x: str, y: str) -> str:
        return w.put(f"{word} {a.type} {x}, {y}")

    def halves(x: str) -> tuple[str, str]:
        splitter = w.spread(number(2.0**27 + 1, Element.F64), a.lanes).text
        large = put("fmul", splitter, x)
        high = put("fsub", large, put("fsub", large, x))
        return high, put("fsub", x, high)

    product = put("fmul", a.text, b.text)
    (ah, al), (bh, bl) = halves(a.text), halves(b.text)
    lost = put("fsub", put("fmul", ah, bh), product)
    for x, y in ((ah, bl), (al, bh), (al, bl)):
        lost = put("fadd", lost, put("fmul", x, y))
    total = put("fadd", product, c.text)
    back = put("fsub", total, product)
    from_product = put("fsub", product, put("fsub", total, back))
    from_sum = put("fadd", from_product, put("fsub", c.text, back))
    found = put("fadd", total, put("fadd", from_sum, lost))
    # Halves of what is too large are no numbers.
    odd = put("fcmp uno", found, found)
    return w.put(f"select {vector('i1', a.lanes)} {odd}, {a.type} {total}, {a.type} {found}")


def _multiply_add(w: Writer, operands: Sequence[Value], element: Element) -> str:
    """a b + c, rounded once or twice, whichever is faster."""
    if w.host.fuses:
        return _intrinsic(w, "fma", *operands)
    a, b, c = operands
    product = w.put(f"fmul {a.typed}, {b.text}")
    return w.put(f"fadd {a.type} {product}, {c.text}")


def _high_word(w: Writer, operands: Sequence[Value], element: Element) -> str:
    long = vector("i64", operands[0].lanes)
    a, b = (w.put(f"zext {x.typed} to {long}") for x in operands)
    product = w.put(f"mul {long} {a}, {b}")
    shift = w.spread(number(32, INDEX), operands[0].lanes).text
    high = w.put(f"lshr {long} {product}, {shift}")
    return w.put(f"trunc {long} {high} to {operands[0].type}")


def _convert(w: Writer, operands: Sequence[Value], element: Element) -> str:
    (a,) = operands
    to = vector(TYPES[element], a.lanes)
    if element is BOOL:
        zero = w.spread(number(0, a.element), a.lanes).text
        return w.put(f"{_comparison('not_equal', a.element)} {a.typed}, {zero}")
    unsigned = a.element in {Element.U8, BOOL}
    if a.element.is_float and element.is_float:
        word = "fpext" if _BITS[element] > _BITS[a.element] else "fptrunc"
    elif a.element.is_float:
        word = "fptoui" if element is Element.U8 else "fptosi"
    elif element.is_float:
        word = "uitofp" if unsigned else "sitofp"
    elif _BITS[element] == _BITS[a.element]:
        return a.text
    elif _BITS[element] < _BITS[a.element]:
        word = "trunc"
    else:
        word = "zext" if unsigned else "sext"
    return w.put(f"{word} {a.typed} to {to}")


def _bits(w: Writer, operands: Sequence[Value], element: Element) -> str:
    (a,) = operands
    return w.put(f"bitcast {a.typed} to {vector(TYPES[element], a.lanes)}")


_SPECIAL: Mapping[str, Emit] = {
    "minimum": _extreme("minimum"),
    "maximum": _extreme("maximum"),
    "select": _select,
    "negate": _negate,
    "not": _not,
    "abs": _abs,
    "sqrt": lambda w, operands, element: _intrinsic(w, "sqrt", *operands),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "round": _rounding("rint"),
    "truncate": _rounding("trunc"),
    "fma": _fma,
    "multiply_add": _multiply_add,
    "exponent": lambda w, operands, element: exponent(w, operands[0]),
    "significand": lambda w, operands, element: significand(w, operands[0]),
    "scale": lambda w, operands, element: scaled(w, *operands),
    "high_word": _high_word,
    "convert": _convert,
    "bits": _bits,
}
