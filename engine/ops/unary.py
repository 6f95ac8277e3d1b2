"""Elementwise operations of one input.

`elementwise` makes the records of all elementwise operations.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import BOOL, TensorType
from fml.engine.kernels.erfcx import ERFCX
from fml.engine.ops import rules
from fml.engine.ops.later import lowering, nests
from fml.engine.ops.record import Array, Call, Generator, Gradient, Op, Sample
from fml.engine.ops.samples import SHAPES, coin, draw, sample
from fml.engine.ops.scalar import (
    FIRST,
    Named,
    Scalar,
    applications,
    apply,
    arity,
    evaluate,
    polynomial,
)

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

UnaryGradient = Callable[["Value", "Value", "Value"], "Value | None"]


def elementwise(
    name: str,
    doc: str,
    signature: str,
    scalar: Scalar,
    infer: Callable[[str, Sequence[TensorType]], TensorType],
    samples: Callable[[Generator], Sequence[Sample]],
    gradient: Gradient | None = None,
    undifferentiable: str = "",
    reference: str = "",
    written: str = "",
) -> Op:
    """Make the record of an operation that does `scalar` to every entry.

    `written` is how messages call it, where `.fml` has another word for it than the graph.
    """
    count, cost = arity(scalar), applications(scalar)

    def infer_counted(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
        rules.require_count(name, inputs, count)
        return infer(written or name, inputs)

    def compute(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
        return evaluate(scalar, inputs, result.dtype)

    def nest(
        inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> "nests.Nest":
        xs = nests.inputs_of(inputs)

        def value(at: "nests.Indices") -> "nests.Expr":
            entries = [x.broadcast(at) for x in xs]
            return lowering.lower(scalar, entries, nests.computed_as(result))

        return nests.pull(inputs, result, value)

    return Op(
        name=name,
        doc=doc,
        signature=signature,
        infer=infer_counted,
        compute=compute,
        samples=samples,
        gradient=gradient,
        undifferentiable=undifferentiable,
        scalar=scalar,
        nest=nest,
        reference=reference,
        flops=lambda inputs, attributes, result: cost * rules.entries(result),
        in_place=tuple(range(count)),
    )


def same_floats(op: str, inputs: Sequence[TensorType]) -> TensorType:
    """One float tensor to one of its type."""
    rules.floats(op, inputs)
    return inputs[0]


def same_numbers(op: str, inputs: Sequence[TensorType]) -> TensorType:
    """One tensor of numbers to one of its type."""
    rules.numbers(op, inputs)
    return inputs[0]


def within(low: float, high: float) -> Callable[[Generator], Sequence[Sample]]:
    """Samples of one tensor with entries in low .. high."""
    return lambda rng: [sample([draw(rng, sizes, low, high)]) for sizes in SHAPES]


def _unary(
    name: str,
    doc: str,
    scalar: Callable[[Scalar], Scalar],
    gradient: UnaryGradient,
    domain: tuple[float, float] = (-3.0, 3.0),
    reference: str = "",
    integers: bool = False,
) -> Op:
    """A record whose result has its input's type; `gradient` takes g, x and the result."""

    def rule(g: "Value", call: Call) -> Sequence["Value | None"]:
        return (gradient(g, call.inputs[0], call.output),)

    kind = "number" if integers else "float"
    return elementwise(
        name=name,
        doc=doc,
        signature=f"(x: {kind}[...]) -> {kind}[...]",
        scalar=scalar(FIRST),
        infer=same_numbers if integers else same_floats,
        samples=within(*domain),
        gradient=rule,
        reference=reference,
    )


def _erf(x: Scalar) -> Scalar:
    """Error function to a few ulp.

    Up to 1 the Taylor series (Abramowitz and Stegun 7.1.5); from there 1 - exp(-x^2) q(t), where
    q is a fit of erfcx on 1 .. 6 by Chebyshev polynomials in t, which is linear in 1 / (2 + x).
    """
    size = apply("abs", x)
    series = [
        2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(19)
    ]
    near = x * polynomial(x * x, series)
    # t runs over -1 .. 1 while |x| runs over 6 .. 1.
    t = 9.6 / (size + 2) - 2.2
    tail = 1 - apply("exp", -(size * size)) * polynomial(t, ERFCX)
    return apply("where", size < 1, near, apply("where", x < 0, -tail, tail))


_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _softplus(x: Scalar) -> Scalar:
    # Never overflows: the exponent is never positive.
    return apply("maximum", x, 0) + apply("log1p", apply("exp", -apply("abs", x)))


def _infer_not(op: str, inputs: Sequence[TensorType]) -> TensorType:
    rules.booleans(op, inputs)
    return inputs[0].with_element(BOOL)


