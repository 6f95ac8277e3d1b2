"""LLVM instructions as text, on scalars and on vectors alike.

Text rather than builder objects: a warm start has to write all kernels of a plan again to look
them up by what they say, and this is ten times as fast.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fml.engine.ir.types import BOOL, F32, Element
from fml.engine.kernels.expr import INDEX
from fml.engine.kernels.llvm.host import Host

TYPES = {
    Element.F16: "half", Element.BF16: "float", F32: "float", Element.F64: "double",
    Element.I32: "i32", INDEX: "i64", Element.U8: "i8", BOOL: "i1",
}  # fmt: skip
# What an entry of a buffer is; bf16 is kept as f32, rounded to its precision.
STORED = {**TYPES, BOOL: "i8"}
BYTES = {"half": 2, "float": 4, "double": 8, "i32": 4, "i64": 8, "i8": 1}
INTRINSIC = {"half": "f16", "float": "f32", "double": "f64"}


@dataclass(frozen=True, slots=True)
class Value:
    """A register or a constant.

    `lanes` above 1 is a vector. A scalar with a `stride` stands for the vector text, text +
    stride, text + 2 stride, ...: an index is made a vector only where it is needed as one.
    """

    text: str
    element: Element
    lanes: int = 1
    stride: int = 0

    @property
    def is_uniform(self) -> bool:
        """Whether all lanes have the same value."""
        return self.lanes == 1 and not self.stride

    @property
    def type(self) -> str:
        """The LLVM type."""
        return vector(TYPES[self.element], self.lanes)

    @property
    def typed(self) -> str:
        """The LLVM type and the register."""
        return f"{self.type} {self.text}"


def vector(type: str, lanes: int) -> str:
    """The LLVM type of so many lanes."""
    return type if lanes == 1 else f"<{lanes} x {type}>"


def number(value: float, element: Element) -> Value:
    """A constant."""
    if element is BOOL:
        return Value("true" if value else "false", element)
    if not element.is_float:
        return Value(str(int(value)), element)
    return Value(float_text(value, element), element)


def float_text(value: float, element: Element) -> str:
    """A float as LLVM reads it without loss: the bits of the f64, of an f32 its rounding."""
    if element is not Element.F64:
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Writer:
    """Writes the instructions of one function, block by block."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.lines: list[str] = []
        self.places: list[str] = []  # of locals, on the stack: made registers by LLVM
        self.declared: dict[str, str] = {}
        self.block = "start"
        self._count = 0

    def name(self, hint: str = "v") -> str:
        """A new register."""
        self._count += 1
        return f"%{hint}{self._count}"

    def put(self, text: str) -> str:
        """Write an instruction with a result."""
        register = self.name()
        self.lines.append(f"  {register} = {text}")
        return register

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def label(self, hint: str) -> str:
        """A new block's name."""
        self._count += 1
        return f"{hint}{self._count}"

    def begin(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")
        self.block = label

    def place(self, type: str) -> str:
        """Room for a local."""
        register = self.name("p")
        self.places.append(f"  {register} = alloca {type}")
        return register

    def call(self, result: str, function: str, *arguments: str) -> str:
        """Call an intrinsic."""
        types = ", ".join(map(_type_of, arguments))
        self.declared[function] = f"declare {result} @{function}({types})"
        return self.put(f"call {result} @{function}({', '.join(arguments)})")

    def run(self, function: str, *arguments: str) -> None:
        """Call an intrinsic without a result."""
        types = ", ".join(map(_type_of, arguments))
        self.declared[function] = f"declare void @{function}({types})"
        self.do(f"call void @{function}({', '.join(arguments)})")

    # --- lanes ----------------------------------------------------------------------------------

    def spread(self, value: Value, lanes: int) -> Value:
        """The value in every lane."""
        if value.lanes == lanes and not value.stride:
            return value
        assert value.lanes == 1, f"{value.lanes} lanes where there are {lanes}"
        type = TYPES[value.element]
        made = vector(type, lanes)
        if value.text[0] != "%":
            text = f"<{', '.join([f'{type} {value.text}'] * lanes)}>"
        else:
            one = self.put(f"insertelement {made} poison, {type} {value.text}, i64 0")
            zeros = f"<{lanes} x i32> zeroinitializer"
            text = self.put(f"shufflevector {made} {one}, {made} poison, {zeros}")
        spread = Value(text, value.element, lanes)
        if not value.stride:
            return spread
        steps = ", ".join(f"{type} {i * value.stride}" for i in range(lanes))
        return Value(self.put(f"add {made} {text}, <{steps}>"), value.element, lanes)

    def alike(self, values: Sequence[Value], lanes: int) -> list[Value]:
        """All as vectors if one varies, else all as scalars."""
        if all(value.is_uniform for value in values):
            return list(values)
        return [self.spread(value, lanes) for value in values]

    def folded(self, value: Value, combine: str) -> Value:
        """One value of all lanes: halves are put together until one is left."""
        from fml.engine.kernels.llvm.primitives import primitive

        while value.lanes > 1:
            half = value.lanes // 2
            parts = [self.part(value, range(begin, begin + half)) for begin in (0, half)]
            value = primitive(self, combine, parts, value.element)
        return value

    def part(self, value: Value, lanes: range) -> Value:
        """Some lanes of a vector."""
        if len(lanes) == 1:
            text = self.put(f"extractelement {value.typed}, i64 {lanes[0]}")
            return Value(text, value.element)
        chosen = ", ".join(f"i32 {lane}" for lane in lanes)
        text = self.put(
            f"shufflevector {value.typed}, {value.type} poison, <{len(lanes)} x i32> <{chosen}>"
        )
        return replace(value, text=text, lanes=len(lanes))

    def joined(self, parts: Sequence[Value]) -> Value:
        """One vector of the lanes of several, which are of one size and a power of 2 of them."""
        while len(parts) > 1:
            lanes = 2 * parts[0].lanes
            chosen = ", ".join(f"i32 {lane}" for lane in range(lanes))
            parts = [
                replace(
                    a,
                    text=self.put(
                        f"shufflevector {a.typed}, {b.typed}, <{lanes} x i32> <{chosen}>"
                    ),
                    lanes=lanes,
                )
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]


def _type_of(argument: str) -> str:
    """The type of a typed argument: `<4 x float> %a`, `i32 4` or `ptr align 4 %a`."""
    if argument[0] == "<":
        return argument[: argument.index(">") + 1]
    return argument.partition(" ")[0]
