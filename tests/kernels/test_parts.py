"""Two cores that share a product or a convolution have as much to do, and leave the same bits."""

from collections.abc import Iterator

import numpy as np
import pytest
from compiled import HOSTS, built
from sums import drawn

from fml.engine.ir.types import F32
from fml.engine.kernels.blocks import (
    Block,
    Convolution,
    Direction,
    Product,
    Sliding,
    block_kernel,
    result_sizes,
)
from fml.engine.ops.record import Array

# Square layers of LeNet and ResNet-8: size, channels, units, window, stride.
CONVOLUTIONS = (
    (28, 1, 32, 5, 1), (14, 32, 64, 5, 1), (32, 3, 16, 3, 1), (32, 16, 16, 3, 1),
    (32, 16, 32, 3, 2), (32, 16, 32, 1, 2), (16, 32, 32, 3, 1), (16, 32, 64, 3, 2),
    (16, 32, 64, 1, 2), (8, 64, 64, 3, 1),
)  # fmt: skip
DENSE = ((784, 256), (256, 128), (784, 10), (3136, 512))
BATCHES = (4, 16)
# Two halves are not worth a second core below so many products.
FEW = 1 << 17


def blocks() -> Iterator[Block]:
    for batch in BATCHES:
        for size, channels, units, window, stride in CONVOLUTIONS:
            pad = ((window - 1) // 2, window // 2)
            made = Convolution(
                F32, batch, (size, size), channels, (window, window), units, (stride, stride),
                (pad, pad),
            )  # fmt: skip
            yield from (Sliding(direction, made) for direction in Direction)
        for k, n in DENSE:
            yield Product(F32, batch, k, n)
            yield Product(F32, batch, n, k, b_turned=True)
            yield Product(F32, k, batch, n, a_turned=True)


def operands(block: Block) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    if isinstance(block, Product):
        return (
            drawn(rng, block.rows, block.depth, element=F32),
            drawn(rng, block.depth, block.columns, element=F32),
        )
    conv = block.convolution
    images = drawn(rng, conv.batch, *conv.size, conv.channels, element=F32)
    kernel = drawn(rng, *conv.window, conv.channels, conv.units, element=F32)
    result = drawn(rng, conv.batch, *conv.places, conv.units, element=F32)
    match block.direction:
        case Direction.FORWARD:
            return images, kernel
        case Direction.IMAGES:
            return result, kernel
        case Direction.KERNEL:
            return images, result


def products(block: Block) -> int:
    if isinstance(block, Product):
        return block.rows * block.depth * block.columns
    conv = block.convolution
    taps = conv.window[0] * conv.window[1]
    return conv.batch * conv.places[0] * conv.places[1] * taps * conv.channels * conv.units


@pytest.mark.parametrize("block", list(blocks()), ids=str)
def test_two_halves_are_as_large_and_make_the_whole(block: Block) -> None:
    """Each core has scratch of its own, writes its own results, and not those of the other."""
    kernel = block_kernel(block, "shared", HOSTS["native"])
    call, given = built(kernel, HOSTS["native"]), operands(block)

    def run(begin: int, end: int) -> Array:
        out = np.full(result_sizes(block), np.nan, np.float32)
        scratch = [np.full(size, 77, np.float32) for size in kernel.scratch]
        call([*given, out, *scratch], [begin, end])
        return out

    whole, half = run(0, kernel.parts), kernel.parts // 2
    assert not np.isnan(whole).any()
    first, second = run(0, half), run(half, kernel.parts)
    np.testing.assert_array_equal(np.isnan(first), ~np.isnan(second))
    np.testing.assert_array_equal(np.where(np.isnan(first), second, first), whole)
    share = np.isnan(second).mean()
    # 3 x 3 taps of 3 channels are cut into 15 and 12 rows of a tile.
    assert (kernel.parts == 1 and products(block) < FEW) or 0.44 < share < 0.56, kernel.parts
