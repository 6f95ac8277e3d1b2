"""fml: a run whose listener waits for its turns."""

import json
import sys
import time
from pathlib import Path
from typing import TextIO

import fml
from fml.engine.runtime.watch import Point, Progress, Silent, Start
from target.race import Entry

FILE = Path(__file__).parent / "lenet.fml"


def run(entry: Entry, out: TextIO) -> None:
    """Train as `Program.train` does, until the parent closes the pipe."""
    setting = entry.setting
    turns = _Turns(out)
    trained = fml.load(FILE).train(
        "plain" if setting.learners == 1 else "averaged",
        seed=entry.seed,
        cores=entry.threads,
        on_event=turns,
        options={"m": setting.learners, "b": setting.batch, "rate": entry.rate},
    )
    if trained.failure is not None:
        turns.say(failure=trained.failure.message)


class _Turns(Silent):
    """Counts the time of steps, and waits for the parent between two turns."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._step = self._from = self._until = 0
        self._seconds = self._since = 0.0

    def started(self, _: Start) -> None:
        """Everything is compiled."""
        self.say()
        self._wait()

    def stepped(self, progress: Progress) -> None:
        """Count the time; the turn may be over."""
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since, self._step = now, progress.step
        if progress.step >= self._until:
            self.say(steps=progress.step - self._from, seconds=self._seconds)
            self._wait()

    def measured(self, points: tuple[Point, ...]) -> None:
        """A look ends the turn; what it took does not count."""
        values = {point.series: point.value for point in points}
        if "valid.accuracy" in values:
            # In f32, 4,500 of 5,000 are a little less than 0.9.
            valid, test = (round(values[f"{name}.accuracy"], 6) for name in ("valid", "test"))
            epoch, seconds = points[0].epoch, self._seconds
            self.say(step=self._step, epoch=epoch, seconds=seconds, valid=valid, test=test)
            self._wait()
        self._since = time.perf_counter()

    def say(self, **values: object) -> None:
        print(json.dumps(values), file=self._out, flush=True)

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._from, self._until = self._step, self._step + int(line)
        self._seconds, self._since = 0.0, time.perf_counter()
