"""The clock of a plan: its counters, durations in steps, and the element that they are used in.

The clock is kept in f64, and what is computed of it and of numbers alone, such as a schedule, is
used in the element of what it meets, as a written number is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.values import Any_, Tensor, Unknown, describe
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import SAMPLES_PER_STEP, STEPS_PER_EPOCH, Duration, Role, Unit
from fml.engine.ir.types import BOOL, F32, Element, ElementType, TensorType
from fml.engine.ops.build import Value

if TYPE_CHECKING:
    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

    Arguments = Mapping[str, Given]

COUNTERS = ("step", "epoch", "samples")
SECONDS = TensorType(Element.F64)
_COUNTS = {Role.SLOT.value, Role.DELAY.value}


def counter(s: Session, name: str) -> Tensor:
    """Return a counter as it is in the step, or as it will be once the step has grown by one."""
    later = s.region.after_step
    attributes = {"name": f"next_{name}" if later else name}
    return Tensor(
        s.region.once(f"{name} {later}", lambda: s.builder.add("counter", SECONDS, (), attributes))
    )


def fires(s: Session, every: Duration) -> Value:
    """Return whether a step is one in which a multiple of a duration is reached."""
    attributes = {"amount": every.amount, "unit": every.unit.value}
    return s.builder.add("fires", TensorType(BOOL), (), attributes)


def steps(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`steps(5 epochs)`: a duration as a number of steps, a scalar of the graph.

    It need not be whole: 100 samples are 6.25 steps of 16.
    """
    value = bound["duration"].value
    if isinstance(value, tuple):
        return tuple(_in_steps(s, part, e) for part in cast("tuple[Any_, ...]", value))
    return _in_steps(s, value, e)


def _in_steps(s: Session, value: Any_, e: ast.Expression) -> Any_:
    if isinstance(value, Unknown):
        return Tensor(s.builder.add("argument", SECONDS, (), {"name": "steps"}))
    if not isinstance(value, Duration):
        raise s.report(
            "E0401", f"a duration is needed here, found {describe(value)}", [e],
            help=with_unit(value),
        )  # fmt: skip
    if value.unit is Unit.STEPS:
        return value.amount
    if value.unit is Unit.SECONDS:
        raise s.report(
            "E0903", f"{value} cannot be counted in steps: nobody knows how long one will take",
            [e], help="use steps, samples or epochs",
        )  # fmt: skip
    if value.unit is Unit.SAMPLES:
        samples = s.builder.call("dim_value", dim=SAMPLES_PER_STEP, element=Element.F64)
        return Tensor(value.amount / samples)
    epoch = s.builder.call("dim_value", dim=STEPS_PER_EPOCH, element=Element.F64)
    return Tensor(epoch * value.amount)


def with_unit(value: Any_) -> str:
    """How a number is written as a duration."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"write its unit, too: `{value} epochs` or `{value} steps`" if is_number else ""


def common_element(values: Sequence[Any_]) -> ElementType:
    """Return the element that numbers and scalars of the clock take beside these tensors."""
    found = [v for v in values if isinstance(v, Tensor)]
    if not found:
        return F32
    elements = [v.type.element for v in found]
    if elements.count(elements[0]) == len(elements):
        return elements[0]
    return next((v.type.element for v in found if not is_of_clock(v.value)), elements[0])


def in_element(tensor: Tensor, element: ElementType) -> Tensor:
    """Return a scalar of the clock as this floating-point element; any other tensor as it is."""
    if tensor.type.element == element or not isinstance(element, Element):
        return tensor
    if not element.is_float or not is_of_clock(tensor.value):
        return tensor
    return Tensor(tensor.value.call("cast", element=element))  # pyright: ignore[reportArgumentType]


def is_of_clock(value: Value) -> bool:
    """Whether a value is a floating-point scalar made of counters, counts and numbers alone."""
    return not value.type.rank and value.type.is_float and _knows_no_data(value)


def is_weak(value: Any_) -> bool:
    """Whether a value takes the element of what it meets: numbers, scalars of the clock, lists."""
    if isinstance(value, tuple):
        return all(map(is_weak, cast("tuple[Any_, ...]", value)))
    if isinstance(value, Tensor):
        return is_of_clock(value.value)
    return isinstance(value, int | float | Dim) and not isinstance(value, bool)


def chosen_element(condition: Value, a: Any_, b: Any_) -> ElementType:
    """Return the element of `where(condition, a, b)` for numbers and scalars of the clock.

    Where both are, nothing says it but the condition: that of what it compares.
    """
    if not (is_weak(a) and is_weak(b)):
        return common_element((a, b))
    if isinstance(a, tuple) or isinstance(b, tuple):
        return F32
    if not condition.type.rank and _knows_no_data(condition):
        return Element.F64
    return next((v.type.element for v in _compared(condition) if not is_of_clock(v)), F32)


def _compared(condition: Value) -> Iterator[Value]:
    """The floating-point values that a condition is made of."""
    for number in condition.node.inputs:
        value = condition.builder.value(number)
        if value.type.is_float:
            yield value
        else:
            yield from _compared(value)


def _knows_no_data(value: Value) -> bool:
    """Whether a value is made of counters, counts and numbers alone."""
    nodes = value.builder.nodes
    for number in nodes.ancestors([value.id]):
        node = nodes[number]
        if node.op == "variable":
            if node.attributes["role"] not in _COUNTS:
                return False
        elif not node.inputs and node.op not in {"constant", "counter", "dim_value"}:
            return False
    return True
