"""A run on disk: its text, options, surroundings, figures and parameters, each in a plain file.

Whatever is written at once is renamed into place; `metrics.csv` grows by whole lines. A kill at
any moment leaves nothing that cannot be read.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.numpy import load, save

from fml.engine.files import write_atomically, writing
from fml.engine.ir.diagnostics import FmlError, did_you_mean, error
from fml.engine.ops.record import Array
from fml.engine.runtime import lock
from fml.engine.runtime.checkpoint import GO_ON
from fml.engine.runtime.run_files import (
    Encoding,
    Ending,
    Origin,
    described,
    encodings_of,
    ending_of,
    json_of,
    lines_of,
    origin_of,
    points_of,
    statistics_and_classes,
    table_of,
)
from fml.engine.runtime.surroundings import surroundings
from fml.engine.runtime.watch import Point

T = TypeVar("T")

ROOT = Path("runs")
_LOCK = "lock"
_OPTIONS = "options.json"  # written last of what is known before the first step
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path
    began: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @staticmethod
    def create(stem: str, name: str | None = None, root: Path = ROOT) -> "RunFolder":
        """Make a new folder in `root`; without a name, one of the stem and the time.

        Raises:
            FmlError: E0704, there is a run of that name; E0705, the name cannot be a folder's;
                E0732, the folder cannot be made.
        """
        if name is not None and not _NAME.fullmatch(name):
            shown = f"`{name}`" if name.isprintable() and name else repr(name)
            raise error(
                "E0705", f"{shown} cannot be the name of a run",
                help="use letters, digits, `_`, and behind the first of them also `-` and `.`; "
                "100 characters at most",
            )  # fmt: skip
        now = datetime.now().astimezone()
        stamped = f"{stem}-{now:%Y-%m-%d-%H%M%S}"
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            for number in range(1, 1000):
                path = root / (name or (stamped if number == 1 else f"{stamped}-{number}"))
                try:
                    path.mkdir()
                except FileExistsError:
                    if name is not None:
                        raise RunFolder(path)._taken() from None
                    continue
                return RunFolder(path, now)
        raise error("E0704", f"there are a thousand runs `{stamped}` already")

    def _taken(self) -> FmlError:
        """Say that there is such a run, and what can be done about it."""
        ways = ["give another name"]
        if not self.has_ended and self.is_begun:
            ways.append(f"go on with `fml train --resume {self.path}`")
        elif not self.has_ended:
            ways.append(f"remove it: it was killed before it had begun (`rm -r {self.path}`)")
        return error("E0704", f"there is a run `{self.path}` already", help=", or ".join(ways))

    @property
    def checkpoint(self) -> Path:
        """Where the latest checkpoint is written."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def trained_by(self) -> str:
        """Which process trains here now; empty if none does."""
        return lock.holder(self.path / _LOCK)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep every other process from training in this folder inside the `with`.

        The lock is the operating system's, and goes with the process however that dies.

        Raises:
            FmlError: E0708, another process trains there; E0732, nothing can be written there.
        """
        path = self.path / _LOCK
        try:
            with writing(path, GO_ON):
                file = lock.take(path)
        except lock.HeldError as holder:
            raise error(
                "E0708", f"the run `{self.path}` is being trained by {holder}",
                help="wait until it ends, or stop it with Ctrl-C or `kill`; to train beside it, "
                "begin a run of another name",
            ) from None  # fmt: skip
        try:
            yield
        finally:
            lock.release(file)

    # --- writing -----------------------------------------------------------------------------

    def begin(
        self,
        origin: Origin,
        encodings: Mapping[str, Encoding],
        versions: Mapping[str, str],
        command: Iterable[str],
    ) -> None:
        """Write what is known before the first step.

        Raises:
            FmlError: E0732, as all the others that write: the disk is full or read-only.
        """
        for name, text in origin.sources.items():
            self._write(name, text.encode("utf-8", errors="surrogateescape"))
        self.write_encodings(encodings)
        self._write_json("environment.json", surroundings(versions, command, self.began))
        self._write("metrics.csv", table_of(()))
        self._write_json(_OPTIONS, described(origin))

    def write_encodings(self, encodings: Mapping[str, Encoding]) -> None:
        """Write what turns new samples of data sets into fields."""
        self._write_json("data.json", statistics_and_classes(encodings))

    def append(self, points: Iterable[Point]) -> None:
        """Add figures, a line each, in one write behind the last whole line."""
        path = self.path / "metrics.csv"
        with writing(path, GO_ON), path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill has cut off the line that was written last
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
                file.seek(0, os.SEEK_END)
            file.write(lines_of(points).encode())

    def finish(self, parameters: Mapping[str, Array], ending: Ending) -> None:
        """Write what the run has come to; `figures.json` comes last and says that it is whole."""
        self._write("model.safetensors", save(dict(parameters), {"format": "fml"}), GO_ON)
        environment: dict[str, Any] = self._read("environment.json", json.loads)
        finished = datetime.now().astimezone().isoformat(timespec="seconds")
        self._write_json("environment.json", {**environment, "finished": finished}, GO_ON)
        self._write_json("figures.json", asdict(ending), GO_ON)

    def go_back(self, points: Iterable[Point]) -> None:
        """Make the run one that has not ended, with these figures and no others."""
        with writing(self.path, GO_ON):
            (self.path / "figures.json").unlink(missing_ok=True)
            for part in self.path.rglob(".*.part"):  # a kill has left it half written
                part.unlink(missing_ok=True)
        self._write("metrics.csv", table_of(points), GO_ON)

    def discard(self) -> None:
        """Remove the folder of a run that could not begin; Ctrl-C leaves no half of it."""
        while self.path.exists():
            with suppress(KeyboardInterrupt):
                # First, since what a kill leaves of the others is not enough to go on with.
                (self.path / _OPTIONS).unlink(missing_ok=True)
                shutil.rmtree(self.path)

    def _write_json(self, name: str, value: object, help: str = "") -> None:
        self._write(name, json_of(value), help)

    def _write(self, name: str, content: bytes, help: str = "") -> None:
        with writing(self.path / name, help):
            write_atomically(self.path / name, content)

    # --- reading -----------------------------------------------------------------------------

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Return the folder of a run that has parameters: it has ended, or has a checkpoint.

        Raises:
            FmlError: E0706, there is none at that path, or it was killed before its first step.
        """
        folder = RunFolder.find(path)
        folder.require_begun()
        if not (folder.has_ended or folder.checkpoint.is_file()):
            raise error(
                "E0706", f"the run `{folder.path}` has no parameters yet",
                notes=["it has not come to its first step, or was stopped before it"],
                help=f"wait until it has, or begin it anew: `fml train --resume {folder.path}`",
            )  # fmt: skip
        return folder

    @staticmethod
    def find(path: Path) -> "RunFolder":
        """Return the folder of a run, wherever the run stands.

        `a` is `runs/a`, unless there is a run at `a` itself.

        Raises:
            FmlError: E0706, there is none at that path.
        """
        folder = RunFolder(path)
        named = RunFolder(ROOT / path)
        if len(path.parts) == 1 and not folder.is_of_run and named.path.exists():
            folder = named
        if not folder.is_of_run:
            raise _no_run(folder.path)
        return folder

    @property
    def is_of_run(self) -> bool:
        """Whether a run was ever begun here."""
        return self.is_begun or any((self.path / n).is_file() for n in (_LOCK, "source.fml"))

    def require_begun(self) -> None:
        """Refuse a run of which it is not known what it was made of.

        Raises:
            FmlError: E0706, it was killed before that was written.
        """
        if not self.is_begun:
            raise error(
                "E0706", f"the run `{self.path}` was killed before it had begun",
                notes=["its file, options and seed had not been written"],
                help=f"remove its folder (`rm -r {self.path}`), and train again",
            )  # fmt: skip

    @property
    def is_begun(self) -> bool:
        """Whether all is written that is known before the first step."""
        return (self.path / _OPTIONS).is_file()

    @property
    def has_ended(self) -> bool:
        """Whether the run came to an end, by a rule or because it was told to."""
        return (self.path / "figures.json").is_file()

    def origin(self) -> Origin:
        """Read what the run was made of; of its texts, the main one."""
        origin = self._read(_OPTIONS, origin_of)
        text = self._read(origin.main, lambda content: content)
        return replace(origin, sources={origin.main: text})

    def ending(self) -> Ending:
        """Read how it ended."""
        return self._read("figures.json", ending_of)

    def encodings(self, names: Iterable[str]) -> dict[str, Encoding]:
        """Read what turns new samples of these data sets into fields."""
        return self._read("data.json", lambda text: encodings_of(text, names))

    def points(self) -> tuple[Point, ...]:
        """Read the figures that were recorded; a last line that was cut off is left out."""
        return self._read("metrics.csv", points_of)

    def parameters(self) -> dict[str, Array]:
        """Read the parameters and the states of layers."""
        try:
            return load((self.path / "model.safetensors").read_bytes())
        except (OSError, SafetensorError) as fault:
            raise self._damaged("model.safetensors", fault) from None

    def _read(self, name: str, parse: Callable[[str], T]) -> T:
        """Read a file of the run.

        Raises:
            FmlError: E0707, it is missing, or not what was written.
        """
        try:
            content = (self.path / name).read_bytes()
            return parse(content.decode("utf-8", errors="surrogateescape"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as fault:
            raise self._damaged(name, fault) from None

    def _damaged(self, name: str, fault: Exception) -> FmlError:
        return error(
            "E0707", f"`{self.path / name}` is missing or damaged", notes=[str(fault)],
            help="train again, or bring the file back",
        )  # fmt: skip


def _no_run(path: Path) -> FmlError:
    is_empty = path.is_dir() and not any(path.iterdir())
    left = "it is empty; if a run left it that was killed at once, remove it, and train again"
    what = "does not exist" if not path.exists() else "is not the folder of a run"
    near = did_you_mean(path.name, (run.name for run in ROOT.glob("*")))
    notes = [left] if is_empty else []
    return error("E0706", f"`{path}` {what}", notes=notes, help=near or _runs())


def _runs() -> str:
    """Say which runs there are, the latest first."""
    runs = sorted(ROOT.glob(f"*/{_OPTIONS}"), key=lambda p: p.stat().st_mtime, reverse=True)
    listed = ", ".join(f"`{path.parent}`" for path in runs[:3])
    return f"the latest runs are {listed}" if listed else "runs are in the folder runs/"
