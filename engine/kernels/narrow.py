"""Floats of 16 bits within a kernel: what one nest hands to another is rounded, as memory would.

Every operation computes in f32 and rounds its result once. Where that goes to memory, the store
rounds; where another nest of the same kernel reads it from a register, the expression does.
"""

import math
import struct
from dataclasses import replace

from fml.engine.ir.types import BOOL, Element
from fml.engine.kernels.expr import NARROWING, Apply, Const, Expr
from fml.engine.kernels.nest import Nest, Read, Total

# Of numbers of 16 bits these make others of 16 bits.
_EXACT = {"minimum", "maximum", "negate", "abs", "floor", "ceil", "round", "truncate"}


def rounded(nest: Nest) -> Nest:
    """The nest with its entries rounded to its element, where they need it."""
    if nest.element not in NARROWING:
        return nest
    if not nest.over:
        return replace(nest, value=narrowed(nest.value, nest.element))
    is_extreme = nest.combine in {"maximum", "minimum"} and nest.finish is None
    if is_extreme and _is_exact(nest.value, nest.element):
        return nest
    ended = Total(nest.value.type) if nest.finish is None else nest.finish
    return replace(nest, finish=narrowed(ended, nest.element))


def narrowed(e: Expr, element: Element) -> Expr:
    """The number of an f32 as an entry of an element has it, still in f32."""
    if element not in NARROWING or _is_exact(e, element):
        return e
    if isinstance(e, Const):
        return Const(_nearest(e.value, element), e.element)
    return Apply(NARROWING[element], (e,), e.type)


def _is_exact(e: Expr, element: Element) -> bool:
    """Whether an expression has numbers of an element alone."""
    match e:
        case Const(value):
            return math.isnan(value) or _nearest(value, element) == value
        case Read(element=own, guard=guard, otherwise=otherwise):
            return own is element and (guard is None or _nearest(otherwise, element) == otherwise)
        case Apply("select", (_, yes, no)):
            return _is_exact(yes, element) and _is_exact(no, element)
        case Apply("convert", (source,)):
            return source.type is BOOL or source.type is Element.U8
        case Apply(function, operands) if function in _EXACT:
            return all(_is_exact(operand, element) for operand in operands)
        case Apply(function):
            return function == NARROWING[element]
        case _:
            return False


def _nearest(value: float, element: Element) -> float:
    """A number as an f32, rounded to nearest, ties to even, to infinity where it is too large."""
    if not math.isfinite(value):
        return value
    try:
        single = struct.pack("<f", value)
        if element is Element.F16:
            return struct.unpack("<e", struct.pack("<e", struct.unpack("<f", single)[0]))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    (word,) = struct.unpack("<I", single)
    kept = (word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", kept))[0]
