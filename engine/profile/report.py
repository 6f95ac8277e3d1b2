"""A profile as tables for a terminal."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fml.engine.ir.types import F32
from fml.engine.profile.machine import F64
from fml.engine.profile.profile import Cost, Profile, TaskCost
from fml.engine.summary import quantity

# Columns that are left out where lines have fewer letters: phases, the share of the peak, rates.
_WIDE, _USUAL, _NARROW = 100, 72, 56
_UNBROKEN = 10_000


def text(profile: Profile, width: int | None, top: int) -> str:
    """Write a profile as lines of at most `width` letters; without it, no line is broken."""
    letters = _UNBROKEN if width is None else width
    file = StringIO()
    console = Console(file=file, width=letters, color_system=None, highlight=False, markup=False)
    console.print(report(profile, letters, top))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def report(profile: Profile, width: int, top: int) -> RenderableType:
    """Return the tables of a profile for a console that has `width` letters in a line."""
    parts: list[RenderableType] = [*_head(profile), _where(profile)]
    parts.append(_costs("layer", profile.layers.items(), profile, width))
    operations = list(profile.operations.items())
    parts.append(_costs("operation", operations[:top], profile, width, len(operations) - top))
    parts.append(_tasks(profile, width, top))
    if profile.measures:
        parts.append(_measures(profile, width))
    parts += [Text(f"note: {note}") for note in profile.notes]
    return Group(*parts)


def _head(profile: Profile) -> Iterator[Text]:
    cost, machine = profile.total, profile.machine
    rate = cost.flops / profile.seconds if profile.seconds else 0.0
    samples = f", {profile.samples / profile.seconds:,.0f} samples/s" if profile.samples else ""
    named = f" of {profile.plan}" if profile.plan else ""
    yield Text(
        f"step{named}: {duration(profile.seconds)}{samples}, "
        f"{quantity(round(cost.flops), 1000, 'flop')} at {quantity(round(rate), 1000, 'FLOP/s')}"
    )
    copies = ", ".join(
        f"{rate / 1e9:.0f} in {quantity(nbytes, 1024, 'B')}"
        for nbytes, rate in machine.copies.items()
    )
    yield Text(
        f"core: {machine.flops[F32] / 1e9:.0f} GFLOP/s in f32 and {machine.flops[F64] / 1e9:.0f} "
        f"in f64, by {machine.by}; copies at GB/s: {copies}"
    )
    yield Text(
        f"measured on {profile.device}: {profile.steps:,} steps, {profile.at_once:,} in a native "
        f"call; {duration(profile.preparing)} before the first to compile and plan"
    )


def table(*headings: str, caption: str = "") -> Table:
    """Return an empty table whose first column is names and whose others are numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption or None)
    made.caption_justify = "left"
    for number, heading in enumerate(headings):
        is_name = number == 0
        made.add_column(
            heading,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold" if is_name else "ellipsis",
        )
    return made


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in a cell: words, and those that are too long for a line are broken behind dots."""

    name: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        least = max(map(len, _parts(self.name, 0)), default=0)
        return Measurement(least, len(self.name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = [""]
        for part in _parts(self.name, options.max_width):
            if len(lines[-1] + part.rstrip()) > options.max_width:
                lines.append("")
            lines[-1] += part
        yield Text("\n".join(line.rstrip() for line in lines if line))


def _parts(name: str, width: int) -> Iterator[str]:
    """Between what a name may be broken: a blank and a dot belong to what they end."""
    for word in re.findall(r"\S+\s*", name):
        yield from [word] if len(word.rstrip()) <= width else re.findall(r"[^.]+\.?", word)


def _where(profile: Profile) -> Table:
    """What a step consists of, to 100 %."""
    made = table("a step", "time", "share")
    whole = profile.seconds
    rows = [(f"tasks, {phase.value}", cost.seconds) for phase, cost in profile.phases.items()]
    rows += [(f"give {given.name}", given.seconds) for given in profile.given]
    rows.append(("keep figures", profile.figures))
    rows.append(("the way between, and noise", profile.between))
    rows.append(("Python, to choose samples", profile.python))
    for name, seconds in rows:
        made.add_row(_Name(name), duration(seconds), share(seconds, whole))
    return made


def _costs(
    heading: str, rows: Iterable[tuple[str, Cost]], profile: Profile, width: int, more: int = 0
) -> Table:
    """Rows that add up to the tasks; `more` of them are left out."""
    phases = list(profile.phases) if width >= _WIDE else []
    rates = _rate_headings(width)
    made = table(
        heading, "time", "share", *rates,
        *(phase.value for phase in phases),
        caption=f"and {more} more" if more > 0 else "",
    )  # fmt: skip
    for name, cost in rows:
        spent = [cost.phases.get(phase, 0.0) for phase in phases]
        numbers = _rates(cost, profile)[: 2 + len(rates)]
        made.add_row(_Name(name), *numbers, *(duration(s) if s else "" for s in spent))
    return made


def _rate_headings(width: int) -> tuple[str, ...]:
    """The columns behind time and share that lines of `width` letters have room for."""
    headings = ("GFLOP/s", "GB/s", "of peak")
    return headings if width >= _USUAL else headings[:2] if width >= _NARROW else ()


def _tasks(profile: Profile, width: int, top: int) -> Table:
    is_wide, headings = width >= _WIDE, _rate_headings(width)
    more = len(profile.tasks) - top
    made = table(
        "task", "time", "share", *headings, *(("alone",) if is_wide else ()),
        caption=f"and {more} more; `--top {len(profile.tasks)}` shows all" if more > 0 else "",
    )  # fmt: skip
    for task in profile.slowest[:top]:
        cost = profile.cost(task)
        rates = _rates(cost, profile)
        if task.is_conditional:
            rates = [*rates[:2], "", "", "not always"]
        numbers = rates[: 2 + len(headings)]
        made.add_row(
            _Name(_name(task, profile)), *numbers, *((duration(task.alone),) if is_wide else ())
        )
    return made


def _name(task: TaskCost, profile: Profile) -> str:
    """Its name; where others have kernels, whether it has none."""
    is_odd = not task.is_native and any(other.is_native for other in profile.tasks)
    return f"{task.name} (numpy)" if is_odd else task.name


def _rates(cost: Cost, profile: Profile) -> list[str]:
    """The cells of a row: time, share, GFLOP/s, GB/s, share of the nearer peak and which it is."""
    seconds = cost.seconds
    flops = _three_digits(cost.flops / seconds / 1e9) if seconds and cost.flops else ""
    nbytes = _three_digits(cost.nbytes / seconds / 1e9) if seconds and cost.nbytes else ""
    peak = "arithmetic" if cost.is_compute_bound else "memory"
    # A peak is what was measured, and caches may give more: that is said, and no number for it.
    reached = f"{cost.of_peak:.0%}" if cost.of_peak <= 1 else "100%+"
    of_peak = f"{reached} {peak}" if seconds and cost.least else ""
    return [duration(seconds), share(seconds, profile.seconds), flops, nbytes, of_peak]


def _measures(profile: Profile, width: int) -> Table:
    headings = ("samples", "time", "of all", "time")[: 4 if width >= _NARROW else 2]
    made = table("measure", *headings)
    for measure in profile.measures:
        numbers = (
            f"{measure.samples:,}",
            duration(measure.seconds),
            f"{measure.of:,}",
            f"about {duration(measure.whole)}" if measure.of > measure.samples else "",
        )
        name = f"{', '.join(measure.series)} on {measure.name}"
        made.add_row(_Name(name), *numbers[: len(headings)])
    return made


def share(seconds: float, whole: float) -> str:
    """Write a part of a whole in percent."""
    return f"{seconds / whole:.1%}" if whole else ""


def duration(seconds: float) -> str:
    """Write a time with three digits and the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three_digits(number: float) -> str:
    """Three digits, of which at most two stand behind the point."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"
