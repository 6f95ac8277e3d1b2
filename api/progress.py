"""Progress of a run: a moving line on a terminal, else a plain line every few seconds."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from fml.engine.ir.training import StopAfter, Training, Unit
from fml.engine.runtime.watch import Best, Listener, Point, Progress

_SECONDS_BETWEEN_LINES = 2.0
_SECONDS_BETWEEN_UPDATES = 0.1


def listener_for(training: Training, console: Console) -> Listener:
    """Return the listener that suits a console."""
    return LiveLine(training, console) if console.is_terminal else PlainLines(training, console)


class _Report:
    """What both kinds of progress say."""

    def __init__(self, training: Training) -> None:
        self._stops = [stop for stop in training.stops if isinstance(stop, StopAfter)]
        self._keep = training.keep
        self._best = Best(training.keep.highest) if training.keep else None
        self.epochs: float | None = None

    def start(self, steps_per_epoch: int) -> None:
        """Work out how many epochs there are at most."""
        self.epochs = most_epochs(self._stops, steps_per_epoch)

    def note(self, points: Sequence[Point]) -> None:
        """Remember the best figure of those that `keep` watches."""
        if self._best is None or self._keep is None:
            return
        for point in points:
            if point.series == self._keep.series:
                self._best.offer(point.value, point.epoch)

    def place(self, progress: Progress) -> str:
        """`epoch 12/60`."""
        total = "" if self.epochs is None else f"/{self.epochs:.4g}"
        return f"epoch {int(progress.epoch)}{total}"

    def figures(self, latest: Mapping[str, float]) -> str:
        """`train.loss 0.123, valid.accuracy 0.95, best 0.96 in epoch 7`."""
        words = [f"{name} {value:.4g}" for name, value in latest.items()]
        if self._best is not None and self._best.value is not None:
            words.append(f"best {self._best.value:.4g} in epoch {self._best.at:.4g}")
        return ", ".join(words)


def most_epochs(stops: Sequence[StopAfter], steps_per_epoch: int) -> float | None:
    """Return after how many epochs `stop after` ends a run at the latest, where that is known."""
    per_epoch = {Unit.EPOCHS: 1, Unit.STEPS: steps_per_epoch}
    durations = [stop.duration for stop in stops if stop.duration.unit in per_epoch]
    known = [d.amount / per_epoch[d.unit] for d in durations]
    return min(known, default=None)


class PlainLines:
    """A line every few seconds, without control characters: for files and logs."""

    def __init__(self, training: Training, console: Console) -> None:
        """Write to a console that is no terminal."""
        self._report, self._console = _Report(training), console
        self._written = -_SECONDS_BETWEEN_LINES
        self._pending: Progress | None = None

    def started(self, progress: Progress, steps_per_epoch: int) -> None:
        """Learn the length of an epoch."""
        self._report.start(steps_per_epoch)

    def stepped(self, progress: Progress) -> None:
        """Keep where the run stands."""
        self._pending = progress

    def measured(self, points: tuple[Point, ...]) -> None:
        """Write a line if the one before was written a while ago."""
        self._report.note(points)
        now = time.monotonic()
        if self._pending is not None and now - self._written >= _SECONDS_BETWEEN_LINES:
            self._written = now
            latest = {**self._pending.latest, **{p.series: p.value for p in points}}
            self._write(self._pending, latest)
            self._pending = None

    def stopped(self, progress: Progress, why: str) -> None:
        """Write the last line, unless it has been written."""
        if self._pending is not None:
            self._write(progress, progress.latest)

    def _write(self, progress: Progress, latest: Mapping[str, float]) -> None:
        place = f"{self._report.place(progress)}, step {progress.step}"
        # Not through rich, which would break a long line.
        print(f"{place}: {self._report.figures(latest)}", file=self._console.file, flush=True)


class LiveLine:
    """A bar over the epochs with the latest figures behind it."""

    def __init__(self, training: Training, console: Console) -> None:
        """Draw on a terminal."""
        self._report = _Report(training)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("step {task.fields[step]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._updated = 0.0

    def started(self, progress: Progress, steps_per_epoch: int) -> None:
        """Show the bar."""
        self._report.start(steps_per_epoch)
        place = self._report.place(progress)
        self._task = self._bar.add_task(place, total=self._report.epochs, step=0, figures="")
        self._bar.start()

    def stepped(self, progress: Progress) -> None:
        """Move the bar, a few times a second."""
        now = time.monotonic()
        if now - self._updated > _SECONDS_BETWEEN_UPDATES and self._task is not None:
            self._updated = now
            self._show(self._task, progress)

    def measured(self, points: tuple[Point, ...]) -> None:
        """Remember the best."""
        self._report.note(points)

    def stopped(self, progress: Progress, why: str) -> None:
        """Take the bar away: the closing table takes its place."""
        self._bar.stop()

    def _show(self, task: TaskID, progress: Progress) -> None:
        self._bar.update(
            task,
            completed=progress.epoch,
            description=self._report.place(progress),
            step=progress.step,
            figures=self._report.figures(progress.latest),
        )
