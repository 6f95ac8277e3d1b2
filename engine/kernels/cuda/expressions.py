"""Expressions as CUDA C, with the bits that `llvm/primitives.py` makes of them."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from fml.engine.ir.types import BOOL, F32, Element
from fml.engine.kernels.cuda.names import Names
from fml.engine.kernels.expr import INDEX, NARROWING, Apply, Const, Expr, Load, Local, Var

# What a value is, and what an entry of memory is.
TYPES: Mapping[Element, str] = {
    F32: "float", Element.F64: "double", Element.I32: "int", INDEX: "i64", Element.U8: "u8",
    BOOL: "bool",
}  # fmt: skip
STORED: Mapping[Element, str] = {
    **TYPES, Element.F16: "unsigned short", Element.BF16: "unsigned short", BOOL: "u8"
}  # fmt: skip

_COMPARISONS = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip
# What the text before the kernels has for floats of both widths.
_OF_EXPONENTS = {"scale", "exponent", "significand"}
_OF_FLOATS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
# Places in memory are small enough to be counted without wrapping.
_COUNTING = {"add": "+", "subtract": "-", "multiply": "*"}
_WRAPPING = {"add": "plus", "subtract": "minus", "multiply": "times"}
_OF_WHOLES = {"quotient": "/", "remainder": "%", "and": "&", "or": "|", "xor": "^"}
_OF_BOOLS = {"and": "&&", "or": "||", "xor": "!="}
_SIGNS = _COMPARISONS.keys() | _OF_WHOLES.keys()
_MATHS = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "truncate": "trunc",
    "abs": "fabs", "fma": "fma", "multiply_add": "fma",
}  # fmt: skip
_BITS = {
    (F32, Element.I32): "__float_as_int", (Element.I32, F32): "__int_as_float",
    (Element.F64, INDEX): "__double_as_longlong", (INDEX, Element.F64): "__longlong_as_double",
}  # fmt: skip


@dataclass(slots=True)
class Expressions:
    """Writes expressions; `lines` are those that name what is used again and again."""

    names: Names
    lines: list[str] = field(default_factory=list[str])
    _named: dict[int, str] = field(default_factory=dict[int, str])

    def text(self, e: Expr, is_place: bool = False) -> str:
        """An expression, as an operand: in parentheses, if it is made of several."""
        if id(e) in self._named:
            return self._named[id(e)]
        match e:
            case Const(value, element):
                return constant(value, element)
            case Var(name) | Local(name):
                return self.names.of(e, name)
            case Load():
                return self._load(e)
            case Apply(function, operands, element):
                return self._applied(function, operands, element, is_place)
            case _:
                raise TypeError(f"not an expression: {e!r}")

    def operand(self, e: Expr, is_place: bool = False) -> str:
        """The same, behind `lines` with its parts that are used again."""
        for part, of_place in _used_again(e, is_place):
            name = self.names.new("t")
            self.lines.append(
                f"const {TYPES[part.type]} {name} = {bare(self.text(part, of_place))};"
            )
            self._named[id(part)] = name
        return self.text(e, is_place)

    def _load(self, load: Load) -> str:
        entry = f"{load.buffer.name}[{bare(self.text(load.index, True)).removesuffix('LL')}]"
        match load.buffer.element:
            case Element.F16 | Element.BF16 as element:
                entry = f"f32_of_{element}({entry})"
            case Element.BOOL:
                entry = f"({entry} != 0)"
            case _:
                pass
        if load.guard is None:
            return entry
        return f"({self.text(load.guard, True)} ? {entry} : {constant(load.otherwise, load.type)})"

    def _applied(
        self, function: str, operands: tuple[Expr, ...], element: Element, is_place: bool
    ) -> str:
        given = [self.text(operand, is_place) for operand in operands]
        if function in _SIGNS or (is_place and function in _COUNTING):
            # The other operand of a sign makes it long.
            given = [text.removesuffix("LL") for text in given]
        if function in {"minimum", "maximum"} and isinstance(operands[1], Const):
            # As on the CPU: what is compared first is not kept where the other is NaN.
            given.reverse()
        return applied(function, given, operands[-1].type, element, is_place)


def applied(
    function: str, given: list[str], of: Element, element: Element, is_place: bool = False
) -> str:
    """A primitive of operands of the element `of`, whose result is of `element`."""
    match function:
        case "minimum" | "maximum":
            return f"{function}({', '.join(map(bare, given))})"
        case "select":
            return f"({given[0]} ? {given[1]} : {given[2]})"
        case "convert" if element is BOOL:
            return f"({given[0]} != {constant(0, of)})"
        case "convert":
            return f"{TYPES[element]}({bare(given[0])})"
        case "bits":
            return f"{_BITS[of, element]}({bare(given[0])})"
        case "negate" if of.is_float:
            return f"(-{given[0]})"
        case "negate":
            return f"minus({constant(0, of)}, {bare(given[0])})"
        case "not" if of is BOOL:
            return f"(!{given[0]})"
        case "not":
            return f"{TYPES[of]}(~{given[0]})"
        case _ if function in _COMPARISONS:
            return _between(given, _COMPARISONS[function])
        case _ if of.is_float:
            return _of_floats(function, given, of)
        case _:
            return _of_wholes(function, given, of, is_place)


def _of_floats(function: str, given: list[str], of: Element) -> str:
    if function in _OF_FLOATS:
        return _between(given, _OF_FLOATS[function])
    arguments = ", ".join(map(bare, given))
    if function in NARROWING.values():
        narrow = function.removeprefix("to_")
        return f"f32_of_{narrow}({narrow}_of_f32({arguments}))"
    if function in _OF_EXPONENTS:
        return f"{function}({arguments})"
    return f"{_MATHS[function]}{'f' if of is F32 else ''}({arguments})"


def _of_wholes(function: str, given: list[str], of: Element, is_place: bool) -> str:
    if of is INDEX and is_place and function in _COUNTING:
        return _between(given, _COUNTING[function])
    if of is BOOL:
        return _between(given, _OF_BOOLS[function])
    if function in _OF_WHOLES:
        made = _between(given, _OF_WHOLES[function])
        return made if of in {Element.I32, INDEX} else f"{TYPES[of]}{made}"
    if function == "abs":
        return given[0] if of is Element.U8 else f"magnitude({bare(given[0])})"
    return f"{_WRAPPING.get(function, function)}({', '.join(map(bare, given))})"


def _between(given: list[str], sign: str) -> str:
    return f"({given[0]} {sign} {given[1]})"


def bare(text: str) -> str:
    """An expression that stands alone."""
    return text[1:-1] if _is_enclosed(text) else text


def _is_enclosed(text: str) -> bool:
    """Whether the first parenthesis is closed by the last character."""
    if text[0] != "(":
        return False
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return place == len(text) - 1
    return False


def _used_again(e: Expr, is_place: bool) -> list[tuple[Expr, bool]]:
    """What occurs at several places, inner ones first, and whether it tells a place in memory."""
    uses: dict[int, int] = {}
    order: list[tuple[Expr, bool]] = []

    def visit(part: Expr, of_place: bool) -> None:
        uses[id(part)] = uses.get(id(part), 0) + 1
        if uses[id(part)] > 1:
            return
        match part:
            case Apply(operands=operands):
                for operand in operands:
                    visit(operand, of_place)
            case Load(_, index, guard):
                visit(index, True)
                if guard is not None:
                    visit(guard, True)
            case _:
                return
        order.append((part, of_place))

    visit(e, is_place)
    return [(part, of_place) for part, of_place in order if uses[id(part)] > 1]


def constant(value: float, element: Element) -> str:
    """A number, exactly."""
    match element:
        case Element.BOOL:
            return "true" if value else "false"
        case Element.U8:
            return f"u8({int(value)})"
        case Element.I32:
            return "(-2147483647 - 1)" if value == -(1 << 31) else _signed(str(int(value)))
        case Element.I64:
            if value == -(1 << 63):
                return "(-9223372036854775807LL - 1LL)"
            return f"{int(value)}LL"
        case _:
            return _float(float(value), element)


def _float(value: float, element: Element) -> str:
    """The fewest digits that are this number, an infinity or NaN by its bits."""
    if element is not Element.F64:
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
    if not math.isfinite(value):
        if element is Element.F64:
            return f"__longlong_as_double(0x{struct.pack('>d', value).hex()}LL)"
        return f"__int_as_float(0x{struct.pack('>f', value).hex()})"
    if element is Element.F64:
        return _signed(repr(value))
    text = next(t for n in range(1, 10) if _single(t := f"{value:.{n}g}") == value)
    return _signed(f"{float(text)!r}f")


def _single(text: str) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", float(text)))[0]
    except OverflowError:
        return math.inf


def _signed(text: str) -> str:
    return f"({text})" if text[0] == "-" else text
