"""Operations across learners.

A node's type is one learner's; `compute` sees the arrays of all learners stacked on a new first
axis, and returns one array (`learners_reduce`) or a stack.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fml.engine.ir.graph import Attributes
from fml.engine.ir.training import LEARNERS
from fml.engine.ir.types import Element, TensorType
from fml.engine.ops import rules
from fml.engine.ops.adjoint import chosen, size_of
from fml.engine.ops.later import nests, np
from fml.engine.ops.record import Array, Call, Generator, Op, Sample
from fml.engine.ops.samples import draw, sample

if TYPE_CHECKING:
    from fml.engine.ops.build import Value

# As numpy calls them, and what they fold by.
_KINDS = {"sum": "add", "mean": "add", "min": "minimum", "max": "maximum"}


def _infer_reduce(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    kind = rules.text(attributes, "kind")
    if kind not in _KINDS:
        raise TypeError(f"`learners_reduce` of unknown kind `{kind}`")
    name = f"{kind}(over = learners)"
    if kind == "mean":
        rules.floats(name, inputs)
    rules.numbers(name, inputs)
    return inputs[0]


def _reduce(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    reduce = getattr(np, rules.text(attributes, "kind"))
    return np.asarray(reduce(inputs[0], axis=0), result.dtype)


def _reduce_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    kind, learners = rules.text(attributes, "kind"), inputs[0].sizes[0]
    (x,) = nests.inputs_of(inputs)
    return nests.fold(
        inputs,
        result,
        (learners,),
        lambda at, over: x(*over, *at),
        _KINDS[kind],
        finish=(lambda total: total / float(learners)) if kind == "mean" else None,
    )


def _reduce_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    """The same for every learner; of an extreme, shared by those who attain it."""
    (x,), kind = call.inputs, rules.text(call.attributes, "kind")
    if kind == "sum":
        return (g,)
    if kind == "mean":
        return (g / size_of(LEARNERS, like=g),)
    hit = chosen(x.call("equal", call.output), 1.0, 0.0, like=x)
    return (g * hit / hit.call("learners_reduce", kind="sum"),)


def _roll(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    return np.roll(inputs[0], rules.as_int(attributes["shift"]), axis=0)


def _roll_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "nests.Nest":
    return nests.rolled(inputs, result, 0, rules.as_int(attributes["shift"]))


def _roll_gradient(g: "Value", call: Call) -> Sequence["Value | None"]:
    return (g.call("learners_roll", shift=-rules.as_int(call.attributes["shift"])),)


def _infer_all(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    return x.with_shape((rules.as_dim(attributes["count"]), *x.shape))


def _all(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    first, count = (rules.as_int(attributes[name]) for name in ("first", "count"))
    return inputs[0][first : first + count]


def _infer_each(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    (x,) = inputs
    if not x.rank:
        raise TypeError("`each_learner` takes the values of all learners on a first axis")
    return x.with_shape(x.shape[1:])


def _stacked(rng: Generator, attributes: Attributes) -> Sequence[Sample]:
    """Arrays of three learners; the type is one learner's."""
    made: list[Sample] = []
    for sizes in ((), (5,), (2, 3), (0, 2)):
        whole = draw(rng, (3, *sizes))
        type = TensorType(Element.F32, tuple(map(rules.as_dim, sizes)))
        made.append(Sample((whole,), (type,), attributes, (0,)))
    return made


LEARNERS_REDUCE = Op(
    name="learners_reduce",
    doc="Sum, mean, min or max over the learners: one value for all of them.",
    signature="(x: number[...], kind) -> number[...]",
    infer=_infer_reduce,
    compute=_reduce,
    nest=_reduce_nest,
    samples=lambda rng: [s for kind in _KINDS for s in _stacked(rng, {"kind": kind})],
    gradient=_reduce_gradient,
    flops=lambda inputs, attributes, result: rules.entries(result),
    across_learners=True,
    reduces_learners=True,
)
LEARNERS_ROLL = Op(
    name="learners_roll",
    doc="Each learner gets the value of the learner `shift` before it, round a ring.",
    signature="(x: any[...], shift) -> any[...]",
    infer=lambda inputs, attributes: inputs[0],
    compute=_roll,
    nest=_roll_nest,
    samples=lambda rng: [s for shift in (0, 1, -2) for s in _stacked(rng, {"shift": shift})],
    gradient=_roll_gradient,
    across_learners=True,
)
LEARNERS_INDEX = Op(
    name="learners_index",
    doc="The learner's number, from 0.",
    signature="() -> i32",
    infer=lambda inputs, attributes: TensorType(Element.I32),
    compute=None,
    samples=lambda rng: [],
    undifferentiable="it has no inputs",
    runtime=True,
)

ALL_LEARNERS = Op(
    name="all_learners",
    doc="The values of `count` learners from number `first` on, stacked on a new first axis.",
    signature="(x: any[...], first, count) -> any[count, ...]",
    infer=_infer_all,
    compute=_all,
    samples=lambda rng: [
        s
        for first, count in ((0, 3), (1, 2), (2, 1))
        for s in _stacked(rng, {"first": first, "count": count})
    ],
    undifferentiable="it is made behind differentiation",
    across_learners=True,
    reduces_learners=True,
    view=True,
)
EACH_LEARNER = Op(
    name="each_learner",
    doc="Of values stacked on a first axis, each learner's own.",
    signature="(x: any[learners, ...]) -> any[...]",
    infer=_infer_each,
    compute=lambda inputs, attributes, result: inputs[0],
    samples=lambda rng: [
        Sample((s.arrays[0],), (s.types[0].with_shape((rules.as_dim(3), *s.types[0].shape)),), {})
        for s in _stacked(rng, {})
    ],
    undifferentiable="it is made behind differentiation",
    across_learners=True,
    view=True,
)

LEARNERS_TURN = Op(
    name="learners_turn",
    doc="The variable `name`, which all share, when it is a learner's turn to assign to it: as the "
    "one before has left it. A turn lasts from the first of a `push` to its last `assign`.",
    signature="(x: any[...], name, push) -> any[...]",
    infer=lambda inputs, attributes: inputs[0],
    compute=lambda inputs, attributes, result: inputs[0],
    samples=lambda rng: [
        sample([draw(rng, sizes)], {"name": "net.W", "push": 0}, smooth=False)
        for sizes in ((), (3, 5), (0, 3))
    ],
    gradient=lambda g, call: (None,),
    view=True,
)
LEARNERS_PUSHED = Op(
    name="learners_pushed",
    doc="A variable that all share, once every learner has assigned to it: what the last has left.",
    signature="(x: any[...]) -> any[...]",
    infer=lambda inputs, attributes: inputs[0],
    compute=lambda inputs, attributes, result: inputs[0][-1],
    samples=lambda rng: [replace(s, differentiable=()) for s in _stacked(rng, {})],
    gradient=lambda g, call: (None,),
    across_learners=True,
    reduces_learners=True,
    view=True,
)

OPS = (
    ALL_LEARNERS,
    EACH_LEARNER,
    LEARNERS_REDUCE,
    LEARNERS_ROLL,
    LEARNERS_INDEX,
    LEARNERS_TURN,
    LEARNERS_PUSHED,
)
