"""Axes that are turned round: every entry arrives, whatever the sizes leave over."""

import numpy as np
import pytest
from clustered import made
from compiled import HOSTS

from fml.engine.ir.types import Element
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.text import show
from fml.engine.ops.build import Value

HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
ORDERS = (
    ((128, 128), (1, 0)), ((37, 71), (1, 0)), ((3, 20, 35), (0, 2, 1)),
    ((2, 5, 6, 33), (0, 3, 1, 2)), ((2, 33, 5, 6), (0, 2, 3, 1)),
    ((5, 6, 7, 19), (3, 1, 0, 2)), ((200, 3), (1, 0)),
)  # fmt: skip


@HOST
@pytest.mark.parametrize("element", [Element.F32, Element.F16, Element.F64, Element.U8])
@pytest.mark.parametrize(("sizes", "order"), ORDERS)
def test_transposes(
    host: Host, sizes: tuple[int, ...], order: tuple[int, ...], element: Element
) -> None:
    numbers = np.random.default_rng(0).integers(0, 200, sizes)
    dtype = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "u8": np.uint8}[element.value]
    x = numbers.astype(dtype)
    found, _ = made(lambda x: {"y": x.call("transpose", order=order)}, host, x, element=element)
    np.testing.assert_array_equal(found["y"], x.transpose(order))


@HOST
def test_what_is_turned_meets_what_is_not(host: Host) -> None:
    def both(x: Value, y: Value) -> dict[str, Value]:
        return {"sum": x.call("transpose", order=(0, 2, 1)) * 2.0 + y}

    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((3, 70, 45)), rng.standard_normal((3, 45, 70))
    found, _ = made(both, host, x, y, element=Element.F64)
    np.testing.assert_array_equal(found["sum"], x.transpose(0, 2, 1) * 2 + y)


@HOST
def test_a_pool_whose_result_is_flattened(host: Host) -> None:
    """The loops are those of the pool: no index is a quotient."""
    how = {"size": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}

    def pooled(x: Value) -> dict[str, Value]:
        (n, *rest) = x.call("max_pool", **how).type.shape
        flat = (n, rest[0] * rest[1] * rest[2])
        return {"flat": x.call("max_pool", **how).call("reshape", shape=flat)}

    x = np.random.default_rng(2).standard_normal((3, 6, 8, 5)).astype(np.float32)
    found, kernel = made(pooled, host, x)
    wanted = x.reshape(3, 3, 2, 4, 2, 5).max((2, 4)).reshape(3, -1)
    np.testing.assert_array_equal(found["flat"], wanted)
    assert "//" not in show(kernel)
