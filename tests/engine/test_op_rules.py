"""What single operations promise: errors, shapes with names, conventions, peers' results."""

from collections.abc import Sequence

import numpy as np
import pytest
from evaluate import evaluate

from fml.engine.autodiff import expand_gradients
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import BOOL, F32, Element, ElementType, Label, TensorType, tensor
from fml.engine.ops.build import Builder
from fml.engine.ops.record import Array, OpTypeError
from fml.engine.ops.table import OPS

N, D, H, W = map(Dim.of, "NDHW")
ONE, TWO, THREE = map(Dim.of, (1, 2, 3))
THREE_WAY, FOUR_WAY = Label(THREE), Label(Dim.of(4))
PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
POOL = {"size": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
FIRST = {"axes": (0,), "keep": False}


def f32(*shape: Dim | int | str) -> TensorType:
    return tensor(F32, *shape)


def of(element: ElementType, *shape: Dim | int | str) -> TensorType:
    return tensor(element, *shape)


ERRORS: list[tuple[str, Sequence[TensorType], Attributes, str, tuple[int, ...]]] = [
    ("matmul", [f32("N", 4), f32(3, 4)], {}, "E0301", (0, 1)),
    ("matmul", [f32("N"), f32("D")], {}, "E0301", (0, 1)),
    ("matmul", [f32(), f32(3)], {}, "E0304", (0,)),
    ("matmul", [f32(2, 4, 3), f32(5, 3, 4)], {}, "E0308", (0, 1)),
    ("matmul", [f32(3), of(Element.F64, 3)], {}, "E0303", (0, 1)),
    ("add", [f32("N", 3), f32("N", 4)], {}, "E0302", (0, 1)),
    ("add", [f32("N"), f32("D")], {}, "E0302", (0, 1)),
    ("add", [f32("N"), f32(3)], {}, "E0302", (0, 1)),
    ("add", [f32(3), of(Element.I32, 3)], {}, "E0303", (0, 1)),
    ("multiply", [of(BOOL, 3), f32(3)], {}, "E0306", (0,)),
    ("multiply", [f32(3), of(THREE_WAY, 3)], {}, "E0306", (1,)),
    ("less", [of(THREE_WAY), of(THREE_WAY)], {}, "E0306", (0,)),
    ("equal", [of(THREE_WAY), of(FOUR_WAY)], {}, "E0314", (0, 1)),
    ("equal", [of(THREE_WAY), f32()], {}, "E0303", (0, 1)),
    ("logical_and", [of(BOOL), f32()], {}, "E0306", (1,)),
    ("select", [f32(), f32(), f32()], {}, "E0306", (0,)),
    ("select", [of(BOOL), f32(), of(Element.I32)], {}, "E0303", (1, 2)),
    ("select", [of(BOOL, "N"), f32("N"), f32("D")], {}, "E0302", (0, 2)),
    ("exp", [of(Element.I32, 3)], {}, "E0306", (0,)),
    ("reshape", [f32(3, 4)], {"shape": (N,)}, "E0307", (0,)),
    ("transpose", [f32(3, 4)], {"order": (0, 0)}, "E0305", (0,)),
    ("transpose", [f32(3, 4)], {"order": (0,)}, "E0305", (0,)),
    ("broadcast", [f32("N")], {"shape": (THREE,)}, "E0302", (0,)),
    ("broadcast", [f32(2, 3)], {"shape": (THREE,)}, "E0302", (0,)),
    ("concat", [f32(2, 3), f32(2, 4)], {"axis": 0}, "E0308", (0, 1)),
    ("concat", [f32(2), f32(2, 4)], {"axis": 0}, "E0308", (0, 1)),
    ("concat", [f32(2), of(BOOL, 2)], {"axis": 0}, "E0303", (0, 1)),
    ("slice", [f32(3)], {"starts": (1,), "stops": (4,)}, "E0309", (0,)),
    ("slice", [f32("N")], {"starts": (2,), "stops": (1,)}, "E0309", (0,)),
    ("slice", [f32("N")], {"starts": (0,), "stops": (N + 1,)}, "E0309", (0,)),
    ("pad", [f32(3)], {"before": (-1,), "after": (0,), "value": 0}, "E0309", (0,)),
    ("flip", [f32(3)], {"axis": 1}, "E0305", (0,)),
    ("take", [f32("N", 4), of(THREE_WAY)], {"axis": 1}, "E0314", (0, 1)),
    ("take", [f32(3), f32()], {"axis": 0}, "E0306", (1,)),
    ("one_hot", [of(Element.I32, 3)], {"element": F32}, "E0306", (0,)),
    ("sum", [f32("N")], {"axes": (1,), "keep": False}, "E0305", (0,)),
    ("sum", [f32("N", 3)], {"axes": (0, 0), "keep": False}, "E0305", (0,)),
    ("sum", [of(THREE_WAY, "N")], FIRST, "E0306", (0,)),
    ("max", [f32(0)], FIRST, "E0313", (0,)),
    ("any", [f32("N")], FIRST, "E0306", (0,)),
    ("argmax", [f32(0)], {"axis": 0}, "E0313", (0,)),
    ("conv", [f32("N", 8, 8), f32(3, 3, 1, 4)], PLAIN, "E0304", (0,)),
    ("conv", [f32("N", 8, 8, 2), f32(3, 3, 1, 4)], PLAIN, "E0310", (0, 1)),
    ("conv", [f32("N", 8, 8, 2), f32(3, 3, 1, 3)], {**PLAIN, "groups": 2}, "E0310", (1,)),
    ("conv", [f32("N", 2, 8, 1), f32(3, 3, 1, 4)], PLAIN, "E0311", (0,)),
    ("max_pool", [f32("N", 1, 8, 1)], POOL, "E0311", (0,)),
    ("max_pool", [f32("N", 8, 1)], POOL, "E0304", (0,)),
    ("window_sum", [of(Element.U8, "N", 8, 8, 1)], POOL, "E0306", (0,)),
    ("roll", [f32(3)], {"axis": 1, "shift": 1}, "E0305", (0,)),
    (
        "conv_input_gradient",
        [f32("N", 8, 8, 3), f32(3, 3, 1, 4)],
        {**PLAIN, "shape": (N, Dim.of(10), Dim.of(10), ONE)},
        "E0310",
        (0,),
    ),
    ("assign", [f32(3), of(Element.I32, 3)], {"name": "w"}, "E0323", (0, 1)),
    ("assign", [f32(3), f32(1)], {"name": "w"}, "E0323", (0, 1)),
    ("gradient", [f32(3), f32()], {}, "E0328", (0,)),
    ("gradient", [f32(), of(Element.I32)], {}, "E0328", (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "code", "operands"), ERRORS)
def test_misfits_name_the_clashing_operands_and_a_way_out(
    op: str,
    inputs: Sequence[TensorType],
    attributes: Attributes,
    code: str,
    operands: tuple[int, ...],
) -> None:
    with pytest.raises(OpTypeError) as caught:
        OPS[op].infer(inputs, attributes)
    assert (caught.value.code, caught.value.operands) == (code, operands)
    assert caught.value.help


SYMBOLIC: list[tuple[str, Sequence[TensorType], Attributes, TensorType]] = [
    ("add", [f32("N", 3), f32(3)], {}, f32("N", 3)),
    ("add", [f32("N", 1), f32("D")], {}, f32("N", "D")),
    ("add", [f32(N + N), f32(2 * N)], {}, f32(2 * N)),
    ("divide", [of(Element.I32, "N"), of(Element.I32)], {}, f32("N")),
    ("equal", [of(THREE_WAY, "N"), of(Element.I64)], {}, of(BOOL, "N")),
    ("matmul", [f32("N", "D"), f32("D", 3)], {}, f32("N", 3)),
    ("matmul", [f32("B", "N", "D"), f32("B", "D", "M")], {}, f32("B", "N", "M")),
    ("reshape", [f32("N", "H", "W", 2)], {"shape": (N, 2 * W * H)}, f32("N", 2 * H * W)),
    ("concat", [f32("N", 3), f32("D", 3)], {"axis": 0}, f32(N + D, 3)),
    ("slice", [f32("N")], {"starts": (1,), "stops": (N,)}, f32(N - 1)),
    ("pad", [f32("N")], {"before": (1,), "after": (D,), "value": 0}, f32(N + D + 1)),
    ("take", [f32("N", 3), of(THREE_WAY, "D")], {"axis": 1}, f32("N", "D")),
    ("one_hot", [of(THREE_WAY, "N")], {"element": F32}, f32("N", 3)),
    ("argmax", [f32("N", "D")], {"axis": 1}, of(Label(D), "N")),
    ("sum", [of(BOOL, "N")], FIRST, f32()),
    ("sum", [of(Element.U8, "N")], FIRST, of(Element.I32)),
    ("iota", [], {"size": N + 1, "element": F32}, f32(N + 1)),
    (
        "conv",
        [f32("N", "H", "W", 3), f32(3, 3, 3, 8)],
        {**PLAIN, "stride": (2, 1), "padding": ((1, 1), (1, 1))},
        f32("N", ((H - 1) / 2).floor() + 1, "W", 8),
    ),
    (
        "max_pool",
        [f32("N", "H", 28, 3)],
        POOL,
        f32("N", ((H - 2) / 2).floor() + 1, 14, 3),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "result"), SYMBOLIC)
def test_shapes_with_names_are_inferred(
    op: str, inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> None:
    assert OPS[op].infer(inputs, attributes) == result


# Worked out by hand.
RESULTS: list[tuple[str, Sequence[object], Attributes, object]] = [
    ("round", [[0.5, 1.5, -2.5]], {}, [0.0, 2.0, -2.0]),
    ("mod", [[-1.0, 5.0], [3.0, -3.0]], {}, [2.0, -1.0]),
    ("flip", [[[1.0, 2.0], [3.0, 4.0]]], {"axis": 1}, [[2.0, 1.0], [4.0, 3.0]]),
    ("pad", [[1.0, 2.0]], {"before": (1,), "after": (2,), "value": 9}, [9.0, 1, 2, 9, 9]),
    ("slice", [[1.0, 2.0, 3.0, 4.0]], {"starts": (1,), "stops": (3,)}, [2.0, 3.0]),
    ("take", [[10.0, 20.0, 30.0], [2, 0, 2]], {"axis": 0}, [30.0, 10.0, 30.0]),
    ("take", [[10.0, 20.0], [-1, 5]], {"axis": 0}, [10.0, 20.0]),
    (
        "take_adjoint",
        [[1.0, 2.0, 4.0], [2, 0, 2]],
        {"axis": 0, "size": Dim.of(4)},
        [2.0, 0.0, 5.0, 0.0],
    ),
    ("cumsum", [[[1.0, 2.0], [3.0, 4.0]]], {"axis": 0}, [[1.0, 2.0], [4.0, 6.0]]),
    ("product", [[[1.0, 2.0], [3.0, 4.0]]], {"axes": (1,), "keep": True}, [[2.0], [12.0]]),
    ("sum", [[True, False, True]], FIRST, 2.0),
    ("max", [[[1.0, 5.0], [7.0, 2.0]]], {"axes": (0, 1), "keep": False}, 7.0),
    ("min", [[1.0, np.nan]], FIRST, np.nan),
    ("argmax", [[[1.0, 5.0, 5.0], [7.0, 2.0, 0.0]]], {"axis": 1}, [1, 0]),
    ("argmin", [[[1.0, 5.0], [7.0, 2.0]]], {"axis": 0}, [0, 1]),
    ("any", [[[False, True], [False, False]]], {"axes": (1,), "keep": False}, [True, False]),
    ("all", [[[False, True], [True, True]]], {"axes": (1,), "keep": False}, [False, True]),
    ("cast", [[1.9, -1.9, 0.0]], {"element": Element.I32}, [1, -1, 0]),
    ("cast", [[2.0, 0.0, np.nan]], {"element": BOOL}, [True, False, True]),
    (
        "cast",
        [[3e9, -3e9, np.nan, np.inf, -0.5]],
        {"element": Element.I32},
        [2**31 - 1, -(2**31), 0, 2**31 - 1, 0],
    ),
    ("cast", [[1e30, -np.inf]], {"element": Element.I64}, [2**63 - 1, -(2**63)]),
    ("cast", [[300.0, -4.0, 2.7]], {"element": Element.U8}, [255, 0, 2]),
    ("cast", [[257, -1]], {"element": Element.U8}, [1, 255]),
    ("power", [[2, 1, -1, -1, 3, 0], [-1, -5, -3, -2, 2, 0]], {}, [0, 1, -1, 1, 9, 1]),
    ("roll", [[1.0, 2.0, 3.0]], {"axis": 0, "shift": 1}, [3.0, 1.0, 2.0]),
    ("top_k", [[1.0, 5.0, np.nan, 5.0]], {"axis": 0, "k": THREE}, [2, 1, 3]),
    ("iota", [], {"size": Dim.of(3), "element": F32}, [0.0, 1.0, 2.0]),
    ("dim_value", [], {"dim": Dim.of(6) / 2}, 3.0),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "wanted"), RESULTS)
def test_results_worked_out_by_hand(
    op: str, inputs: Sequence[object], attributes: Attributes, wanted: object
) -> None:
    np.testing.assert_array_equal(compute(op, inputs, attributes), np.asarray(wanted))


def compute(op: str, inputs: Sequence[object], attributes: Attributes) -> Array:
    """Run an operation on nested lists."""
    arrays = [np.asarray(x) for x in inputs]
    elements = {"f": F32, "i": Element.I32, "b": BOOL}
    types = [of(elements[a.dtype.kind], *a.shape) for a in arrays]
    result = OPS[op].infer(types, attributes)
    arrays = [a.astype(t.dtype) for a, t in zip(arrays, types, strict=True)]
    run = OPS[op].compute
    assert run is not None
    return run(arrays, attributes, result)


def test_constants_fill_their_type_or_have_its_shape() -> None:
    run = OPS["constant"].compute
    assert run is not None
    filled = run([], {"value": 0.5}, f32(2, 2))
    nested = run([], {"value": ((1, 2), (3, 4))}, of(Element.I32, 2, 2))
    np.testing.assert_array_equal(filled, np.full((2, 2), 0.5, np.float32))
    np.testing.assert_array_equal(nested, [[1, 2], [3, 4]])
    assert (filled.dtype, nested.dtype) == (np.float32, np.int32)


# op, inputs, which input, its gradient: where the slope is a convention, not calculus.
SLOPES: list[tuple[str, list[object], int, object]] = [
    ("abs", [[0.0, -2.0]], 0, [0.0, -1.0]),
    ("sign", [[3.0]], 0, [0.0]),
    ("floor", [[1.5]], 0, [0.0]),
    ("maximum", [[0.0, 1.0, -1.0], [0.0, 0.0, 0.0]], 0, [0.0, 1.0, 0.0]),
    ("maximum", [[0.0, 1.0, -1.0], [0.0, 0.0, 0.0]], 1, [1.0, 0.0, 1.0]),
    ("minimum", [[0.0, 1.0], [0.0, 0.0]], 0, [0.0, 0.0]),
    ("power", [[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]], 0, [0.0, 1.0, 0.0]),
    ("power", [[0.0, -2.0, 1.0], [2.0, 3.0, 4.0]], 1, [0.0, 0.0, 0.0]),
    ("mod", [[5.0], [3.0]], 1, [-1.0]),
]


@pytest.mark.parametrize(("op", "inputs", "place", "wanted"), SLOPES)
def test_slopes_at_ties_and_corners(
    op: str, inputs: list[object], place: int, wanted: object
) -> None:
    np.testing.assert_array_equal(slope(op, inputs, place, {}), wanted)


def test_equal_entries_share_the_gradient_of_an_extreme() -> None:
    got = slope("max", [[3.0, 1.0, 3.0]], 0, FIRST)
    np.testing.assert_array_equal(got, [0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [([0.0, 2.0, 3.0], [6.0, 0.0, 0.0]), ([0.0, 0.0, 3.0], [0.0, 0.0, 0.0])],
)
def test_the_gradient_of_a_product_is_exact_at_zeros(inputs: object, wanted: object) -> None:
    np.testing.assert_array_equal(slope("product", [inputs], 0, FIRST), wanted)


def slope(op: str, inputs: list[object], place: int, attributes: Attributes) -> Array:
    """Gradient of the sum of an operation's result."""
    builder = Builder(op)
    arrays = {f"x{i}": np.asarray(x, np.float32) for i, x in enumerate(inputs)}
    xs = [builder.add("argument", f32(*a.shape), (), {"name": n}) for n, a in arrays.items()]
    y = builder.call(op, *xs, **attributes)
    total = y.call("sum", axes=tuple(range(y.type.rank)), keep=False)
    graph = builder.finish({"g": total.call("gradient", xs[place])})
    return evaluate(expand_gradients(graph), arrays)["g"]


def test_relu_has_slope_0_at_0() -> None:
    builder = Builder("relu")
    x = builder.add("argument", f32(3), (), {"name": "x"})
    total = x.call("maximum", 0.0).call("sum", axes=(0,), keep=False)
    graph = expand_gradients(builder.finish({"g": total.call("gradient", x)}))
    got = evaluate(graph, {"x": np.array([-1.0, 0.0, 1.0])})["g"]
    np.testing.assert_array_equal(got, [0.0, 0.0, 1.0])


def test_third_gradient_of_a_square_at_0_is_0() -> None:
    builder = Builder("cube")
    x = builder.add("argument", f32(), (), {"name": "x"})
    first = (x**2.0).call("gradient", x)
    second = first.call("gradient", x)
    graph = builder.finish({"second": second, "third": second.call("gradient", x)})
    got = evaluate(expand_gradients(graph), {"x": np.array(0.0)})
    assert (float(got["second"]), float(got["third"])) == (2.0, 0.0)
