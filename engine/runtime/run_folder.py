"""A run on the disk: its text, options, environment, figures, parameters and checkpoints.

Every file is replaced as a whole or grows by whole lines, so a run that was killed can be read.
"""

import csv
import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fml.engine.ir.diagnostics import Diagnostic, FmlError, error
from fml.engine.ir.training import Role, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.checkpoint import write_atomically
from fml.engine.runtime.environment import Environment
from fml.engine.runtime.files import writing
from fml.engine.runtime.metrics_file import MetricsFile, read_metrics
from fml.engine.runtime.trainer import Outcome
from fml.engine.runtime.watch import Progress

SOURCE = "source.fml"
_OPTIONS, _ENVIRONMENT, _METRICS = "options.json", "environment.json", "metrics.csv"
_DATA, _MODEL, _FIGURES = "data.json", "model.safetensors", "figures.json"
_ROOT = Path("runs")


@dataclass(frozen=True, slots=True)
class Setup:
    """What was asked for: the file, the folder its data paths begin in, its plan and options.

    Option values are what JSON has, durations as text; `seed` is None for the plan's own.
    """

    file: str
    base: str
    plan: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    seed: int | None = None
    device: str = "cpu"


class LearntData(Protocol):
    """What training has found out about a data set; `LoadedData` is one."""

    @property
    def statistics(self) -> Mapping[str, Array]:
        """Means and standard deviations by variable."""
        ...

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The texts of text labels by field, in the order of their class numbers."""
        ...


@dataclass(frozen=True, slots=True)
class DataFigures:
    """`LearntData` read back: f32 statistics and class texts."""

    statistics: Mapping[str, Array]
    classes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's folder; made by `create`, or found by `open`."""

    path: Path

    @staticmethod
    def create(root: Path = _ROOT, name: str | None = None, label: str = "") -> "RunFolder":
        """Make an empty folder in `root`.

        Without a name it is called by the time and the label, `2026-02-28_14-05-59_iris`,
        with a number behind it if there is one already.

        Raises:
            FmlError: E0750, the name is taken or is none; E0753, the folder cannot be made.
        """
        if name is not None and (name in {"", ".", ".."} or re.search(r"[/\\\0]", name)):
            raise error(
                "E0750", f"a run cannot be called `{name}`",
                help="a name is that of a folder in `runs`, without the path to it",
            )  # fmt: skip
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
        if name is not None:
            return RunFolder(_made(root / name))
        stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}" + (f"_{label}" if label else "")
        for number in count(1):
            try:
                return RunFolder(_made(root / (stem if number == 1 else f"{stem}-{number}")))
            except _Taken:
                continue
        raise AssertionError("a number is always free")

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Find the folder of a run.

        Raises:
            FmlError: E0751, there is none.
        """
        if not (path / SOURCE).is_file() or not (path / _OPTIONS).is_file():
            why = "is not the folder of a run" if path.exists() else "does not exist"
            near = sorted(p.parent for p in path.parent.glob(f"*/{_OPTIONS}"))[-3:]
            raise error(
                "E0751", f"{path} {why}",
                notes=[f"it has no {SOURCE} and {_OPTIONS}"] if path.exists() else [],
                help=f"there are {', '.join(map(str, near))}" if near else "`fml train` makes one",
            )  # fmt: skip
        return RunFolder(path)

    @property
    def checkpoint(self) -> Path:
        """Where the run keeps what it needs to go on."""
        return self.path / "checkpoints" / "latest.safetensors"

    # --- writing -----------------------------------------------------------------------------

    def write_source(self, texts: Mapping[str, str]) -> None:
        """Write the text as `source.fml`, and what it imports under the paths it imports them by.

        Raises:
            FmlError: E0753, as all the others that write.
        """
        for name, text in texts.items():
            self._write(name, text.encode())

    def write_setup(self, setup: Setup) -> None:
        """Write what was asked for."""
        options = {name: _plain(value) for name, value in setup.options.items()}
        self._write_json(_OPTIONS, {**asdict(setup), "options": options})

    def write_environment(self, environment: Environment) -> None:
        """Write versions, machine and times; at the start, and again at the end."""
        self._write_json(_ENVIRONMENT, asdict(environment))

    def write_data(self, data: Mapping[str, LearntData]) -> None:
        """Write statistics and classes of each data set, which new samples are read with."""
        self._write_json(_DATA, {
            name: {
                "statistics": {n: np.asarray(v).tolist() for n, v in learnt.statistics.items()},
                "classes": {n: list(texts) for n, texts in learnt.classes.items()},
            }
            for name, learnt in data.items()
        })  # fmt: skip

    def metrics(self) -> MetricsFile:
        """Open `metrics.csv` for appending; the listener of the run that fills it."""
        return MetricsFile(self.path / _METRICS)

    def write_outcome(self, training: Training, outcome: Outcome) -> None:
        """Write parameters and states of layers as they were kept, and the final figures."""
        roles = {name: variable.role for name, variable in training.variables.items()}
        kept = {n: v for n, v in outcome.variables.items() if roles[n] in {Role.PARAM, Role.STATE}}
        self._write(_MODEL, save(kept, {"format": "fml", "plan": training.name}))
        failure = outcome.failure
        progress = outcome.progress
        self._write_json(_FIGURES, {
            "figures": {name: _plain(float(value)) for name, value in outcome.figures.items()},
            "stopped_by": outcome.stopped_by,
            "interrupted": outcome.interrupted,
            "failure": failure and [failure.code, failure.message, failure.notes, failure.help],
            "progress": [progress.step, progress.epoch, progress.samples, progress.seconds],
        })  # fmt: skip

    def _write_json(self, name: str, content: object) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        self._write(name, text.encode() + b"\n")

    def _write(self, name: str, content: bytes) -> None:
        with writing(self.path / name):
            write_atomically(self.path / name, content)

    # --- reading -----------------------------------------------------------------------------

    def source(self) -> str:
        """Return the text of `source.fml`.

        Raises:
            FmlError: as all the others that read: E0752, the file is damaged; E0754, it is not
                there, as the run has not come so far.
        """
        with self._reading(SOURCE) as path:
            return path.read_text(encoding="utf-8")

    def setup(self) -> Setup:
        """Return what was asked for."""
        with self._reading(_OPTIONS) as path:
            return Setup(**_json(path))

    def environment(self) -> Environment:
        """Return versions, machine and times."""
        with self._reading(_ENVIRONMENT) as path:
            content = _json(path)
            content["command"] = tuple(content["command"])
            return Environment(**content)

    def data(self) -> dict[str, DataFigures]:
        """Return statistics and classes of each data set."""
        with self._reading(_DATA) as path:
            return {
                name: DataFigures(
                    {n: np.asarray(v, np.float32) for n, v in learnt["statistics"].items()},
                    {n: tuple(texts) for n, texts in learnt["classes"].items()},
                )
                for name, learnt in _json(path).items()
            }

    def outcome(self) -> Outcome:
        """Return the parameters, the figures of the whole run and the final ones."""
        with self._reading(_METRICS) as path:
            history = read_metrics(path)
        with self._reading(_MODEL) as path:
            variables = load(path.read_bytes())
        with self._reading(_FIGURES) as path:
            content = _json(path)
            figures = {name: float(value) for name, value in content["figures"].items()}
            step, epoch, samples, seconds = content["progress"]
            latest = {point.series: point.value for point in history}
            progress = Progress(step, epoch, samples, seconds, latest)
            failure: Diagnostic | None = None
            if content["failure"] is not None:
                code, message, notes, help = content["failure"]
                failure = Diagnostic(code, message, (), tuple(notes), help)
            return Outcome(
                variables, history, figures, content["stopped_by"], progress,
                content["interrupted"], failure,
            )  # fmt: skip

    @contextmanager
    def _reading(self, name: str) -> Generator[Path]:
        """Turn what can be wrong with a file into a diagnostic that names it."""
        path = self.path / name
        try:
            yield path
        except FileNotFoundError:
            raise error(
                "E0754", f"the run {self.path} has no {name}",
                notes=["it was ended before it could write it"], help=self._again(),
            ) from None  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError,
                csv.Error, SafetensorError) as reason:  # fmt: skip
            raise error(
                "E0752", f"{path} is damaged", notes=[str(reason)], help=self._again()
            ) from None

    def _again(self) -> str:
        """The command that makes the run anew, if it can still be read."""
        try:
            command: list[str] = _json(self.path / _ENVIRONMENT)["command"]
            return f"train again: {' '.join(command)}"
        except (OSError, ValueError, KeyError, TypeError):
            return "train again"


class _Taken(FmlError):
    """The name of a folder is taken."""


def _made(path: Path) -> Path:
    with writing(path):
        try:
            path.mkdir()
        except FileExistsError:
            raise _Taken([Diagnostic(
                "E0750", f"there is a run `{path.name}` in {path.parent} already", (), (),
                "choose another name, or none for one that is made of the time",
            )]) from None  # fmt: skip
    return path


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError("it is not a JSON object")
    return cast("dict[str, Any]", content)


def _plain(value: object) -> object:
    """What JSON can hold; numbers that are not finite and durations become text."""
    if isinstance(value, np.generic):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in cast("Sequence[object]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)
