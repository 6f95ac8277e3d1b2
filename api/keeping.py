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
from fml.engine.ir.diagnostics import error
from fml.engine.ir.source import Source
from fml.engine.ir.training import Duration, Training
from fml.engine.runtime.checkpoint import Checkpoint, read_checkpoint
from fml.engine.runtime.outcome import Outcome
from fml.engine.runtime.run_files import Encoding, Ending, Origin
from fml.engine.runtime.run_folder import RunFolder
from fml.engine.runtime.watch import Listener, Point, Progress, Start
from fml.engine.sources.load import LoadedData
from fml.version import __version__

if TYPE_CHECKING:
    from fml.program import Program
    from fml.training import Request

_MAIN = "source.fml"
KILLED = "killed"  # why a run ended that has no end


@dataclass(frozen=True, slots=True)
class Recorder:
    """A listener that appends figures to the folder of the run, and passes everything on.

    `earlier` are the figures of a run that goes on; those after its checkpoint are taken anew.
    """

    folder: RunFolder
    next: Listener
    earlier: tuple[Point, ...] | None = None

    def started(self, start: Start) -> None:
        """Make a run that goes on one that has not ended, now that nothing keeps it from it."""
        if self.earlier is not None:
            self.folder.go_back(self.earlier)
        self.next.started(start)

    def stepped(self, progress: Progress) -> None:
        """Pass it on."""
        self.next.stepped(progress)

    def measured(self, points: tuple[Point, ...]) -> None:
        """Write the figures, and pass them on."""
        self.folder.append(points)
        self.next.measured(points)

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Pass it on."""
        self.next.measuring(split, done, samples)

    def noted(self, words: str) -> None:
        """Pass it on."""
        self.next.noted(words)

    def interrupted(self) -> None:
        """Pass it on."""
        self.next.interrupted()

    def stopped(self, progress: Progress, why: str) -> None:
        """Pass it on."""
        self.next.stopped(progress, why)

    def finished(self) -> None:
        """Pass it on."""
        self.next.finished()


def create(program: "Program", training: Training, request: "Request") -> RunFolder:
    """Make the folder of a run."""
    path = Path(program.name)
    stem = path.stem if path.suffix == ".fml" else "run"
    name = None if request.folder is False else request.folder
    return RunFolder.create("-".join(filter(None, (stem, training.name))), name)


def begin(
    folder: RunFolder,
    program: "Program",
    training: Training,
    data: Mapping[str, LoadedData],
    request: "Request",
    device: str,
) -> None:
    """Write what is known of a run before its first step; it is trained on `device`."""
    sources = _sources(program.checked)
    origin = Origin(
        file=program.name,
        main=next(iter(sources)),
        sources=sources,
        base=str(program.checked.base.resolve()),
        plan=training.name,
        options={name: _plain(value) for name, value in request.options.items()},
        seed=training.seed if request.seed is None else request.seed,
        device=device,
        devices=request.devices,
        on_fault=request.on_fault,
        cores=request.cores,
        streams=request.streams,
    )
    versions = {"fml": __version__, "numpy": np.__version__}
    folder.begin(origin, _encodings(data), versions, sys.argv)


def begin_anew(folder: RunFolder, data: Mapping[str, LoadedData]) -> None:
    """Write what is known anew of a run that is begun again, from the data as they are now."""
    folder.write_encodings(_encodings(data))


def _encodings(data: Mapping[str, LoadedData]) -> dict[str, Encoding]:
    return {name: Encoding(d.statistics, d.classes) for name, d in data.items()}


def finish(folder: RunFolder, training: Training, outcome: Outcome) -> None:
    """Write what a run has come to."""
    graphs = [measure.graph for measure in training.measures]
    read = {str(node.attributes["name"]) for graph in graphs for node in graph.of_op("variable")}

    def is_kept(name: str) -> bool:
        """Of what learners have for themselves, only what figures are taken from."""
        variable = training.variables[name]
        return variable.is_of_model or (variable.mapped and name in read)

    kept = {name: value for name, value in outcome.variables.items() if is_kept(name)}
    failure = outcome.failure.message if outcome.failure else ""
    ending = Ending(
        outcome.figures, outcome.stopped_by, outcome.progress, outcome.interrupted, failure,
        outcome.scale,
    )  # fmt: skip
    folder.finish(kept, ending)


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that was kept: what it was made of, and its folder."""

    folder: RunFolder
    origin: Origin
    program: "Program"
    training: Training


def reopen(folder: RunFolder) -> Kept:
    """Read what a run was made of.

    Raises:
        FmlError: E0707, its folder is damaged.
    """
    from fml.program import Program

    origin = folder.origin()
    main = folder.path / origin.main
    checked = language.check(Source(str(main), origin.sources[origin.main]), main.parent)
    training = language.lower(checked, origin.plan or None, origin.options)
    return Kept(folder, origin, Program(checked, Path(origin.base)), training)


def outcome_of(folder: RunFolder) -> Outcome:
    """Read what a run came to: at its end, or else by its last checkpoint.

    Raises:
        FmlError: E0707 and E0710, its files are damaged.
    """
    if folder.has_ended:
        ending = folder.ending()
        return Outcome(
            folder.parameters(), folder.points(), ending.figures, ending.stopped_by,
            ending.progress, ending.interrupted, scale=ending.scale,
        )  # fmt: skip
    checkpoint = read_checkpoint(folder.checkpoint)
    points = tuple(filter(checkpoint.covers, folder.points()))
    return Outcome(
        checkpoint.model, points, {}, KILLED, checkpoint.progress, interrupted=True,
        scale=checkpoint.scale,
    )  # fmt: skip


def encodings_of(kept: Kept) -> dict[str, LoadedData]:
    """Read what encodes new rows; the samples themselves are not read.

    Raises:
        FmlError: E0707, the file is damaged.
    """
    encodings = kept.folder.encodings(kept.training.datasets)
    return {name: LoadedData({}, one.statistics, one.classes) for name, one in encodings.items()}


def place_to_go_on(folder: RunFolder) -> tuple[Checkpoint | None, tuple[Point, ...]]:
    """Return the last checkpoint of a run that can go on, and its figures until then.

    One that was killed before its first checkpoint has none, and goes on from its beginning.

    Raises:
        FmlError: E0712, the run came to its end; E0707 and E0710, its files are damaged.
    """
    if folder.has_ended and not (ending := folder.ending()).interrupted:
        why = ending.failure or f"stopped {ending.stopped_by}"
        raise error(
            "E0712", f"the run `{folder.path}` has ended: {why}",
            help="only a run that was interrupted or killed can go on; train a new one",
        )  # fmt: skip
    if not folder.has_ended and not folder.checkpoint.is_file():
        return None, ()
    checkpoint = read_checkpoint(folder.checkpoint)
    return checkpoint, tuple(filter(checkpoint.covers, folder.points()))


def _sources(checked: language.CheckedProgram) -> dict[str, str]:
    """Texts by their path in the run's folder, the main one first, placed so that imports hold."""
    files = _files(checked.module, {})
    if len(files) == 1:
        return {_MAIN: checked.source.text}
    shared = os.path.commonpath([path.parent for path in files])
    return {str(Path("source", path.relative_to(shared))): text for path, text in files.items()}


def _files(module: Module, found: dict[Path, str]) -> dict[Path, str]:
    path = module.base.resolve() / Path(module.source.name).name
    if path not in found and not module.source.is_std:
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