NEGATE = _unary(
    "negate",
    "Minus x.",
    lambda x: -x,
    lambda g, x, y: -g,
    reference="numpy.negative",
    integers=True,
)
ABS = _unary(
    "abs",
    "Absolute value; its slope at 0 is 0.",
    lambda x: apply("abs", x),
    lambda g, x, y: g * x.call("sign"),
    reference="numpy.fabs",
    integers=True,
)
SIGN = _unary(
    "sign",
    "-1, 0 or 1; its slope is 0.",
    lambda x: apply("sign", x),
    lambda g, x, y: None,
    reference="numpy.sign",
    integers=True,
)
EXP = _unary(
    "exp",
    "Exponential function.",
    lambda x: apply("exp", x),
    lambda g, x, y: g * y,
    reference="numpy.exp",
)
LOG = _unary(
    "log",
    "Natural logarithm.",
    lambda x: apply("log", x),
    lambda g, x, y: g / x,
    domain=(0.1, 5.0),
    reference="numpy.log",
)
LOG1P = _unary(
    "log1p",
    "log(1 + x), exact for small x.",
    lambda x: apply("log1p", x),
    lambda g, x, y: g / (1 + x),
    domain=(-0.9, 5.0),
    reference="numpy.log1p",
)
EXPM1 = _unary(
    "expm1",
    "exp(x) - 1, exact for small x.",
    lambda x: apply("expm1", x),
    lambda g, x, y: g * (y + 1),
    reference="numpy.expm1",
)
SQRT = _unary(
    "sqrt",
    "Square root.",
    lambda x: apply("sqrt", x),
    lambda g, x, y: 0.5 * g / y,
    domain=(0.1, 5.0),
    reference="numpy.sqrt",
)
RSQRT = _unary(
    "rsqrt",
    "1 / sqrt(x).",
    lambda x: Named("rsqrt", 1 / apply("sqrt", x), x),
    lambda g, x, y: -0.5 * g * y * y * y,
    domain=(0.1, 5.0),
)
SIN = _unary(
    "sin",
    "Sine of an angle in radians.",
    lambda x: apply("sin", x),
    lambda g, x, y: g * x.call("cos"),
    reference="numpy.sin",
)
COS = _unary(
    "cos",
    "Cosine of an angle in radians.",
    lambda x: apply("cos", x),
    lambda g, x, y: -(g * x.call("sin")),
    reference="numpy.cos",
)
TANH = _unary(
    "tanh",
    "Hyperbolic tangent.",
    lambda x: apply("tanh", x),
    lambda g, x, y: g * (1 - y * y),
    reference="numpy.tanh",
)
FLOOR = _unary(
    "floor",
    "Round down; its slope is 0.",
    lambda x: apply("floor", x),
    lambda g, x, y: None,
    reference="numpy.floor",
)
CEIL = _unary(
    "ceil",
    "Round up; its slope is 0.",
    lambda x: apply("ceil", x),
    lambda g, x, y: None,
    reference="numpy.ceil",
)
ROUND = _unary(
    "round",
    "Round to the nearest whole number, halves to the even one; its slope is 0.",
    lambda x: apply("round", x),
    lambda g, x, y: None,
    reference="numpy.rint",
)
SIGMOID = _unary(
    "sigmoid",
    "Logistic function 1 / (1 + exp(-x)).",
    lambda x: Named("sigmoid", 1 / (1 + apply("exp", -x)), x),
    lambda g, x, y: g * y * (1 - y),
    domain=(-8.0, 8.0),
    reference="scipy.special.expit",
)
SOFTPLUS = _unary(
    "softplus",
    "log(1 + exp(x)) without overflow.",
    lambda x: Named("softplus", _softplus(x), x),
    lambda g, x, y: g * x.call("sigmoid"),
    domain=(-8.0, 8.0),
    reference="scipy.special.softplus",
)
ERF = _unary(
    "erf",
    "Error function.",
    lambda x: Named("erf", _erf(x), x),
    lambda g, x, y: g * _TWO_OVER_ROOT_PI * (-(x * x)).call("exp"),
    domain=(-7.0, 7.0),
    reference="scipy.special.erf",
)
LOGICAL_NOT = elementwise(
    name="logical_not",
    doc="Whether x is false.",
    signature="(x: bool[...]) -> bool[...]",
    scalar=apply("logical_not", FIRST),
    infer=_infer_not,
    samples=lambda rng: [sample([coin(rng, sizes)]) for sizes in SHAPES],
    undifferentiable="its result is a boolean",
    reference="numpy.logical_not",
    written="not",
)

OPS = (
    NEGATE, ABS, SIGN, EXP, LOG, LOG1P, EXPM1, SQRT, RSQRT, SIN, COS, TANH, FLOOR, CEIL, ROUND,
    SIGMOID, SOFTPLUS, ERF, LOGICAL_NOT,
)  # fmt: skip
