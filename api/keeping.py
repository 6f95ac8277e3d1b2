"""Runs kept in folders: written while a run goes on, and opened again."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from fml.dsl import program as language
from fml.dsl.modules import Module
from fml.engine.ir.source import Source
from fml.engine.ir.training import Duration, Role, Training
from fml.engine.runtime.run_folder import Encoding, Ending, Origin, RunFolder
from fml.engine.runtime.trainer import Outcome
from fml.engine.runtime.watch import Listener, Point, Progress
from fml.engine.sources.load import LoadedData
from fml.version import __version__

if TYPE_CHECKING:
    from fml.program import Program
    from fml.training import Request

_MAIN = "source.fml"


@dataclass(frozen=True, slots=True)
class Recorder:
    """A listener that appends figures to the folder of the run, and passes everything on."""

    folder: RunFolder
    next: Listener

    def started(self, progress: Progress, steps_per_epoch: int) -> None:
        """Pass it on."""
        self.next.started(progress, steps_per_epoch)

    def stepped(self, progress: Progress) -> None:
        """Pass it on."""
        self.next.stepped(progress)

    def measured(self, points: tuple[Point, ...]) -> None:
        """Write the figures, and pass them on."""
        self.folder.append(points)
        self.next.measured(points)

    def stopped(self, progress: Progress, why: str) -> None:
        """Pass it on."""
        self.next.stopped(progress, why)


def begin(program: "Program", training: Training, request: "Request") -> RunFolder:
    """Make the folder of a run and write what is known before its first step."""
    path = Path(program.name)
    stem = path.stem if path.suffix == ".fml" else "run"
    name = None if request.folder is False else request.folder
    folder = RunFolder.create("-".join(filter(None, (stem, training.name))), name)
    sources = _sources(program.checked)
    origin = Origin(
        file=program.name,
        main=next(iter(sources)),
        sources=sources,
        base=str(program.checked.base.resolve()),
        plan=training.name,
        options={name: _plain(value) for name, value in request.options.items()},
        seed=training.seed if request.seed is None else request.seed,
        device=request.device,
    )
    folder.begin(origin, {"fml": __version__, "numpy": np.__version__}, sys.argv)
    return folder


def finish(
    folder: RunFolder, training: Training, data: Mapping[str, LoadedData], outcome: Outcome
) -> None:
    """Write what a run has come to."""
    roles = {Role.PARAM, Role.STATE}
    kept = {n: v for n, v in outcome.variables.items() if training.variables[n].role in roles}
    encodings = {name: Encoding(d.statistics, d.classes) for name, d in data.items()}
    failure = outcome.failure.message if outcome.failure else ""
    ending = Ending(
        outcome.figures, outcome.stopped_by, outcome.progress, outcome.interrupted, failure
    )
    folder.finish(kept, encodings, ending)


def reopen(path: Path) -> "tuple[Program, Training, dict[str, LoadedData], Outcome]":
    """Read a finished run; its data come without their splits.

    Raises:
        FmlError: E0706 and E0707, it is not the folder of a finished run, or is damaged.
    """
    from fml.program import Program

    folder = RunFolder.open(path)
    origin = folder.origin()
    main = folder.path / origin.main
    checked = language.check(Source(str(main), origin.sources[origin.main]), main.parent)
    training = language.lower(checked, origin.plan or None, origin.options)
    data = {
        name: LoadedData({}, one.statistics, one.classes)
        for name, one in folder.encodings().items()
    }
    ending = folder.ending()
    outcome = Outcome(
        folder.parameters(), folder.points(), ending.figures, ending.stopped_by, ending.progress,
        ending.interrupted,
    )  # fmt: skip
    return Program(checked, Path(origin.base)), training, data, outcome


def _sources(checked: language.CheckedProgram) -> dict[str, str]:
    """Texts by their path in the run's folder, the main one first, placed so that imports hold."""
    files = _files(checked.module, {})
    if len(files) == 1:
        return {_MAIN: checked.source.text}
    shared = os.path.commonpath([path.parent for path in files])
    return {str(Path("source", path.relative_to(shared))): text for path, text in files.items()}


def _files(module: Module, found: dict[Path, str]) -> dict[Path, str]:
    path = module.base.resolve() / Path(module.source.name).name
    if path not in found and not module.is_std:
        found[path] = module.source.text
        for imported, _ in module.imports.values():
            _files(imported, found)
    return found


def _plain(value: object) -> object:
    """Return an option's value as JSON has it; `lower` reads text as it was typed."""
    if isinstance(value, tuple | list):
        entries = cast("Sequence[object]", value)
        return f"[{', '.join(json.dumps(_plain(entry)) for entry in entries)}]"
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()  # pyright: ignore[reportUnknownVariableType]
    return value
