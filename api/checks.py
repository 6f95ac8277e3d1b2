"""What the functions of the API are handed, checked before anything is done with it.

Every fault is an `FmlError` E0744 that says what was found and what to write instead.
"""

import math
import operator
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

from fml.engine.ir.diagnostics import did_you_mean, error
from fml.engine.ir.foreign import as_mapping, not_of_kind

if TYPE_CHECKING:
    from fml.engine.runtime.watch import Listener

_NONE: Mapping[str, object] = MappingProxyType({})
_EVENTS = ("started", "stepped", "measured", "stopped")
_MAY_BE_HEARD = ("measuring", "noted", "interrupted", "finished")
_ARGUMENTS = (
    "plan", "data", "seed", "device", "devices", "cores", "seconds", "run", "on_fault", "on_event",
    "options", "streams", "trace",
)  # fmt: skip


def as_path(value: object, wanted: str, help: str, name: str = "path") -> Path:
    """Return a path; a text of several lines is none."""
    if not isinstance(value, str | Path):
        raise not_of_kind(name, wanted, value, help)
    path = str(value)
    if "\n" in path or "\0" in path:
        raise not_of_kind(name, wanted, path, help)
    return Path(path)


def as_whole(name: str, value: object, least: int, help: str = "") -> int:
    """Return a whole number of at least `least` as Python has it."""
    wanted = f"a whole number of at least {least}"
    try:
        number = operator.index(cast("Any", value))
    except TypeError:
        raise not_of_kind(name, wanted, value, help) from None
    if number < least or isinstance(value, bool):
        raise not_of_kind(name, wanted, value, help)
    return number


def as_seed(value: object) -> int | None:
    """Return a seed as a Python number."""
    help = "seed=0, or leave it out for the plan's own"
    return None if value is None else as_whole("seed", value, 0, help)


def as_seconds(value: object) -> float:
    """Return how long something may take."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise not_of_kind("seconds", "a number above 0", value, "seconds=2.0, the default")


def as_folder(value: object) -> str | Literal[False] | None:
    """Return the name of a run's folder; None for one made of the time, False for none."""
    if value is None or value is False or isinstance(value, str):
        return value
    help = 'run="first" for runs/first, run=None for a name made of the time'
    raise not_of_kind("run", "the name of a folder", value, help)


def as_text(name: str, wanted: str, value: object, help: str) -> str:
    """Return a text that an argument must be."""
    if not isinstance(value, str):
        raise not_of_kind(name, wanted, value, help)
    return value


def as_device(value: object) -> str | None:
    """Return the name of a device; None for the one that the file says, or the CPU."""
    help = 'device="cpu", or leave it out for the file\'s own'
    return None if value is None else as_text("device", "the name of a device", value, help)


def as_devices(value: object) -> int:
    """Return how many devices the CPU is."""
    return as_whole("devices", value, 1, "devices=2 for two groups of cores")


def as_streams(value: object) -> int:
    """Return how many streams there may be of each learner and of each device."""
    return as_whole("streams", value, 1, "streams=2 for two at most")


def as_on_fault(value: object) -> Literal["stop", "restart"]:
    """Return what to do when a learner's loss is not finite."""
    if value in ("stop", "restart"):
        return value
    wanted = "`stop` or `restart`"
    raise not_of_kind("on_fault", wanted, value, 'on_fault="stop", the default')


def as_cores(value: object) -> int | None:
    """Return how many cores to use at most; None for all."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise not_of_kind("cores", "a number of cores", value, "cores=1 for one, cores=None for all")


def as_plan(value: object) -> str | None:
    """Return the name of a plan."""
    help = "program.plans has the names; data are given as data={...}"
    return None if value is None else as_text("plan", "the name of a plan", value, help)


def as_options(
    options: object, named: Mapping[str, object], known: Mapping[str, object]
) -> dict[str, object]:
    """Return the values of options, given as a mapping and by name.

    Raises:
        FmlError: E0405, a name that is no option and nearly one of the arguments; E0744.
    """
    mapping = _NONE if options is None else as_mapping(options)
    if mapping is None:
        raise not_of_kind("options", "a dict of values by name", options, 'options={"lr": 0.1}')
    for name in named:
        near = did_you_mean(name, (*_ARGUMENTS, *known))
        if name in _ARGUMENTS:
            method = "profile" if name == "seconds" else "train"
            near = f"`{name}` is an argument of `Program.{method}`, and none of this method"
        if name not in known and near:
            raise error("E0405", f"there is no option `{name}`", help=near)
    return {**mapping, **named}


def as_listener(value: object) -> "Listener | None":
    """Return a listener: an object with a method for each event."""
    if value is not None and (absent := [e for e in _EVENTS if not hasattr(value, e)]):
        wanted = "an object with the methods " + ", ".join(_EVENTS)
        raise not_of_kind("on_event", wanted, value, f"it has no {', '.join(absent)}")
    return None if value is None else _told_all(value)


def _told_all(listener: object) -> "Listener":
    """A listener who need not have a method for every event."""
    from fml.engine.runtime.watch import Silent

    silent = Silent()
    events = (*_EVENTS, *_MAY_BE_HEARD)
    heard = {event: getattr(listener, event, getattr(silent, event)) for event in events}
    return cast("Listener", SimpleNamespace(**heard))


def as_data(value: object) -> Mapping[str, object]:
    """Return the arrays for `given` data, by data set."""
    mapping = _NONE if value is None else as_mapping(value)
    if mapping is None:
        help = 'data={"points": {"x": X, "y": y}}, with the names that the file declares'
        raise not_of_kind("data", "a dict of data sets, each a dict of fields", value, help)
    return mapping
