"""Figures and predictions of parameters that were trained before."""

from collections.abc import Mapping, Sequence

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.diagnostics import error
from fml.engine.ir.dims import Dim
from fml.engine.ir.foreign import in_words
from fml.engine.ir.training import Model, Role, Training
from fml.engine.ir.types import TensorType
from fml.engine.ops.by_sample import Reach, reaches
from fml.engine.ops.record import Array
from fml.engine.passes.pipeline import readable
from fml.engine.runtime.feeding import Data, has_samples
from fml.engine.runtime.measuring import Measurement, Told, nobody, samples_at_once
from fml.engine.runtime.outcome import Outcome, Scale
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.variables import VariableStore


def evaluate(
    training: Training, data: Data, outcome: Outcome, backend: Backend, told: Told = nobody
) -> dict[str, float]:
    """Take every figure of a plan on its whole split, of the splits that have samples.

    Figures are those of the moment in which the run ended, and of the parameters alone: what
    `previous` remembers is left out.
    """
    scale, progress = outcome.scale, outcome.progress
    store = VariableStore(training.variables, backend, scale.learners, scale.devices)
    own = {n for n, v in training.variables.items() if v.role is not Role.DELAY}
    store.restore({name: value for name, value in outcome.variables.items() if name in own})
    moment = scale.moment(progress.step, progress.seconds)
    figures: dict[str, float] = {}
    for measure in training.measures:
        if has_samples(data, measure.data, measure.split):
            measurement = Measurement(measure, data, scale.sizes, backend, store)
            with backend.at_work():
                figures |= measurement.take(moment, told)
    return figures


def predict(
    training: Training,
    model: Model,
    variables: Mapping[str, Array],
    arguments: Mapping[str, object],
    backend: Backend,
) -> Array:
    """Apply a model to arrays, one per argument; returns the array of its result.

    Where each sample's result is its own, samples go through in pieces: the memory that a network
    takes does not grow with their number.

    Raises:
        FmlError: E0720, an argument is missing, unknown, or not of its type.
    """
    arrays, sizes = _checked(model, arguments)
    if 0 in sizes.values():  # there are no kernels for nothing
        return _nothing(model, sizes)
    own = {name: training.variables[name] for name in model.variables}
    store = VariableStore(own, backend)
    store.restore({name: variables[name] for name in own})
    sizes = {**Scale().sizes, **sizes}
    dim, piece = _piece(model, sizes)
    section = Section(model.graph, {**sizes, dim: piece} if dim else sizes, backend, store)
    with backend.at_work():
        if not dim:
            return _result(section, arrays)
        parts: list[Array] = []
        for start in range(0, sizes[dim], piece):
            # The last piece is as long as the others: it does some samples again.
            first = min(start, sizes[dim] - piece)
            part = slice(first, first + piece)
            taken = {n: a[part] if _leads(model, n, dim) else a for n, a in arrays.items()}
            parts.append(_result(section, taken)[start - first :])
    return np.concatenate(parts)


def _nothing(model: Model, sizes: Mapping[str, int]) -> Array:
    """The result for arguments without entries: an array without entries.

    Raises:
        FmlError: E0720, it would have entries all the same.
    """
    result = model.result.substitute(sizes)
    shape = [dim.size for dim in result.shape]
    if 0 not in shape:
        empty = ", ".join(f"{name} = 0" for name, size in sizes.items() if not size)
        raise error(
            "E0720", f"`{model.name}` makes {model.result} of its arguments, and they are empty",
            notes=[f"found {empty}"], help="hand over one sample at least",
        )  # fmt: skip
    return np.empty([size or 0 for size in shape], result.dtype)


def _result(section: Section, arrays: Mapping[str, Array]) -> Array:
    section.provide_arguments(arrays)
    section.provide(Moment(0, 1, 1))
    section.run()
    return section.result("result")


def _piece(model: Model, sizes: Mapping[str, int]) -> tuple[str, int]:
    """The name of the number of samples, and how many of them go through at a time.

    No name where all go through at once: they are few, or the results are not each sample's own.
    """
    dim = model.result.shape[0].name if model.result.rank else None
    if not dim or dim not in sizes:
        return "", 0
    graph = readable(model.graph)
    if reaches(graph, dim)[graph.outputs["result"]] is not Reach.SAMPLE:
        return "", 0
    piece = samples_at_once(graph, dim, sizes)
    return (dim, piece) if piece < sizes[dim] else ("", 0)


def _leads(model: Model, argument: str, dim: str) -> bool:
    """Whether samples are the first axis of an argument."""
    shape = model.inputs[argument].shape
    return bool(shape) and shape[0].name == dim


def _checked(
    model: Model, arguments: Mapping[str, object]
) -> tuple[dict[str, Array], dict[str, int]]:
    if arguments.keys() != model.inputs.keys():
        wanted = ", ".join(f"`{name}: {type}`" for name, type in model.inputs.items())
        raise error(
            "E0720", f"`{model.name}` takes {wanted}",
            notes=[f"found {', '.join(f'`{name}`' for name in arguments) or 'no arguments'}"],
        )  # fmt: skip
    sizes: dict[str, int] = {}
    arrays = {n: _fitting(model, n, v, sizes) for n, v in arguments.items()}
    return arrays, sizes


def _fitting(model: Model, name: str, value: object, sizes: dict[str, int]) -> Array:
    type: TensorType = model.inputs[name]
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        array = np.asarray(None)
    problem, help = _problem(type, name, array, sizes)
    if problem:
        found = in_words(array if array.dtype.kind != "O" else value)
        raise error(
            "E0720", f"`{name}` of `{model.name}` is {type}, and {problem}",
            notes=[f"found {found}"], help=help,
        )  # fmt: skip
    return array.astype(type.dtype)


def _problem(type: TensorType, name: str, array: Array, sizes: dict[str, int]) -> tuple[str, str]:
    """What keeps an array from being an argument, and the way out; binds the sizes it finds."""
    if array.dtype.kind == "O":
        return "this is no array of numbers", "hand over numbers in an array"
    if array.ndim != type.rank:
        one = array.ndim == type.rank - 1 and _fits(type.shape[1:], array.shape)
        help = f"one sample is a batch of one: `{name}[None]`" if one else ""
        return f"it has {array.ndim} axes instead of {type.rank}", help
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        return f"it holds {array.dtype}", ""
    if not type.is_float and (array.astype(type.dtype) != array).any():
        return f"it holds values that no {type.element} has", ""
    for axis, (dim, size) in enumerate(zip(type.shape, array.shape, strict=True)):
        wanted = sizes.setdefault(dim.name, size) if dim.name else dim.size
        if wanted is not None and wanted != size:
            turned = _fits(type.shape, array.shape[::-1])
            help = f"samples are the first axis: `{name}.T`" if turned else ""
            return f"axis {axis} has {size} entries instead of {wanted}", help
    return "", ""


def _fits(dims: Sequence[Dim], shape: tuple[int, ...]) -> bool:
    """Whether a shape has the sizes that are known."""
    return all(d.size in {None, size} for d, size in zip(dims, shape, strict=True))
