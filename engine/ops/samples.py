"""Valid inputs for operations, made by their records for the test suite."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import NO_ATTRIBUTES, Attributes
from fml.engine.ir.types import BOOL, F32, Element, ElementType, Label, tensor
from fml.engine.ops.later import np
from fml.engine.ops.record import Array, Generator, Sample

Sizes: TypeAlias = tuple[int, ...]
Sampler: TypeAlias = Callable[[Generator], Sequence[Sample]]

ELEMENTS = {"float64": F32, "bool": BOOL, "int32": Element.I32, "int64": Element.I64}
SHAPES: tuple[Sizes, ...] = ((), (7,), (3, 5), (0, 4), (2, 1, 3))
PAIRS: tuple[tuple[Sizes, ...], ...] = (
    ((), ()),
    ((3, 5), (3, 5)),
    ((3, 5), (5,)),
    ((), (4,)),
    ((3, 1), (1, 5)),
    ((0, 3), (3,)),
    ((2, 1, 3), (5, 1)),
)


def draw(rng: Generator, sizes: Sizes, low: float = -2.0, high: float = 2.0) -> Array:
    """Uniform float64 numbers."""
    return np.asarray(rng.uniform(low, high, sizes))


def whole(rng: Generator, sizes: Sizes, low: int = -5, high: int = 6) -> Array:
    """Integers in low .. high - 1."""
    return np.asarray(rng.integers(low, high, sizes, dtype=np.int32))


def coin(rng: Generator, sizes: Sizes) -> Array:
    """Booleans."""
    return np.asarray(rng.integers(0, 2, sizes) > 0)


def dims(*sizes: int) -> tuple[Dim, ...]:
    """A shape as attributes have it."""
    return tuple(map(Dim.of, sizes))


def one_of(cases: Sequence[tuple[Sizes, Attributes]]) -> Sampler:
    """Samples of one tensor of floats, each of its own shape and with attributes."""
    return lambda rng: [sample([draw(rng, sizes)], attributes) for sizes, attributes in cases]


def sample(
    arrays: Sequence[Array],
    attributes: Attributes = NO_ATTRIBUTES,
    elements: Sequence[ElementType | None] = (),
    smooth: bool = True,
) -> Sample:
    """Make a sample of arrays; elements follow the dtypes where they are not given.

    All float inputs are differentiable, unless the operation is not smooth.
    """
    given = (*elements, *(None for _ in arrays))
    types = tuple(
        tensor(element or ELEMENTS[array.dtype.name], *array.shape)
        for array, element in zip(arrays, given, strict=False)
    )
    differentiable = tuple(place for place, type in enumerate(types) if smooth and type.is_float)
    return Sample(tuple(arrays), types, attributes, differentiable)


def labels(classes: int) -> Label:
    """Labels of so many classes."""
    return Label(Dim.of(classes))
