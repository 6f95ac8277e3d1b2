"""Kernels whose work can be shared: ranges of an outermost loop of independent iterations.

Every iteration does what it did, so the bits do not depend on how the work is shared.
"""

from collections.abc import Sequence
from dataclasses import replace

from fml.engine.kernels.expr import Var, minimum
from fml.engine.kernels.independence import Known, is_independent, size_of
from fml.engine.kernels.loops import For, If, Kernel, Let, Statement

# Less work than this, in iterations of innermost loops, is done sooner than it is shared.
_WORTH = 1 << 14
# More parts than this share the work of no machine's cores better.
_PARTS = 64


def shared_out(kernel: Kernel) -> Kernel:
    """The kernel in parts, if it is one loop of independent iterations and enough to do."""
    *lets, loop = kernel.body
    if kernel.sizes or not isinstance(loop, For) or not all(isinstance(s, Let) for s in lets):
        return kernel
    size = size_of(loop)
    if size is None or loop.step != 1 or _iterations(kernel.body) < _WORTH:
        return kernel
    names = [buffer.name for buffer in kernel.buffers]
    one = {names[made]: names[given] for given, made in kernel.shared}
    chunk = -(-size // _PARTS)
    chunk = -(-chunk // loop.lanes) * loop.lanes
    parts = -(-size // chunk)
    if parts < 2 or not is_independent(loop, Known(memory=one)):
        return kernel
    begin, end = Var("begin"), Var("end")
    part = replace(
        loop,
        start=loop.start + begin * chunk,
        stop=minimum(loop.start + end * chunk, loop.stop),
    )
    return replace(kernel, body=(*lets, part), sizes=(begin, end), parts=parts)


def _iterations(body: Sequence[Statement]) -> int:
    """How often what stands innermost is done, as far as can be told."""
    total = 0
    for statement in body:
        if isinstance(statement, For):
            total += (size_of(statement) or 1) * max(1, _iterations(statement.body))
        elif isinstance(statement, If):
            total += _iterations(statement.body)
    return total
