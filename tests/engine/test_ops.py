"""What every operation promises, driven by the table: a new record is tested by being there."""

import importlib
from dataclasses import fields, replace

import numpy as np
import pytest
from evaluate import evaluate

from fml.engine.autodiff import expand_gradients
from fml.engine.ir.graph import Attributes, Graph
from fml.engine.ir.text import dump, read
from fml.engine.ir.types import Element, TensorType
from fml.engine.ops.build import Builder, Context, Value
from fml.engine.ops.precision import computed, stored
from fml.engine.ops.record import Array, Op, OpTypeError, Sample
from fml.engine.ops.table import OPS
from fml.engine.ops.verify import verify

LEARNERS = 3
TYPED = [op for op in OPS.values() if op.compute and not op.has_given_type]


def cases(ops: list[Op], differentiable: bool = False) -> list[object]:
    return [
        pytest.param(op, sample, id=f"{op.name}-{number}")
        for op in ops
        for number, sample in enumerate(op.samples(np.random.default_rng(7)))
        if sample.differentiable or not differentiable
    ]


DIFFERENTIABLE = cases([op for op in TYPED if op.gradient], differentiable=True)


def in_element(sample: Sample, element: Element) -> tuple[list[Array], list[TensorType]]:
    """The sample with its floats in this element."""
    types = [t.with_element(element) if t.is_float else t for t in sample.types]
    with np.errstate(invalid="ignore"):  # numbers below 0 as bytes
        arrays = [stored(a, t).copy() for a, t in zip(sample.arrays, types, strict=True)]
    for array in arrays:
        array.flags.writeable = False
    return arrays, types


def missing(op: Op) -> list[str]:
    """What a record lacks that every record has."""
    samples = op.samples(np.random.default_rng(0))
    explained = (op.gradient is None) == bool(op.undifferentiable)
    held = {
        "a doc of one line, a sentence": op.doc.endswith(".") and "\n" not in op.doc,
        "a signature with a result": op.signature.startswith("(") and "->" in op.signature,
        "either a gradient or the reason for none": explained,
        "an implementation": (op.compute is None) == (op.runtime or op.placeholder),
        "samples": bool(samples) == (op.compute is not None),
        "samples that say what is differentiable": op.gradient is None
        or any(s.differentiable for s in samples)
        or op.name in WITHOUT_DIFFERENCES,
        "an empty sample": not any(s.types for s in samples)
        or any(a.size == 0 for s in samples for a in s.arrays)
        or op.name in NEVER_EMPTY,
    }
    return [part for part, there in held.items() if not there]


# A gradient that is nothing, by definition, where differences would find one.
WITHOUT_DIFFERENCES = {"stop_gradient", "assign", "learners_turn", "learners_pushed"}
# The key of draws has three entries.
NEVER_EMPTY = {"random_uniform"}


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_record_is_complete(op: Op) -> None:
    assert OPS[op.name] is op
    assert not missing(op)


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        ({"doc": ""}, "a doc of one line, a sentence"),
        ({"signature": ""}, "a signature with a result"),
        ({"gradient": None}, "either a gradient or the reason for none"),
        ({"undifferentiable": "no"}, "either a gradient or the reason for none"),
        ({"compute": None}, "an implementation"),
        ({"samples": lambda rng: []}, "samples"),
        ({"samples": lambda rng: OPS["exp"].samples(rng)[:1]}, "an empty sample"),
    ],
)
def test_a_record_with_a_part_missing_is_found(fault: dict[str, object], part: str) -> None:
    assert part in missing(replace(OPS["exp"], **fault))


@pytest.mark.parametrize("field", ["name", "doc", "signature", "infer", "compute", "samples"])
def test_a_record_cannot_be_made_without(field: str) -> None:
    op = OPS["exp"]
    given = {f.name: getattr(op, f.name) for f in fields(Op) if f.name != field}
    with pytest.raises(TypeError, match=field):
        Op(**given)


def inferred(
    op: Op, types: list[TensorType], attributes: Attributes
) -> tuple[TensorType | None, str]:
    """The type of the result, or the code of what is wrong."""
    try:
        return op.infer(types, attributes), ""
    except OpTypeError as reason:
        return None, reason.code


