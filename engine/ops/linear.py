"""Matrix products."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
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


# --- sums in parts --------------------------------------------------------------------------------


def _infer_parts(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    a, b = inputs
    if (a.rank, b.rank) != (2, 2):
        raise OpTypeError("E0304", f"`partial_matmul` takes matrices, found {a} and {b}", (0, 1))
    whole = _infer_matmul(inputs, attributes)
    depth, parts = b.shape[0], rules.as_int(attributes["parts"])
    if depth.size is not None and depth.size % parts:
        message = f"`partial_matmul` cannot cut {depth} products into {parts} equal parts"
        raise OpTypeError("E0304", message, (1,))
    return whole.with_shape((Dim.of(parts), *whole.shape))


def _cut(a: Array, b: Array, parts: int) -> tuple[Array, Array]:
    """Both matrices with the parts as their first axis."""
    (rows, depth), columns = a.shape, b.shape[1]
    each = depth // parts
    return a.reshape(rows, parts, each).swapaxes(0, 1), b.reshape(parts, each, columns)


def _partial_matmul(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    with np.errstate(all="ignore"):
        a, b = _cut(inputs[0], inputs[1], result.sizes[0])
        return np.asarray(np.matmul(a, b), result.dtype)


def _partial_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    x, y = nests.inputs_of(inputs)
    depth = inputs[1].sizes[0] // result.sizes[0]

    def value(at: "nests.Indices", over: "nests.Indices") -> "nests.Expr":
        (part, row, column), (k,) = at, over
        return x(row, part * depth + k) * y(part * depth + k, column)

    return nests.fold(inputs, result, (depth,), value)


def _partial_block(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "blocks.Product":
    (parts, rows, columns), depth = result.sizes, inputs[1].sizes[0]
    element = nests.stored_as(result)
    return blocks.Product(element, rows, depth // parts, columns, parts, is_cut=True)


def _partial_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    """Gradients G B^T and A^T G of each part."""
    a, b = call.inputs
    (rows, depth), columns, parts = a.type.shape, b.type.shape[1], g.type.shape[0]
    each = depth / rules.as_int(call.attributes["parts"])
    left = reshaped(a, (rows, parts, each)).call("transpose", order=(1, 0, 2))
    to_left = g @ _swap(reshaped(b, (parts, each, columns)))
    to_right = _swap(left) @ g
    whole = reshaped(to_left.call("transpose", order=(1, 0, 2)), a.type.shape)
    return whole, reshaped(to_right, b.type.shape)


def _partial_flops(inputs: Sequence[TensorType], attributes: Attributes, result: TensorType) -> int:
    return 2 * rules.entries(result) * (inputs[1].sizes[0] // result.sizes[0])


def _partial_samples(rng: Generator) -> Sequence[Sample]:
    cases = (((5, 6), (6, 4), 2), ((1, 6), (6, 1), 3), ((3, 4), (4, 0), 4), ((3, 0), (0, 2), 2))
    return [sample([draw(rng, a), draw(rng, b)], {"parts": parts}) for a, b, parts in cases]


PARTIAL_MATMUL = Op(
    name="partial_matmul",
    doc="Products of parts of the summed axis: `parts` matrices whose sum is `a @ b`.",
    signature="(a: number[M, K], b: number[K, N], parts) -> number[parts, M, N]",
    infer=_infer_parts,
    compute=_partial_matmul,
    nest=_partial_nest,
    block=_partial_block,
    samples=_partial_samples,
    gradient=_partial_gradient,
    flops=_partial_flops,
)

OPS = (MATMUL, PARTIAL_MATMUL)
