"""Progress of a run: a moving line on a terminal, else a plain line every few seconds."""

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO, cast

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fml.console import print_diagnostics, write_at_once
from fml.engine.ir.training import StopAfter, StopPatience, Training, Unit
from fml.engine.runtime.footprint import Footprint
from fml.engine.runtime.watch import TOLERANCE, Best, Listener, Point, Progress, Silent, Start
from fml.engine.summary import quantity

_SECONDS_BETWEEN_LINES = 2.0
_SECONDS_BEFORE_MEASURING_IS_SAID = 0.5
# What Ctrl-C is answered.
_STOPPING = "stopping: the final figures are taken; Ctrl-C again stops without them"
# Of the moving line, in columns.
_GAP, _SHORTEST_BAR, _LONGEST_BAR = 2, 8, 24


def listener_for(training: Training, console: Console) -> Listener:
    """Return the listener that suits a console."""
    return LiveLine(training, console) if console.is_terminal else PlainLines(training, console)


@contextmanager
def measuring_alone(training: Training, console: Console) -> Generator[Listener]:
    """Say how far a large split is, where figures are taken and nothing is trained."""
    if not console.is_terminal:
        yield PlainLines(training, console)
        return
    line = _MeasuringLine()
    with Live(console=console, transient=True, refresh_per_second=10, get_renderable=line.drawn):
        yield line


class _Report:
    """What both kinds of progress say."""

    def __init__(self, training: Training) -> None:
        stops = training.stops
        self._stops = [stop for stop in stops if isinstance(stop, StopAfter)]
        self._keep = training.keep
        self._watched = [training.keep.series] if training.keep else []
        self._watched += [stop.series for stop in stops if isinstance(stop, StopPatience)]
        self._best = Best(training.keep.highest) if training.keep else None
        self._steps_per_epoch = 1
        self.steps: float | None = None

    def start(self, start: Start) -> None:
        """Work out how many steps there are at most, and take over what was best before."""
        self._steps_per_epoch = start.steps_per_epoch
        self.steps = most_steps(self._stops, start.steps_per_epoch)
        if self._best is not None and start.best is not None:
            self._best.offer(*start.best)

    def note(self, points: Sequence[Point]) -> None:
        """Remember the best figure of those that `keep` watches."""
        if self._best is None or self._keep is None:
            return
        for point in points:
            if point.series == self._keep.series:
                self._best.offer(point.value, point.step)

    @property
    def ends_within_an_epoch(self) -> bool:
        """Whether the run is limited to steps that are no whole epochs."""
        return self.steps is not None and self.steps % self._steps_per_epoch != 0

    def epoch(self, progress: Progress) -> str:
        """`epoch 12/60`, or `epoch 12` of a run that does not end with one."""
        has_total = self.steps is not None and not self.ends_within_an_epoch
        total = f"/{(self.steps or 0) / self._steps_per_epoch:.0f}" if has_total else ""
        return f"epoch {int(progress.epoch)}{total}"

    def step(self, progress: Progress) -> str:
        """`step 12`, or `step 12/50` of a run that ends within an epoch."""
        total = f"/{self.steps:,.0f}" if self.ends_within_an_epoch else ""
        return f"step {progress.step:,}{total}"

    def place(self, progress: Progress) -> str:
        """The epoch or the step, whichever the run is limited to."""
        return self.step(progress) if self.ends_within_an_epoch else self.epoch(progress)

    def figures(self, latest: Mapping[str, float]) -> str:
        """`train.loss 0.123, valid.accuracy 0.95, best 0.96 in epoch 7`."""
        words = [f"{name} {value:.4g}" for name, value in latest.items()]
        return ", ".join([*words, *([self.best()] if self.best() else [])])

    def by_importance(self, latest: Mapping[str, float]) -> list[str]:
        """The figures that `keep` and `stop` watch, what is minimised, then all others."""
        minimised = [series for series in latest if series.startswith("train.")]
        order = dict.fromkeys([*self._watched, *minimised, *latest])
        # All of one width, or the line would jump.
        return [f"{name} {latest[name]:#.4g}" for name in order if name in latest]

    def best(self) -> str:
        """`best 0.96 in epoch 7` or `at step 40`, nothing where the plan keeps nothing."""
        if self._best is None or self._best.value is None:
            return ""
        epoch, steps_beyond = divmod(int(self._best.at), self._steps_per_epoch)
        when = f"at step {self._best.at:,.0f}" if steps_beyond else f"in epoch {epoch}"
        return f"best {self._best.value:.4g} {when}"


def memory(footprint: Footprint) -> str:
    """`memory:  3.41 MiB beyond the data`."""
    return f"memory:  {quantity(footprint.nbytes, 1024, 'B')} beyond the data"


def most_steps(stops: Sequence[StopAfter], steps_per_epoch: int) -> float | None:
    """Return after how many steps `stop after` ends a run at the latest, where that is known."""
    steps = {Unit.EPOCHS: steps_per_epoch, Unit.STEPS: 1}
    durations = [stop.duration for stop in stops if stop.duration.unit in steps]
    return min((math.ceil(d.amount * steps[d.unit] - TOLERANCE) for d in durations), default=None)


class _Measuring:
    """The measurement that is under way, and for how long."""

    def __init__(self) -> None:
        self._words, self._began = "", 0.0

    def note(self, split: str, done: int, samples: int) -> None:
        """Take note of how far it is."""
        if not done:
            self._began = time.monotonic()
        self._words = (
            f"measuring {split}: {done:,} of {samples:,} samples" if done < samples else ""
        )

    def words(self, seconds: float) -> str:
        """What to say of one that has taken so long already; nothing of any other."""
        return self._words if time.monotonic() - self._began >= seconds else ""


