"""What ties a graph to its run: values that the runtime provides, and assignments to variables."""

from collections.abc import Sequence

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import BOOL, SCALAR, Element, TensorType
from fml.engine.ops import rules
from fml.engine.ops.later import nests
from fml.engine.ops.record import Generator, Infer, Op, OpTypeError, Sample, given_type
from fml.engine.ops.samples import draw, sample


def _provided(name: str, doc: str, signature: str, infer: Infer = given_type) -> Op:
    return Op(
        name=name,
        doc=doc,
        signature=signature,
        infer=infer,
        compute=None,
        samples=lambda rng: [],
        undifferentiable="it has no inputs",
        runtime=True,
    )


def _always(type: TensorType) -> Infer:
    return lambda inputs, attributes: type


def _infer_assign(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    old, new = inputs
    name = rules.text(attributes, "name")
    if old.element != new.element:
        message = f"`{name}` is {old}, and cannot be assigned {new}"
        raise OpTypeError("E0323", message, (0, 1), f"convert it: `cast(x, {old.element})`")
    if old.shape != new.shape:
        message = f"`{name}` is {old}, and cannot be assigned {new}"
        raise OpTypeError("E0323", message, (0, 1), "`reshape` or reduce it first")
    return old


def _infer_gradient(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    y, x = inputs
    if y.rank or not y.is_float:
        message = f"gradients are of a floating-point scalar, found {y}"
        raise OpTypeError("E0328", message, (0,), "reduce it first: `sum(y)` or `mean(y)`")
    if not x.is_float:
        message = f"there is no gradient for {x}: it is no floating-point number"
        raise OpTypeError("E0328", message, (1,), "take it for a parameter or another float")
    return x


def _assign_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    _, new = nests.inputs_of(inputs)
    return nests.pull(inputs, result, lambda at: new(*at))


def _assign_samples(rng: Generator) -> Sequence[Sample]:
    name = {"name": "net.W"}
    return [
        sample([draw(rng, sizes), draw(rng, sizes)], name, smooth=False)
        for sizes in ((), (3, 5), (0, 3))
    ]


FEED = _provided("feed", "A field of the mini-batch.", "(data, split, field) -> any[N, ...]")
COLUMN = _provided("column", "A column of a source.", "(name) -> any[N, ...]")
VARIABLE = _provided(
    "variable", "A variable's value when the graph starts.", "(name, role) -> any[...]"
)
COUNTER = _provided(
    "counter",
    "A number of the run: `step`, `epoch`, `samples`.",
    "(name) -> f64",
    _always(SCALAR.with_element(Element.F64)),
)
FIRES = _provided(
    "fires", "Whether an `every` is due.", "(amount, unit) -> bool", _always(TensorType(BOOL))
)
ARGUMENT = _provided("argument", "An input that is handed over.", "(name) -> any[...]")
SERIES = _provided("series", "The latest figure of a series.", "(name) -> any[...]")
ASSIGN = Op(
    name="assign",
    doc="Makes `new` the value of the variable `name` when the graph ends; its value is `new`.",
    signature="(old: any[...], new: any[...], name) -> any[...]",
    infer=_infer_assign,
    compute=lambda inputs, attributes, result: inputs[1],
    nest=_assign_nest,
    samples=_assign_samples,
    gradient=lambda g, call: (None, None),
    effect=True,
)
GRADIENT = Op(
    name="gradient",
    doc="Gradient of the scalar y for x; made into nodes by `fml.engine.autodiff`.",
    signature="(y: float, x: float[...]) -> float[...]",
    infer=_infer_gradient,
    compute=None,
    samples=lambda rng: [],
    undifferentiable="an inner gradient is made into nodes before an outer one is taken",
    placeholder=True,
)

OPS = (FEED, COLUMN, VARIABLE, COUNTER, FIRES, ARGUMENT, SERIES, ASSIGN, GRADIENT)