@pytest.mark.parametrize("element", Element, ids=str)
@pytest.mark.parametrize(("op", "sample"), cases(TYPED))
def test_computed_type_is_the_inferred_one(op: Op, sample: Sample, element: Element) -> None:
    arrays, types = in_element(sample, element)
    result, refused = inferred(op, types, sample.attributes)
    if result is None:
        assert refused in {"E0303", "E0306"}
        assert not element.is_float
        return
    made = computed(op, arrays, sample.attributes, result)  # raises if it writes to an input
    stacked = op.across_learners and not op.reduces_learners
    assert made.shape == ((LEARNERS,) if stacked else ()) + result.sizes
    assert made.dtype == result.dtype
    np.testing.assert_array_equal(made, stored(made, result))
    assert op.flops(types, sample.attributes, result) >= 0


@pytest.mark.parametrize(
    ("element", "half_a_step"), [(Element.F16, 2.0**-11), (Element.BF16, 2.0**-8)], ids=str
)
@pytest.mark.parametrize(
    ("op", "sample"), [c for c in cases(TYPED) if any(t.is_float for t in c.values[1].types)]
)
def test_sixteen_bits_are_rounded_once(
    op: Op, sample: Sample, element: Element, half_a_step: float
) -> None:
    """However many numbers are added up, the result is that of f64, rounded."""
    arrays, types = in_element(sample, element)
    result = op.infer(types, sample.attributes)
    made = computed(op, arrays, sample.attributes, result).astype(np.float64)
    wide_arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    wide_types = [t.with_element(Element.F64) if t.is_float else t for t in types]
    wide = op.infer(wide_types, sample.attributes)
    exact = computed(op, wide_arrays, sample.attributes, wide)
    np.testing.assert_allclose(made, exact, rtol=half_a_step, atol=1e-5)


@pytest.mark.parametrize(("op", "sample"), cases(TYPED))
def test_nan_goes_where_a_change_goes_and_nowhere_else(op: Op, sample: Sample) -> None:
    arrays, types = in_element(sample, Element.F32)
    result = op.infer(types, sample.attributes)
    if not result.is_float:
        return
    before = computed(op, arrays, sample.attributes, result)
    for place in sample.differentiable:
        entry = arrays[place].size // 2
        if not arrays[place].size:
            continue
        spoilt, moved = ([a.copy() for a in arrays] for _ in range(2))
        spoilt[place].flat[entry] = np.nan
        moved[place].flat[entry] *= 1.01
        bad = np.isnan(computed(op, spoilt, sample.attributes, result))
        np.testing.assert_array_equal(
            computed(op, spoilt, sample.attributes, result)[~bad], before[~bad]
        )
        changed = computed(op, moved, sample.attributes, result) != before
        assert bad[changed].all()


@pytest.mark.parametrize(
    ("op", "sample"),
    cases(
        [op for op in TYPED if op.gradient is None and not op.view]  # made behind differentiation
    ),
)
def test_only_what_makes_no_floats_of_floats_has_no_gradient(op: Op, sample: Sample) -> None:
    result = op.infer(sample.types, sample.attributes)
    assert not (result.is_float and any(t.is_float for t in sample.types))


def reference(op: Op) -> object:
    module, _, name = op.reference.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("op", "sample"), cases([op for op in TYPED if op.reference]))
def test_agrees_with_an_independent_implementation(op: Op, sample: Sample) -> None:
    arrays, types = in_element(sample, Element.F32)
    result = op.infer(types, sample.attributes)
    made = computed(op, arrays, sample.attributes, result)
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    np.testing.assert_allclose(made, reference(op)(*wide), rtol=1e-6, atol=1e-6)


ODD = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 0.5, -2.5])
FLOAT_ELEMENTWISE = [
    op for op in TYPED if op.scalar and op.reference and op.samples(np.random.default_rng(0))[0]
    .types[0].is_float
]  # fmt: skip


