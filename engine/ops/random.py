"""Random draws: a function of seed, learner, step and place in the text, and of nothing else."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import F32, Element, TensorType, tensor
from fml.engine.ops import rules
from fml.engine.ops.later import np, philox_nest
from fml.engine.ops.philox import random_words
from fml.engine.ops.record import Array, Generator, Op, OpTypeError, Sample

if TYPE_CHECKING:
    from fml.engine.kernels import loops

KEY = tensor(Element.I64, 3)
# Bits of a draw: as many as the element holds exactly below 1.
_BITS = {Element.F16: 11, Element.BF16: 8, Element.F32: 24}


def _infer_key(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    return KEY


def _infer_uniform(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    rules.text(attributes, "path")
    element = rules.as_element(attributes["element"])
    if inputs[0] != KEY:
        raise TypeError(f"`random_uniform` takes a key {KEY}, found {inputs[0]}")
    if not element.is_float:
        message = f"random numbers of {element} cannot be drawn uniformly from 0 .. 1"
        raise OpTypeError("E0306", message, (), "draw floats and round them")
    return TensorType(element, rules.as_dims(attributes["shape"]))


def _uniform(inputs: Sequence[Array], attributes: Attributes, result: TensorType) -> Array:
    seed, learner, step = (int(word) for word in inputs[0])
    path, count = rules.text(attributes, "path"), rules.entries(result)
    if result.element is Element.F64:
        words = random_words(seed, learner, step, path, 2 * count).astype(np.uint64)
        bits = (words[0::2] >> np.uint64(5) << np.uint64(26)) | (words[1::2] >> np.uint64(6))
        numbers = bits * 2.0**-53
    else:
        kept = _BITS[rules.as_element(attributes["element"])]
        words = random_words(seed, learner, step, path, count)
        numbers = (words >> np.uint32(32 - kept)) * 2.0**-kept
    return numbers.astype(result.dtype).reshape(result.sizes)


def _uniform_nest(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> "loops.Kernel":
    return philox_nest.uniform(
        rules.text(attributes, "path"),
        _BITS.get(rules.as_element(attributes["element"]), 0),
        result,
    )


def _uniform_samples(rng: Generator) -> Sequence[Sample]:
    keys = [np.asarray(key, np.int64) for key in ((0, 0, 0), (-1, 3, 1 << 40), (7, 0, 5))]
    shapes = ((), (7,), (0, 3), (4, 5))
    return [
        Sample(
            (key,),
            (KEY,),
            {"path": "net.W", "shape": tuple(map(Dim.of, shape)), "element": element},
        )
        for key in keys
        for shape in shapes
        for element in (F32, Element.F16, Element.F64)
    ]


RANDOM_KEY = Op(
    name="random_key",
    doc="Seed, number of the learner and step: what random draws depend on.",
    signature="() -> i64[3]",
    infer=_infer_key,
    compute=None,
    samples=lambda rng: [],
    undifferentiable="it has no inputs",
    runtime=True,
)
RANDOM_UNIFORM = Op(
    name="random_uniform",
    doc="Uniform numbers in [0, 1) that depend on the key, the path and the place alone.",
    signature="(key: i64[3], path, shape, element) -> element[shape]",
    infer=_infer_uniform,
    compute=_uniform,
    nest=_uniform_nest,
    samples=_uniform_samples,
    undifferentiable="it does not depend on numbers",
)

OPS = (RANDOM_KEY, RANDOM_UNIFORM)
