"""What is computed in blocks of registers and caches: products, convolutions, their gradients."""

from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import TypeAlias

from fml.engine.kernels import convolution
from fml.engine.kernels.contracting import AtIndices
from fml.engine.kernels.expr import Buffer, wide
from fml.engine.kernels.independence import all_of
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Store
from fml.engine.kernels.matmul import Product, matmul
from fml.engine.kernels.nest import row_major
from fml.engine.kernels.slides import Convolution
from fml.engine.kernels.weight_gradient import weight_gradient


class Direction(Enum):
    """What of a convolution is computed: its result, or the gradient of images or kernel."""

    FORWARD = "forward"
    IMAGES = "images"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Sliding:
    """One direction of a convolution."""

    direction: Direction
    convolution: Convolution


Block: TypeAlias = Product | Sliding

_MAKERS = {
    Direction.FORWARD: convolution.forward,
    Direction.IMAGES: convolution.input_gradient,
    Direction.KERNEL: weight_gradient,
}


def block_kernel(block: Block, name: str, host: Host, finish: AtIndices | None = None) -> Kernel:
    """A kernel of (first operand, second operand, sums, scratch...).

    Sums are made in f32 of operands of 16 bits. With `finish`, those alone are stored of which some
    terms are still missing.
    """
    if isinstance(block, Product):
        return matmul(block, name, host, finish)
    return _MAKERS[block.direction](block.convolution, name, host, finish)


def whole_kernel(block: Block, name: str, host: Host) -> Kernel:
    """A kernel of (first operand, second operand, result, scratch...), of the operands' element."""
    element = block.element if isinstance(block, Product) else block.convolution.element
    if wide(element) is element:
        return block_kernel(block, name, host)
    result, sizes = Buffer("result", element), result_sizes(block)
    kernel = block_kernel(
        block, name, host, lambda total, at: [Store(result, row_major(at, sizes), total)]
    )
    scratch, used = finished_scratch(kernel, block)
    return replace(kernel, buffers=(*kernel.buffers[:2], result, *scratch), scratch=used)


def finished_scratch(kernel: Kernel, block: Block) -> tuple[tuple[Buffer, ...], tuple[int, ...]]:
    """Scratch of a kernel with a `finish`, and its entries: sums too, if some are stored."""
    _, _, sums, *scratch = kernel.buffers
    stores = (s for s in all_of(kernel.body) if isinstance(s, Store))
    if all(store.buffer != sums for store in stores):
        return tuple(scratch), kernel.scratch
    return (sums, *scratch), (prod(result_sizes(block)), *kernel.scratch)


def result_sizes(block: Block) -> tuple[int, ...]:
    """The sizes of the indices that `finish` is given."""
    if isinstance(block, Product):
        return block.batch, block.rows, block.columns
    c = block.convolution
    match block.direction:
        case Direction.FORWARD:
            return c.batch, *c.places, c.units
        case Direction.IMAGES:
            return c.batch, *c.size, c.channels
        case Direction.KERNEL:
            return *c.window, c.channels // c.groups, c.units


__all__ = [
    "Block",
    "Convolution",
    "Direction",
    "Product",
    "Sliding",
    "block_kernel",
    "finished_scratch",
    "result_sizes",
    "whole_kernel",
]
