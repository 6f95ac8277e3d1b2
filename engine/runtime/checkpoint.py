"""Checkpoints: everything that continuing a run needs, in safetensors and JSON, never pickle.

A file is written under a temporary name, flushed to the disk and renamed, so that a kill at any
moment leaves the one before it whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from fml.engine.files import write_atomically, writing
from fml.engine.ir.diagnostics import error
from fml.engine.ops.record import Array
from fml.engine.runtime.watch import Point, Progress

FORMAT = 3
GO_ON = "once it can be written, go on with `fml train --resume`: nothing written before is lost"
_COUNTERS = "fml"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Variables by path, those that are kept so far, and the run's counters and series."""

    variables: Mapping[str, Array]
    kept: Mapping[str, Array]
    state: Mapping[str, Any]

    @property
    def progress(self) -> Progress:
        """Where the run stood."""
        step: int = self.state["step"]
        return Progress(
            step,
            step / self.state["steps_per_epoch"],
            step * self.state["batch"],
            self.state["seconds"],
            self.state["record"]["latest"],
        )

    def covers(self, point: Point) -> bool:
        """Whether a figure had been taken when this was written."""
        step: int = self.state["step"]
        return point.step < step or (point.step == step and self.state["looked"])


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one file: arrays as `variables/...` and `kept/...`, all else as JSON in its header.

    Raises:
        FmlError: E0732, it cannot be written; the checkpoint before it is still there.
    """
    arrays = {f"variables/{name}": value for name, value in checkpoint.variables.items()}
    arrays |= {f"kept/{name}": value for name, value in checkpoint.kept.items()}
    state = json.dumps({"format": FORMAT, **checkpoint.state})
    with writing(path, GO_ON):
        write_atomically(path, save(arrays, {_COUNTERS: state}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FmlError: E0710, the file is missing or damaged, or of a format that is not known.
    """
    try:
        content = path.read_bytes()
        arrays = load(content)
        state = json.loads(_header(content)[_COUNTERS])
    except (OSError, SafetensorError, ValueError, KeyError) as reason:
        raise error(
            "E0710", f"{path} is not a checkpoint that can be read", notes=[str(reason)],
            help="train again, or use another checkpoint of the run",
        ) from None  # fmt: skip
    if state.get("format") != FORMAT:
        raise error("E0710", f"{path} is of a format that this version does not know")
    return Checkpoint(_part(arrays, "variables/"), _part(arrays, "kept/"), state)


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _header(content: bytes) -> dict[str, str]:
    """The metadata of safetensors: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header["__metadata__"]
