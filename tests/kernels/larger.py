"""Inputs of operations beside those of their records: large enough for whole vectors, with sizes
that vectors do not divide, and numbers that arithmetic treats in its own way.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fml.engine.ir.dims import Dim
from fml.engine.ir.types import Element
from fml.engine.ops.precision import computed
from fml.engine.ops.record import Sample
from fml.engine.ops.samples import coin, dims, draw, labels, sample, whole
from fml.engine.ops.table import OPS

PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_ODD = (np.nan, np.inf, -np.inf, -0.0, 0.0, 3e9, -3e9, 0.5, -0.5, 1e19)
_RNG = np.random.default_rng(5)


def _floats(*cases: tuple[Sequence[tuple[int, ...]], dict[str, object]]) -> list[Sample]:
    return [sample([draw(_RNG, s) for s in sizes], how) for sizes, how in cases]


def _reductions(**more: object) -> list[Sample]:
    cases = (
        ((300,), (0,)), ((7, 67), (1,)), ((131, 67), (0,)), ((5000, 3), (0,)), ((9, 10), (1,)),
        ((5, 33, 18), (0, 2)), ((5, 33, 18), (1,)), ((5, 33, 18), (0, 1)), ((70, 70), (0, 1)),
    )  # fmt: skip
    return _floats(*(([s], {"axes": axes, "keep": False, **more}) for s, axes in cases))


def _along(**more: object) -> list[Sample]:
    cases = (((67, 10), 1), ((300,), 0), ((9, 67), 0), ((3, 17, 35), 1))
    return _floats(*(([s], {"axis": axis, **more}) for s, axis in cases))


def _alike() -> list[Sample]:
    """Rows with several largest entries, with no numbers among them, and of nothing but these."""
    x = np.round(draw(_RNG, (7, 150)))
    x[1, 40:], x[2, ::7], x[3], x[4, 100], x[5] = np.inf, -np.inf, np.nan, np.nan, -np.inf
    return [sample([x], {"axis": 1}), sample([x.T.copy()], {"axis": 0})]


def _convolutions() -> list[Sample]:
    return _floats(
        ([(2, 9, 8, 3), (3, 3, 3, 20)], {**PLAIN, "padding": ((1, 1), (1, 1))}),
        ([(2, 9, 8, 18), (3, 2, 18, 35)], {**PLAIN, "stride": (2, 2), "padding": ((0, 1), (1, 0))}),
        ([(1, 8, 9, 34), (3, 3, 1, 34)], {**PLAIN, "groups": 34, "dilation": (2, 1)}),
        ([(1, 8, 9, 8), (2, 2, 4, 40)], {**PLAIN, "groups": 2, "stride": (3, 2)}),
    )


def _pools() -> list[Sample]:
    cases = (
        ((2, 8, 6, 35), {"size": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}),
        ((2, 9, 8, 18), {"size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))}),
        ((1, 9, 11, 20), {"size": (5, 5), "stride": (5, 5), "padding": ((1, 0), (0, 0))}),
        ((1, 9, 11, 20), {"size": (5, 5), "stride": (2, 1), "padding": ((1, 0), (2, 1))}),
        ((1, 9, 35, 1), {"size": (2, 2), "stride": (1, 2), "padding": ((0, 0), (1, 1))}),
    )
    return _floats(*(([sizes], how) for sizes, how in cases))


def _conv_results(place: int) -> list[Sample]:
    made: list[Sample] = []
    for case in _convolutions():
        g = draw(_RNG, OPS["conv"].infer(case.types, case.attributes).sizes)
        arrays = [g, case.arrays[1]] if place == 0 else [case.arrays[0], g]
        made.append(sample(arrays, {**case.attributes, "shape": case.types[place].shape}))
    return made


def _pool_results(name: str) -> list[Sample]:
    made: list[Sample] = []
    for case in _pools():
        # Few different numbers, so that some windows have several largest ones.
        x = np.round(case.arrays[0])
        type = OPS["max_pool"].infer(case.types, case.attributes)
        y = computed(OPS["max_pool"], [x], case.attributes, type)
        first = draw(_RNG, x.shape if name == "max_pool_pick" else y.shape)
        if name == "window_sum_adjoint":
            made.append(sample([first], {**case.attributes, "shape": case.types[0].shape}))
        else:
            made.append(sample([first, x, y], case.attributes))
    return made


def _taken() -> list[Sample]:
    return [
        sample([draw(_RNG, (9, 70)), whole(_RNG, (5, 3), -3, 12)], {"axis": 0}),
        sample([draw(_RNG, (3, 9, 2, 19)), whole(_RNG, (21,), -3, 12)], {"axis": 1}),
        sample([draw(_RNG, (70,)), whole(_RNG, (130,), -3, 80)], {"axis": 0}),
        sample([draw(_RNG, (0, 5)), whole(_RNG, (3,), -3, 80)], {"axis": 0}),
    ]


def _given_back() -> list[Sample]:
    size = Dim.of(9)
    return [
        sample([draw(_RNG, (5, 3, 70)), whole(_RNG, (5, 3), -3, 12)], {"axis": 0, "size": size}),
        sample([draw(_RNG, (3, 40, 2, 19)), whole(_RNG, (40,), -3, 12)], {"axis": 1, "size": size}),
        sample([draw(_RNG, (300,)), whole(_RNG, (300,), -3, 12)], {"axis": 0, "size": size}),
    ]


LARGER: dict[str, list[Sample]] = {
    "reshape": _floats(([(31, 70)], {"shape": dims(70, 31)})),
    "transpose": _floats(
        ([(37, 71)], {"order": (1, 0)}), ([(3, 20, 35)], {"order": (0, 2, 1)}),
        ([(3, 20, 35)], {"order": (1, 0, 2)}), ([(5, 6, 7, 9)], {"order": (3, 1, 0, 2)}),
        ([(2, 130, 66)], {"order": (2, 0, 1)}),
    ),
    "broadcast": _floats(
        ([(33, 1)], {"shape": dims(5, 33, 70)}), ([(70,)], {"shape": dims(9, 70)})
    ),
    "flip": _floats(([(5, 70)], {"axis": 1}), ([(7, 35)], {"axis": 0})),
    "roll": _floats(([(5, 70)], {"axis": 1, "shift": 3}), ([(7, 35)], {"axis": 0, "shift": -2})),
    "concat": _floats(([(5, 70), (5, 33), (5, 1)], {"axis": 1}), ([(5, 35), (2, 35)], {"axis": 0})),
    "slice": _floats(([(9, 70)], {"starts": (1, 2), "stops": (8, 69)})),
    "pad": _floats(
        ([(9, 70)], {"before": (1, 2), "after": (0, 3), "value": 1.5}),
        ([(2, 5, 6, 35)], {"before": (0, 1, 1, 0), "after": (0, 1, 1, 0), "value": 0}),
    ),
    "add": _floats(([(33, 70), (70,)], {}), ([(33, 1), (1, 70)], {}), ([(9, 10), (10,)], {})),
    "select": [sample([coin(_RNG, (33, 1)), draw(_RNG, (33, 70)), draw(_RNG, (70,))])],
    "cast": [
        *(sample([draw(_RNG, (300,), -300, 300)], {"element": element}) for element in Element),
        *(sample([whole(_RNG, (300,), -300, 300)], {"element": element}) for element in Element),
    ],
    **{name: _reductions() for name in ("sum", "product", "max", "min")},
    **{name: [*_along(), *_alike()] for name in ("argmax", "argmin")},
    "cumsum": _along(),
    "top_k": _along(k=Dim.of(5)),
    "any": [sample([coin(_RNG, (67, 70))], {"axes": (axis,), "keep": True}) for axis in (0, 1)],
    "all": [sample([coin(_RNG, (67, 7))], {"axes": (axis,), "keep": False}) for axis in (0, 1)],
    "matmul": _floats(
        ([(13, 70), (70, 67)], {}), ([(3, 5, 9), (3, 9, 35)], {}), ([(5, 300), (300,)], {}),
        ([(300,), (300, 3)], {}), ([(2, 7, 9), (9, 10)], {}),
    ),
    "partial_matmul": _floats(
        ([(13, 70), (70, 67)], {"parts": 2}), ([(5, 600), (600, 9)], {"parts": 3})
    ),
    "conv": _convolutions(),
    "conv_input_gradient": _conv_results(0),
    "conv_weight_gradient": _conv_results(1),
    "window_sum": _pools(),
    "max_pool": _pools(),
    **{n: _pool_results(n) for n in ("window_sum_adjoint", "max_pool_gradient", "max_pool_pick")},
    "take": _taken(),
    "take_adjoint": _given_back(),
    "one_hot": [sample([whole(_RNG, (70,), 0, 10)], {"element": e}, [labels(10)]) for e in Element],
}  # fmt: skip


def samples(name: str) -> list[Sample]:
    """Those of an operation's record, larger ones, and all again with odd numbers among theirs."""
    given = [*OPS[name].samples(np.random.default_rng(7)), *LARGER.get(name, [])]
    # Of functions, `test_lowering.py` asks more odd numbers; products of them depend on the order.
    if OPS[name].scalar is not None or name == "product":
        return given
    return given + [_odd(case, n) for n, case in enumerate(given) if _has_floats(case)]


def _has_floats(case: Sample) -> bool:
    return any(array.dtype == np.float64 and array.size for array in case.arrays)


def _odd(case: Sample, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    arrays = [array.copy() for array in case.arrays]
    for array in arrays:
        if array.dtype == np.float64 and array.size:
            places = rng.permutation(array.size)[: len(_ODD)]
            array.flat[places] = _ODD[: len(places)]
    return replace(case, arrays=tuple(arrays))
