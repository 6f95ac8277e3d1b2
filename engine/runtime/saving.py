"""Saving a run as it goes on, and going on from what was saved."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from fml.engine.ir.diagnostics import error
from fml.engine.ops.record import Array
from fml.engine.runtime.checkpoint import Checkpoint, write_checkpoint
from fml.engine.runtime.feeding import Data
from fml.engine.runtime.fingerprint import fingerprint
from fml.engine.runtime.outcome import Scale
from fml.engine.runtime.variables import VariableStore

# After the first checkpoint, the next one comes when writing the one before it has taken no more
# than this share of the time, and at most one a second.
SHARE_FOR_CHECKPOINTS = 0.02
LEAST_SECONDS_BETWEEN_CHECKPOINTS = 1.0


class Saver:
    """Writes checkpoints of a run to a file, and tells one of this run from others.

    `path` is None for a run that is not saved.
    """

    def __init__(self, data: Data, store: VariableStore, scale: Scale) -> None:
        self.path: Path | None = None
        self._data, self._store, self._scale = data, store, scale
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return self.path is not None and time.monotonic() > self._next

    def save(
        self,
        state: Mapping[str, Any],
        kept: Mapping[str, Array],
        means: Mapping[str, Array],
    ) -> None:
        """Write a checkpoint, if the run is saved: the variables, and where it stands.

        `means` are the layers' states of the central models as those who open it shall find them.

        Raises:
            FmlError: E0732, it cannot be written.
        """
        if self.path is None:
            return
        begun = time.monotonic()
        variables = self._store.snapshot()
        write_checkpoint(self.path, Checkpoint(variables, kept, {**self._run, **state}, means))
        ended = time.monotonic()
        pause = (ended - begun) / SHARE_FOR_CHECKPOINTS
        self._next = ended + max(LEAST_SECONDS_BETWEEN_CHECKPOINTS, pause)

    @cached_property
    def _fingerprint(self) -> str:
        """That of the data; only runs that are kept, or go on, need it."""
        return fingerprint(self._data)

    @property
    def _run(self) -> dict[str, Any]:
        """What stays the same for the whole run."""
        return {**asdict(self._scale), "data": self._fingerprint}

    def require_same_run(self, checkpoint: Checkpoint) -> None:
        """See to it that a checkpoint is of the same plan, data, seed, learners and devices.

        Raises:
            FmlError: E0711, it is of another run.
        """
        # Those of runs without learners were once written without a word of them.
        state = {"learners": 1, "devices": 1, **checkpoint.state}
        scale = self._scale
        mine = {name: value.shape for name, value in self._store.snapshot().items()}
        same = {
            "the number of learners differs": scale.learners == state["learners"],
            "the number of devices differs": scale.devices == state["devices"],
            "the variables differ": mine == {n: v.shape for n, v in checkpoint.variables.items()},
            "the seed differs": scale.seed == state["seed"],
            "the steps in an epoch differ": scale.steps_per_epoch == state["steps_per_epoch"],
            "the data differ": self._fingerprint == state["data"],
        }
        for what, agrees in same.items():
            if not agrees:
                raise error(
                    "E0711",
                    f"the checkpoint is of another run: {what}",
                    help="resume with the file, the options, the data and the seed of that run",
                )
