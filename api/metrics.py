"""The figures of a run as they were recorded."""

from collections.abc import Iterable, Sequence
from typing import overload

from fml.engine.runtime.watch import Point
from fml.named import Named

__all__ = ["Metrics", "Point", "Series", "metrics_of"]


class Series(Sequence[Point]):
    """A figure over time: `valid.accuracy`, point by point."""

    def __init__(self, name: str, points: Iterable[Point]) -> None:
        """Keep the points in the order in which they were taken."""
        self.name = name
        self._points = tuple(points)

    @property
    def values(self) -> list[float]:
        """The values alone, in order."""
        return [point.value for point in self._points]

    @property
    def steps(self) -> list[int]:
        """The number of steps taken at each point."""
        return [point.step for point in self._points]

    @property
    def epochs(self) -> list[float]:
        """The number of epochs passed at each point; a fraction within an epoch."""
        return [point.epoch for point in self._points]

    @property
    def last(self) -> float:
        """The latest value."""
        return self._points[-1].value

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        """Return a point, or some of them."""
        return self._points[index]

    def __len__(self) -> int:
        """Count the points."""
        return len(self._points)

    def __repr__(self) -> str:
        """Say what is in it, in one line."""
        points = "1 point" if len(self) == 1 else f"{len(self)} points"
        return f"<Series {self.name}: {points}, last {self.last:.6g}>"


class Metrics(Named[Series]):
    """All series of a run by name."""

    def __init__(self, series: Iterable[Series]) -> None:
        """Keep the series in the order of their first values."""
        super().__init__("series", ((one.name, one) for one in series))

    def __repr__(self) -> str:
        """Say what is in it, in one line."""
        figures = ", ".join(f"{name} {series.last:.4g}" for name, series in self.items())
        return f"<Metrics {figures or 'none yet'}>"


def metrics_of(points: Iterable[Point]) -> Metrics:
    """Sort points into their series, in the order in which they were taken."""
    series: dict[str, list[Point]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    return Metrics(Series(name, taken) for name, taken in series.items())
