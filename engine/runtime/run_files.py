"""What the files of a run say: its origin, encodings, figures and end, as JSON and lines of CSV."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fml.engine.ops.record import Array
from fml.engine.runtime.outcome import Scale
from fml.engine.runtime.watch import Point, Progress

_COLUMNS = ("step", "epoch", "samples", "seconds", "series", "value")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was made of.

    `sources` are the texts by path inside the folder, `main` the one that was trained, `base` the
    folder in which its data were looked for; `options` are the values given, not the defaults.
    """

    file: str
    main: str
    sources: Mapping[str, str]
    base: str
    plan: str
    options: Mapping[str, Any]
    seed: int
    device: str
    devices: int = 1
    on_fault: str = "stop"
    cores: int | None = None
    streams: int = 1


@dataclass(frozen=True, slots=True)
class Encoding:
    """What turns new samples of a data set into fields: statistics, and the classes of labels."""

    statistics: Mapping[str, Array]
    classes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and the figures of the parameters it was left with, as they were taken."""

    figures: Mapping[str, float]
    stopped_by: str
    progress: Progress
    interrupted: bool = False
    failure: str = ""
    scale: Scale = field(default_factory=Scale)


# --- writing -------------------------------------------------------------------------------------


def json_of(value: object) -> bytes:
    """Write JSON that people can read, `null` for what is not finite."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", errors="replace")


def described(origin: Origin) -> dict[str, Any]:
    """All of what a run was made of but its texts, as JSON has it."""
    return {name: value for name, value in asdict(origin).items() if name != "sources"}


def statistics_and_classes(encodings: Mapping[str, Encoding]) -> dict[str, Any]:
    """Encodings as JSON has them."""
    return {
        name: {
            "statistics": {k: np.asarray(v).tolist() for k, v in one.statistics.items()},
            "classes": one.classes,
        }
        for name, one in encodings.items()
    }


def lines_of(points: Iterable[Point]) -> str:
    """Write figures, a line each."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        (p.step, repr(p.epoch), p.samples, f"{p.seconds:.6f}", p.series, repr(p.value))
        for p in points
    )
    return text.getvalue()


def table_of(points: Iterable[Point]) -> bytes:
    """Write figures under the names of their columns."""
    return f"{','.join(_COLUMNS)}\n{lines_of(points)}".encode()


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]  # pyright: ignore
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- reading -------------------------------------------------------------------------------------


def origin_of(text: str) -> Origin:
    """Read what `described` gave; of the texts, there are none."""
    return Origin(**json.loads(text), sources={})


def ending_of(text: str) -> Ending:
    """Read an end as JSON has it."""
    read: dict[str, Any] = json.loads(text)
    figures = {name: _number(value) for name, value in read.pop("figures").items()}
    place: dict[str, Any] = read.pop("progress")
    latest = {name: _number(value) for name, value in place.pop("latest").items()}
    scale = Scale(**read.pop("scale", {}))
    return Ending(figures=figures, progress=Progress(latest=latest, **place), scale=scale, **read)


def encodings_of(text: str, names: Iterable[str]) -> dict[str, Encoding]:
    """Read what `statistics_and_classes` gave, of the data sets of these names."""
    read: dict[str, Any] = json.loads(text)
    read = {name: read[name] for name in names}
    return {
        name: Encoding(
            {k: np.asarray(v, np.float32) for k, v in one["statistics"].items()},
            {k: tuple(v) for k, v in one["classes"].items()},
        )
        for name, one in read.items()
    }


def points_of(text: str) -> tuple[Point, ...]:
    """Read figures; a last line that was cut off is left out."""
    whole = io.StringIO(text[: text.rfind("\n") + 1], newline="")
    return tuple(
        Point(
            row["series"], int(row["step"]), float(row["epoch"]), int(row["samples"]),
            float(row["seconds"]), float(row["value"]),
        )
        for row in csv.DictReader(whole)
    )  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