@pytest.mark.parametrize("element", [Element.F32, Element.F64], ids=str)
@pytest.mark.parametrize("op", FLOAT_ELEMENTWISE, ids=lambda op: op.name)
def test_nan_and_infinity_go_where_the_reference_sends_them(op: Op, element: Element) -> None:
    count = len(op.samples(np.random.default_rng(0))[0].types)
    type = TensorType(element, (len(ODD),))
    inputs = [x.reshape(-1).astype(type.dtype) for x in np.meshgrid(*[ODD] * count)]
    result = TensorType(element, (inputs[0].size,))
    made = computed(op, inputs, {}, result)
    with np.errstate(all="ignore"):
        wanted = np.asarray(reference(op)(*inputs))
    # What the narrow type cannot hold may be 0 in one and denormal in the other.
    np.testing.assert_allclose(made, wanted, rtol=1e-6, atol=1e-37)


class Probe:
    """A scalar of one operation's result, its gradients, and the same once more."""

    def __init__(self, op: Op, sample: Sample) -> None:
        rng = np.random.default_rng(3)
        arrays, self.types = in_element(sample, Element.F64)
        self.given = {f"x{i}": array for i, array in enumerate(arrays)}
        self.wanted = [f"x{i}" for i in sample.differentiable]
        builder = Builder(op.name)
        with builder.under(Context(mapped=op.across_learners)):
            xs = [
                builder.add("argument", t, (), {"name": f"x{i}"}) for i, t in enumerate(self.types)
            ]
        y = builder.call(op.name, *xs, **sample.attributes)
        self.first = self._project(rng, [y], "r")
        targets = [xs[i] for i in sample.differentiable]
        gradients = [self.first.call("gradient", x) for x in targets]
        self.second = self._project(rng, gradients, "s")
        again = [self.second.call("gradient", x) for x in targets]
        outputs = {"first": self.first, "second": self.second}
        outputs |= {f"d{n}": g for n, g in zip(self.wanted, gradients, strict=True)}
        outputs |= {f"dd{n}": g for n, g in zip(self.wanted, again, strict=True)}
        self.source = builder.finish(outputs)
        self.graph = expand_gradients(self.source)

    def _project(self, rng: np.random.Generator, values: list[Value], name: str) -> Value:
        """A sum of all entries with random weights."""
        parts = []
        for number, value in enumerate(values):
            key = f"{name}{number}"
            weights = value.builder.add("argument", value.type, (), {"name": key})
            self.given[key] = rng.normal(size=value.type.sizes)
            axes = tuple(range(value.type.rank))
            part = (value * weights).call("sum", axes=axes, keep=False)
            parts.append(part.call("learners_reduce", kind="sum") if part.node.mapped else part)
        return sum(parts[1:], start=parts[0])

    def run(self, graph: Graph, moved: dict[str, Array] | None = None) -> dict[str, Array]:
        return evaluate(graph, {**self.given, **(moved or {})}, learners=LEARNERS)

    def slope(self, output: str, direction: dict[str, Array]) -> float:
        """Central difference of an output along a direction."""
        step = 1e-5
        ends = [
            self.run(self.graph, {n: self.given[n] + sign * step * d for n, d in direction.items()})
            for sign in (1, -1)
        ]
        return float(ends[0][output] - ends[1][output]) / (2 * step)


@pytest.mark.parametrize(("op", "sample"), DIFFERENTIABLE)
def test_gradients_agree_with_differences(op: Op, sample: Sample) -> None:
    probe = Probe(op, sample)
    verify(probe.graph)
    values = probe.run(probe.graph)
    rng = np.random.default_rng(11)
    for name in probe.wanted:
        direction = {name: rng.normal(size=probe.given[name].shape)}
        for output, gradient in (("first", f"d{name}"), ("second", f"dd{name}")):
            slope = probe.slope(output, direction)
            along = float(np.sum(values[gradient] * direction[name]))
            np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-7, err_msg=output)


@pytest.mark.parametrize(("op", "sample"), DIFFERENTIABLE)
def test_graphs_round_trip_as_text(op: Op, sample: Sample) -> None:
    probe = Probe(op, sample)
    for graph in (probe.source, probe.graph):
        assert read(dump(graph)) == graph
