"""Checkpoints: everything that continuing a run needs, in safetensors and JSON, never pickle.

A file is written under a temporary name, flushed to the disk and renamed, so that a kill at any
moment leaves the one before it whole. It carries a checksum of all that is read from it, so that
what a disk has altered is found.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fml.engine.files import write_atomically, writing
from fml.engine.ir.diagnostics import error
from fml.engine.ops.record import Array
from fml.engine.runtime.outcome import Scale
from fml.engine.runtime.watch import Point, Progress

FORMAT = 4
GO_ON = "once it can be written, go on with `fml train --resume`: nothing written before is lost"
_COUNTERS, _CHECKSUM = "fml", "checksum"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Variables by path, those that are kept so far, and the run's counters and series.

    `means` are the central models' states of layers as the learners have them on the average: those
    among the `variables` are what the steps go on from.
    """

    variables: Mapping[str, Array]
    kept: Mapping[str, Array]
    state: Mapping[str, Any]
    means: Mapping[str, Array] = field(default_factory=dict[str, Array])

    @property
    def model(self) -> dict[str, Array]:
        """All variables, those of the model as whoever applies it shall find them."""
        return {**self.variables, **self.means, **self.kept}

    @property
    def scale(self) -> Scale:
        """What the run's counters counted by."""
        # Those of runs without learners were once written without a word of them.
        names = (field.name for field in fields(Scale))
        return Scale(**{name: self.state[name] for name in names if name in self.state})

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
    """Write one file: arrays as `variables/...`, `kept/...` and `means/...`, the rest as JSON.

    Raises:
        FmlError: E0732, it cannot be written; the checkpoint before it is still there.
    """
    arrays = {f"variables/{name}": value for name, value in checkpoint.variables.items()}
    arrays |= {f"kept/{name}": value for name, value in checkpoint.kept.items()}
    arrays |= {f"means/{name}": value for name, value in checkpoint.means.items()}
    state = json.dumps({"format": FORMAT, **checkpoint.state})
    header = {_COUNTERS: state, _CHECKSUM: _checksum(arrays, state)}
    with writing(path, GO_ON):
        write_atomically(path, save(arrays, header))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FmlError: E0710, the file is missing or damaged, or of a format that is not known.
    """
    try:
        content = path.read_bytes()
        arrays, header = load(content), _header(content)
        state = json.loads(header[_COUNTERS])
        if state["format"] != FORMAT:
            raise error(
                "E0710", f"{path} is of a format that this version does not know",
                help="go on with the version of fml that wrote it, or train again",
            )  # fmt: skip
        if _checksum(arrays, header[_COUNTERS]) != header[_CHECKSUM]:
            raise ValueError("its checksum is wrong: the file was altered after it was written")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise error(
            "E0710", f"{path} is not a checkpoint that can be read", notes=[str(reason)],
            help="train again, or use another checkpoint of the run",
        ) from None  # fmt: skip
    variables, kept, means = (_part(arrays, f"{part}/") for part in ("variables", "kept", "means"))
    return Checkpoint(variables, kept, state, means)


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _checksum(arrays: Mapping[str, Array], state: str) -> str:
    """A hash of all that a checkpoint says, in an order that does not depend on the file's."""
    digest = hashlib.blake2b(state.encode(), digest_size=16)
    for name, value in sorted(arrays.items()):
        digest.update(f"\0{name}:{value.dtype}{value.shape};".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _header(content: bytes) -> dict[str, str]:
    """The metadata of safetensors: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header["__metadata__"]
