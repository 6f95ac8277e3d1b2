"""`metrics.csv` of a run: a line a figure, readable after a kill at any moment."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from fml.engine.runtime.files import writing
from fml.engine.runtime.watch import Point, Silent

HEADER = ("step", "epoch", "samples", "seconds", "series", "value")


class MetricsFile(Silent):
    """Appends figures as they are taken: a listener of the run.

    Figures are flushed as soon as they are written, so that other programs can follow the file.
    What the disk refuses is E0753.
    """

    def __init__(self, path: Path) -> None:
        """Begin a file, or go on with one after its last whole line."""
        self._path = path
        with writing(path):
            self._file = path.open("a+b")
            self._file.seek(0)
            end = self._file.read().rfind(b"\n") + 1
            self._file.truncate(end)
        if end == 0:
            self._write([HEADER])

    def measured(self, points: tuple[Point, ...]) -> None:
        """Write the figures that were taken; each reads back to the same bits."""
        self._write(
            (p.step, repr(float(p.epoch)), p.samples, repr(float(p.seconds)), p.series,
             repr(float(p.value)))
            for p in points
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: Iterable[Iterable[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with writing(self._path):
            self._file.write(text.getvalue().encode())
            self._file.flush()


def read_metrics(path: Path) -> tuple[Point, ...]:
    """Read figures in the order in which they were taken, without a line that was cut short.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not of this form.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1].decode()
    rows = csv.reader(io.StringIO(whole, newline=""))
    if tuple(next(rows, HEADER)) != HEADER:
        raise ValueError(f"its first line is not {','.join(HEADER)}")
    return tuple(_point(row) for row in rows)


def _point(row: list[str]) -> Point:
    if len(row) != len(HEADER):
        raise ValueError(f"a line has {len(row)} cells instead of {len(HEADER)}: {','.join(row)}")
    step, epoch, samples, seconds, series, value = row
    return Point(series, int(step), float(epoch), int(samples), float(seconds), float(value))
