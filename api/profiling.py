"""A program's plan, profiled: on its data, or on samples made up where they are not there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fml.dsl import program as language
from fml.engine.ops.record import Array
from fml.engine.profile import measure
from fml.engine.profile.invented import invented
from fml.engine.profile.profile import Profile
from fml.engine.sources.bind import bind
from fml.training import Request, backend_of, device_of, read_what_is_there

if TYPE_CHECKING:
    from fml.program import Program


def profile(program: "Program", request: Request, seconds: float) -> Profile:
    """Measure for some seconds where the time of a plan's steps goes; nothing is kept.

    Raises:
        FmlError: as `train` raises.
    """
    # Times of one core can be compared with what one core can do.
    training = language.lower(program.checked, request.plan, request.options)
    device = device_of(training, request.device)
    backend = backend_of(device, 1)
    read, missing = read_what_is_there(program, training, request.data)
    bound, splits = bind(training, read)
    made = {name: invented(training, training.datasets[name]) for name in missing}
    notes = [_made_up(name, made[name], why) for name, why in missing.items()]
    return measure.profile(
        bound,
        {**splits, **made},
        backend,
        device=device,
        seconds=seconds,
        seed=request.seed,
        notes=notes,
    )


def _made_up(name: str, splits: Mapping[str, Mapping[str, Array]], why: str) -> str:
    counts = {split: len(next(iter(fields.values()), ())) for split, fields in splits.items()}
    listed = ", ".join(f"{count:,} of {split}" for split, count in counts.items())
    return f"the samples of `{name}` are made up ({listed}), for it was not read: {why}"