class _MeasuringLine(Silent):
    """The line of a measurement that has taken a while, and nothing else."""

    def __init__(self) -> None:
        self._measuring = _Measuring()

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Keep how far it is."""
        self._measuring.note(split, done, samples)

    def drawn(self) -> RenderableType:
        """What the terminal shows now."""
        words = self._measuring.words(_SECONDS_BEFORE_MEASURING_IS_SAID)
        return Text(words, no_wrap=True, overflow="ellipsis") if words else Group()


class PlainLines:
    """A line every few seconds, without control characters: for files and logs."""

    def __init__(self, training: Training, console: Console) -> None:
        """Write to a console that is no terminal."""
        self._report, self._console = _Report(training), console
        self._written = -_SECONDS_BETWEEN_LINES
        self._measuring = _Measuring()
        self._pending: Progress | None = None

    def started(self, start: Start) -> None:
        """Write what the run will take, and learn the length of an epoch."""
        self._report.start(start)
        print_diagnostics(start.warnings, self._console)
        print(memory(start.footprint), file=self._console.file, flush=True)

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

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Write a line every few seconds."""
        self._measuring.note(split, done, samples)
        words, now = self._measuring.words(_SECONDS_BETWEEN_LINES), time.monotonic()
        if words and now - self._written >= _SECONDS_BETWEEN_LINES:
            self._written = now
            print(words, file=self._console.file, flush=True)

    def noted(self, words: str) -> None:
        """Write it."""
        print(words, file=self._console.file, flush=True)

    def interrupted(self) -> None:
        """Say what happens now."""
        write_at_once(cast("TextIO", self._console.file), _STOPPING)

    def stopped(self, progress: Progress, why: str) -> None:
        """Write the last line, unless it has been written."""
        if self._pending is not None:
            self._write(progress, progress.latest)

    def finished(self) -> None:
        """Nothing: all lines are written."""

    def _write(self, progress: Progress, latest: Mapping[str, float]) -> None:
        place = f"{self._report.epoch(progress)}, {self._report.step(progress)}"
        # Not through rich, which would break a long line.
        figures = self._report.figures(latest)
        print(f"{place}: {figures}" if figures else place, file=self._console.file, flush=True)


class LiveLine:
    """One moving line: the place, a bar, and of all else what the terminal has room for."""

    def __init__(self, training: Training, console: Console) -> None:
        """Draw on a terminal."""
        self._report, self._console = _Report(training), console
        self._progress, self._noted = Progress(0, 0.0, 0, 0.0, {}), time.monotonic()
        self._measuring = _Measuring()
        self._is_stopping = False
        self._live = Live(
            console=console, transient=True, refresh_per_second=10, get_renderable=self._line
        )

    def started(self, start: Start) -> None:
        """Write what the run will take, and show the line."""
        self._report.start(start)
        print_diagnostics(start.warnings, self._console)
        self._console.print(memory(start.footprint))
        self.stepped(start.progress)
        self._live.start(refresh=True)

    def stepped(self, progress: Progress) -> None:
        """Keep where the run stands; the line is drawn anew a few times a second."""
        self._progress, self._noted = progress, time.monotonic()

    def measured(self, points: tuple[Point, ...]) -> None:
        """Remember the best."""
        self._report.note(points)

    def measuring(self, split: str, done: int, samples: int) -> None:
        """Keep how far it is."""
        self._measuring.note(split, done, samples)

    def noted(self, words: str) -> None:
        """Write it above the line."""
        self._live.console.print(words, highlight=False, markup=False)

    def interrupted(self) -> None:
        """Say what happens now: in the line, which is drawn anew a few times a second."""
        self._is_stopping = True

    def stopped(self, progress: Progress, why: str) -> None:
        """Keep where the run stands; the line stays until the final figures are taken."""
        self.stepped(progress)

    def finished(self) -> None:
        """Take the line away: the closing table takes its place."""
        self._live.stop()
        if self._is_stopping:
            self._console.print(_STOPPING, soft_wrap=True)

    def _line(self) -> RenderableType:
        report, progress = self._report, self._progress
        if self._is_stopping:
            words = [report.place(progress), _STOPPING]
            return Text("  ".join(words)[: self._console.width - 1])
        if measuring := self._measuring.words(_SECONDS_BEFORE_MEASURING_IS_SAID):
            return Text(f"{report.place(progress)}  {measuring}"[: self._console.width - 1])
        seconds = int(progress.seconds + time.monotonic() - self._noted)
        first, *figures = [*report.by_importance(progress.latest), ""]
        bar = "" if report.steps is None else "-" * _SHORTEST_BAR
        words = [
            report.place(progress),
            first,
            str(timedelta(seconds=seconds)),
            *figures,
            report.best(),
            bar,
            report.epoch(progress) if report.ends_within_an_epoch else report.step(progress),
        ]
        shown, left = fitting(words, self._console.width - 1)  # a full line may be wrapped
        cells: list[RenderableType] = [Text(word) for word in shown if word != bar]
        if bar in shown and report.steps is not None:
            width = min(_SHORTEST_BAR + left, _LONGEST_BAR)
            cells.insert(1, ProgressBar(report.steps, progress.step, width))
        line = Table.grid(padding=(0, _GAP, 0, 0))
        line.add_row(*cells)
        return line


def fitting(words: Sequence[str], width: int) -> tuple[list[str], int]:
    """Choose, in order of importance, what stands side by side in a width, and what is left of it.

    The first is always there, cut off where it must be.
    """
    shown, left = [words[0][:width]], width - cell_len(words[0])
    for word in filter(None, words[1:]):
        if cell_len(word) + _GAP <= left:
            shown.append(word)
            left -= cell_len(word) + _GAP
    return shown, left
