"""Matrix products."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import reshaped
from fml.engine.ops.later import blocks, nests, np
from fml.engine.ops.record import Array, Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.rules import ONE
from fml.engine.ops.samples import draw, sample

if TYPE_CHECKING:
    from fml.engine.ops.build import Value


def _infer_matmul(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    a, b = inputs
    rules.numbers("@", inputs)
    element = rules.same_element("@", inputs)
    for place, type in enumerate(inputs):
        if type.rank == 0:
            message = f"`@` takes vectors and matrices, found the scalar {type}"
            raise OpTypeError("E0304", message, (place,), "a scalar multiplies with `*`")
    if b.rank > 2 and a.shape[:-2] != b.shape[:-2]:
        message = f"`@` of batches of matrices needs equal leading axes: {a} and {b}"
        raise OpTypeError("E0308", message, (0, 1), "`reshape` one of them")
    inner = b.shape[-2] if b.rank > 1 else b.shape[0]
    if a.shape[-1] != inner:
        message = f"inner axes differ in `@`: {a.shape[-1]} and {inner}"
        way_out = "the last axis of the left must be the last but one of the right"
        raise OpTypeError("E0301", message, (0, 1), way_out)
    return TensorType(element, (*a.shape[:-1], *(b.shape[-1:] if b.rank > 1 else ())))


def _matmul(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    a, b = inputs
    with np.errstate(all="ignore"):
        if a.ndim > 2 and b.ndim <= 2:
            # One large product instead of many small ones.
            product = np.matmul(a.reshape(-1, a.shape[-1]), b)
            return np.asarray(product, result.dtype).reshape(result.sizes)
        return np.asarray(np.matmul(a, b), result.dtype)


def _matmul_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    a, b = inputs

    x, y = nests.inputs_of(inputs)

    def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
        if b.rank == 1:
            return x(*at, *over) * y(*over)
        *row, column = at
        return x(*row, *over) * y(*row[: b.rank - 2], *over, column)

    return nests.fold(inputs, result, a.sizes[-1:], value)


def _block(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "blocks.Product":
    """Vectors are matrices of one row or column; where only one is a batch, it is one matrix."""
    a, b = inputs
    depth, columns = a.sizes[-1], b.sizes[-1] if b.rank > 1 else 1
    batch = math.prod(b.sizes[:-2])
    rows = math.prod(a.sizes[:-1]) // max(batch, 1)
    return blocks.Product(nests.stored_as(result), rows, depth, columns, batch)


def _swap(x: "Value") -> "Value":
    rank = x.type.rank
    return x.call("transpose", order=(*range(rank - 2), rank - 1, rank - 2))


def _flat(x: "Value") -> "Value":
    """All axes but the last made one."""
    return reshaped(x, (rules.product(x.type.shape[:-1]), x.type.shape[-1]))


def _matmul_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    """Gradients G B^T and A^T G, vectors taken as matrices of one row or column."""
    a, b = call.inputs
    left = reshaped(a, (ONE, *a.type.shape)) if a.type.rank == 1 else a
    right = reshaped(b, (*b.type.shape, ONE)) if b.type.rank == 1 else b
    g = reshaped(g, (*left.type.shape[:-1], right.type.shape[-1]))
    to_left = g @ _swap(right)
    shared = left.type.rank > right.type.rank
    to_right = _swap(_flat(left)) @ _flat(g) if shared else _swap(left) @ g
    return reshaped(to_left, a.type.shape), reshaped(to_right, b.type.shape)


def _flops(inputs: Sequence[TensorType], attributes: Attributes, result: TensorType) -> int:
    return 2 * rules.entries(result) * inputs[0].sizes[-1]


def _by_sample(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType, follow: frozenset[int]
) -> bool:
    a, b = inputs
    return a.rank > 1 and follow == (frozenset({0}) if b.rank <= 2 else frozenset({0, 1}))


def _samples(rng: Generator) -> Sequence[Sample]:
    shapes = (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((5, 3), (3, 4)),
        ((2, 5, 3), (3, 4)),
        ((2, 5, 3), (3,)),
        ((2, 4, 3), (2, 3, 5)),
        ((2, 1, 4, 3), (2, 1, 3, 2)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 3)),
    )
    return [sample([draw(rng, a), draw(rng, b)]) for a, b in shapes]


MATMUL = Op(
    name="matmul",
    doc="Product of matrices or vectors; leading axes are a batch, and equal if both have them.",
    signature="(a: number[..., M, K], b: number[..., K, N]) -> number[..., M, N]",
    infer=_infer_matmul,
    compute=_matmul,
    nest=_matmul_nest,
    block=_block,
    samples=_samples,
    gradient=_matmul_gradient,
    reference="numpy.matmul",
    by_sample=_by_sample,
    flops=_flops,
)

OPS = (MATMUL,)
