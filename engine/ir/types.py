"""Element and tensor types of the graph, written as in `.fml`: `f32[N, 28, 28, 1]`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

from fml.engine.ir.dims import Dim, Shape


class Element(Enum):
    """What one entry of a tensor is; the value is its name in `.fml`."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    BOOL = "bool"

    @property
    def is_float(self) -> bool:
        """Whether gradients exist for it."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether it is a whole number (bool is not a number)."""
        return self in _INTEGERS

    def __str__(self) -> str:
        return self.value


_FLOATS = (Element.F16, Element.BF16, Element.F32, Element.F64)
_INTEGERS = (Element.I32, Element.I64, Element.U8)


@dataclass(frozen=True, slots=True)
class Label:
    """A class number in 0 .. classes - 1, which is no number; stored as i32."""

    classes: Dim

    def __str__(self) -> str:
        return f"label[{self.classes}]"


ElementType: TypeAlias = Element | Label


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape."""

    element: ElementType
    shape: Shape = ()

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape in whole numbers.

        Raises:
            ValueError: a name remains, or a dimension is not whole or below 0.
        """
        sizes: list[int] = []
        for axis in self.shape:
            size = axis.size
            if size is None or size < 0:
                raise ValueError(f"{self} has no definite size: {axis}")
            sizes.append(size)
        return tuple(sizes)

    @property
    def is_float(self) -> bool:
        """Whether the element is a floating-point number."""
        return isinstance(self.element, Element) and self.element.is_float

    @property
    def dtype(self) -> "np.dtype[np.generic]":
        """The numpy dtype that stores it (bf16 is kept as f32, rounded to its precision)."""
        return _dtype(Element.I32 if isinstance(self.element, Label) else self.element)

    @property
    def nbytes(self) -> int:
        """Bytes of a definite type; ValueError as for `sizes`."""
        return math.prod(self.sizes) * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> "TensorType":
        """The same element in another shape."""
        return replace(self, shape=shape)

    def with_element(self, element: ElementType) -> "TensorType":
        """The same shape of another element."""
        return replace(self, element=element)

    def substitute(self, values: Mapping[str, Dim | int]) -> "TensorType":
        """Replace dimension names everywhere, the number of classes too."""
        element = self.element
        if isinstance(element, Label):
            element = Label(element.classes.substitute(values))
        shape = tuple(axis.substitute(values) for axis in self.shape)
        return TensorType(element, shape)

    def names(self) -> frozenset[str]:
        """All dimension names mentioned."""
        axes = [*self.shape, *([self.element.classes] if isinstance(self.element, Label) else [])]
        return frozenset[str]().union(*(axis.names() for axis in axes))

    def __str__(self) -> str:
        if not self.shape:
            return str(self.element)
        return f"{self.element}[{', '.join(map(str, self.shape))}]"


_DTYPES = {
    Element.F16: "float16",
    Element.BF16: "float32",
    Element.F32: "float32",
    Element.F64: "float64",
    Element.I32: "int32",
    Element.I64: "int64",
    Element.U8: "uint8",
    Element.BOOL: "bool",
}


@cache
def _dtype(element: Element) -> "np.dtype[np.generic]":
    import numpy as np  # a tenth of a second, which checking a file need not wait for

    return np.dtype(_DTYPES[element])


F32 = Element.F32
BOOL = Element.BOOL
SCALAR = TensorType(F32)


def tensor(element: ElementType, *shape: Dim | int | str) -> TensorType:
    """Write a type in Python: `tensor(F32, "N", 3)`."""
    return TensorType(element, tuple(Dim.of(axis) for axis in shape))
