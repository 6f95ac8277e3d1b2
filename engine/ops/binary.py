"""Elementwise operations of two and three inputs: arithmetic, comparisons, logic and selection."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.types import BOOL, F32, Element, Label, TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import chosen, sum_to
from fml.engine.ops.record import Call, Generator, Op, OpTypeError, Sample
from fml.engine.ops.samples import PAIRS, Sampler, coin, draw, labels, sample, whole
from fml.engine.ops.scalar import FIRST, SECOND, THIRD, Scalar, apply
from fml.engine.ops.unary import elementwise

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

WRITTEN = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "^", "maximum": "max",
    "minimum": "min", "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "logical_and": "and", "logical_or": "or",
}  # fmt: skip
BinaryGradient = Callable[["Value", "Value", "Value", "Value"], tuple["Value", "Value"]]


def _pairs(
    left: tuple[float, float], right: tuple[float, float]
) -> Callable[[Generator], Sequence[Sample]]:
    return lambda rng: [
        sample([draw(rng, first, *left), draw(rng, second, *right)]) for first, second in PAIRS
    ]


def _whole_pairs(rng: Generator) -> Sequence[Sample]:
    return [sample([whole(rng, a), whole(rng, b)]) for a, b in PAIRS]


def _coins(rng: Generator) -> Sequence[Sample]:
    return [sample([coin(rng, a), coin(rng, b)]) for a, b in PAIRS]


def _infer_numbers(op: str, inputs: Sequence[TensorType]) -> TensorType:
    rules.numbers(op, inputs)
    return TensorType(rules.same_element(op, inputs), rules.broadcast_shapes(op, inputs))


def _infer_quotient(op: str, inputs: Sequence[TensorType]) -> TensorType:
    result = _infer_numbers(op, inputs)
    return result if result.is_float else result.with_element(F32)


def _infer_order(op: str, inputs: Sequence[TensorType]) -> TensorType:
    return _infer_numbers(op, inputs).with_element(BOOL)


def _infer_equality(op: str, inputs: Sequence[TensorType]) -> TensorType:
    left, right = (type.element for type in inputs)
    if isinstance(left, Label) and isinstance(right, Label):
        if left != right:
            message = f"`{op}` of labels of different classes: {left} and {right}"
            raise OpTypeError("E0314", message, (0, 1), "compare labels of one set of classes")
    elif not any(_is_label_and_integer(*pair) for pair in ((left, right), (right, left))):
        rules.same_element(op, inputs)
    return TensorType(BOOL, rules.broadcast_shapes(op, inputs))


def _is_label_and_integer(a: object, b: object) -> bool:
    return isinstance(a, Label) and isinstance(b, Element) and b.is_integer


def _infer_logic(op: str, inputs: Sequence[TensorType]) -> TensorType:
    rules.booleans(op, inputs)
    return TensorType(BOOL, rules.broadcast_shapes(op, inputs))


def _infer_select(op: str, inputs: Sequence[TensorType]) -> TensorType:
    if inputs[0].element is not BOOL:
        message = f"`{op}` chooses by booleans, found {inputs[0]}"
        raise OpTypeError("E0306", message, (0,), "compare first, for instance `x > 0`")
    element = rules.same_element(op, inputs, first=1)
    return TensorType(element, rules.broadcast_shapes(op, inputs))


def _arithmetic(
    name: str,
    doc: str,
    scalar: Callable[[Scalar, Scalar], Scalar],
    gradient: BinaryGradient,
    samples: Sampler,
    reference: str,
    quotient: bool = False,
) -> Op:
    """A record for numbers; `gradient` takes g, both inputs and the result, before any summing."""

    def rule(g: "Value", call: Call) -> Sequence["Value | None"]:
        parts = gradient(g, call.inputs[0], call.inputs[1], call.output)
        return [sum_to(part, x.type) for part, x in zip(parts, call.inputs, strict=True)]

    return elementwise(
        name=name,
        doc=doc,
        signature=f"(a: number[...], b: number[...]) -> {'float' if quotient else 'number'}[...]",
        scalar=scalar(FIRST, SECOND),
        infer=_infer_quotient if quotient else _infer_numbers,
        samples=samples,
        gradient=rule,
        reference=reference,
        written=WRITTEN.get(name, name),
    )


def _predicate(
    name: str,
    doc: str,
    infer: Callable[[str, Sequence[TensorType]], TensorType],
    samples: Sampler,
    takes: str = "number",
) -> Op:
    """A record whose result is a boolean and whose scalar function has its name."""
    return elementwise(
        name=name,
        doc=doc,
        signature=f"(a: {takes}[...], b: {takes}[...]) -> bool[...]",
        scalar=apply(name, FIRST, SECOND),
        infer=infer,
        samples=samples,
        undifferentiable="its result is a boolean",
        reference=f"numpy.{name}",
        written=WRITTEN.get(name, name),
    )


def _power_gradient(g: "Value", a: "Value", b: "Value", y: "Value") -> tuple["Value", "Value"]:
    # At an exponent of 0 the slope is 0 even where a^(b - 1) is infinite; at a base of 0 the
    # slope in the exponent is 0 although log a is not finite.
    lowered = chosen(b.call("equal", 0.0), 0.0, b - 1, like=b)
    positive = a.call("greater", 0.0)
    logarithm = chosen(positive, a, 1.0, like=a).call("log")
    return g * b * a.call("power", lowered), g * y * logarithm


def _keep_where(mask: "Value", g: "Value") -> tuple["Value", "Value"]:
    return chosen(mask, g, 0.0, like=g), chosen(mask, 0.0, g, like=g)


def _select_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    condition, yes, no = call.inputs
    to_yes, to_no = _keep_where(condition, g)
    return None, sum_to(to_yes, yes.type), sum_to(to_no, no.type)


def _select_samples(rng: Generator) -> Sequence[Sample]:
    plain = [sample([coin(rng, a), draw(rng, a), draw(rng, b)]) for a, b in PAIRS]
    chosen_labels = [whole(rng, (4,), 0, 3) for _ in range(2)]
    kinds = (BOOL, labels(3), labels(3))
    return [*plain, sample([coin(rng, (4,)), *chosen_labels], elements=kinds)]


def _equality_samples(rng: Generator) -> Sequence[Sample]:
    classes = [whole(rng, (6,), 0, 3), whole(rng, (6,), 0, 3)]
    return [
        *_whole_pairs(rng),
        sample(classes, elements=(labels(3), labels(3))),
        sample(classes, elements=(labels(3),)),
    ]


ADD = _arithmetic(
    "add", "Sum.", lambda a, b: a + b,
    lambda g, a, b, y: (g, g), _pairs((-2, 2), (-2, 2)), "numpy.add",
)  # fmt: skip
SUBTRACT = _arithmetic(
    "subtract", "Difference.", lambda a, b: a - b,
    lambda g, a, b, y: (g, -g), _pairs((-2, 2), (-2, 2)), "numpy.subtract",
)  # fmt: skip
MULTIPLY = _arithmetic(
    "multiply", "Product.", lambda a, b: a * b,
    lambda g, a, b, y: (g * b, g * a), _pairs((-2, 2), (-2, 2)), "numpy.multiply",
)  # fmt: skip
DIVIDE = _arithmetic(
    "divide", "Quotient; of integers it is an f32.", lambda a, b: a / b,
    lambda g, a, b, y: (g / b, -(g * y / b)), _pairs((-2, 2), (0.5, 2)), "numpy.true_divide",
    quotient=True,
)  # fmt: skip
POWER = _arithmetic(
    "power", "a to the power of b.", lambda a, b: apply("power", a, b),
    _power_gradient, _pairs((0.2, 2), (-2, 3)), "numpy.power",
)  # fmt: skip
MAXIMUM = _arithmetic(
    "maximum", "The larger one; at a tie the gradient goes to b.",
    lambda a, b: apply("maximum", a, b),
    lambda g, a, b, y: _keep_where(a.call("greater", b), g),
    _pairs((-2, 2), (-2, 2)), "numpy.maximum",
)  # fmt: skip
MINIMUM = _arithmetic(
    "minimum", "The smaller one; at a tie the gradient goes to b.",
    lambda a, b: apply("minimum", a, b),
    lambda g, a, b, y: _keep_where(a.call("less", b), g),
    _pairs((-2, 2), (-2, 2)), "numpy.minimum",
)  # fmt: skip
MOD = _arithmetic(
    "mod", "Remainder with the sign of b: a - b floor(a / b).", lambda a, b: apply("mod", a, b),
    lambda g, a, b, y: (g, -(g * (a / b).call("floor"))), _pairs((-5, 5), (0.7, 2)), "numpy.mod",
)  # fmt: skip

EQUAL = _predicate(
    "equal", "Whether a is b; labels too.", _infer_equality, _equality_samples, "any"
)
NOT_EQUAL = _predicate(
    "not_equal", "Whether a is not b; labels too.", _infer_equality, _equality_samples, "any"
)
LESS = _predicate("less", "Whether a < b.", _infer_order, _whole_pairs)
LESS_EQUAL = _predicate("less_equal", "Whether a <= b.", _infer_order, _whole_pairs)
GREATER = _predicate("greater", "Whether a > b.", _infer_order, _whole_pairs)
GREATER_EQUAL = _predicate("greater_equal", "Whether a >= b.", _infer_order, _whole_pairs)
LOGICAL_AND = _predicate("logical_and", "Whether both are true.", _infer_logic, _coins, "bool")
LOGICAL_OR = _predicate("logical_or", "Whether one is true.", _infer_logic, _coins, "bool")

SELECT = elementwise(
    name="select",
    doc="a where c is true, else b.",
    signature="(c: bool[...], a: any[...], b: any[...]) -> any[...]",
    scalar=apply("where", FIRST, SECOND, THIRD),
    infer=_infer_select,
    samples=_select_samples,
    gradient=_select_gradient,
    reference="numpy.where",
    written="where",
)

OPS = (
    ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, MAXIMUM, MINIMUM, MOD, EQUAL, NOT_EQUAL, LESS,
    LESS_EQUAL, GREATER, GREATER_EQUAL, LOGICAL_AND, LOGICAL_OR, SELECT,
)  # fmt: skip
