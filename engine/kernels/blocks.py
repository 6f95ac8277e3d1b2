"""What is computed in blocks of registers and caches: products, convolutions, their gradients."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from fml.engine.kernels import convolution
from fml.engine.kernels.contracting import AtIndices
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel
from fml.engine.kernels.matmul import Product, matmul
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
    """A kernel of (first operand, second operand, out, scratch...)."""
    if isinstance(block, Product):
        return matmul(block, name, host, finish)
    return _MAKERS[block.direction](block.convolution, name, host, finish)


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
    "result_sizes",
]
