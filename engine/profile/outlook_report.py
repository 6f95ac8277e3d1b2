"""What a run will do as tables for a terminal: tasks, memory, and the longest chain."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fml.engine.plan.task import Plan, Space, Task, Wait
from fml.engine.plan.text import staleness_of, stream_of
from fml.engine.profile.machine import TYPICAL
from fml.engine.profile.outlook import Expected, Outlook, Room
from fml.engine.profile.profile import OUTSIDE
from fml.engine.profile.report import duration, share, table
from fml.engine.summary import quantity

# More tasks than this are put together by layer, ever shorter, until so few rows are left.
_MOST_ROWS = 60
_MOST_OF_PATH = 20
# So many waits are written out; of more, the first, and how many there are besides.
_WAITS = 2


@dataclass(frozen=True, slots=True)
class _Row:
    """Tasks of one stream that are shown as one, with their places in the plan."""

    places: Sequence[int]
    stream: str
    tasks: Sequence[Expected]
    name: str

    @property
    def numbers(self) -> str:
        """Their places: `7`, `7-12`, or `7 ...` where others stand between."""
        first, count = self.places[0], len(self.places)
        if count == 1:
            return f"{first}"
        last = self.places[-1]
        return f"{first}-{last}" if last - first == count - 1 else f"{first} ..."

    @property
    def seconds(self) -> float:
        """The estimate of all of them."""
        return sum(task.seconds for task in self.tasks)


def text(outlook: Outlook, width: int, *, every: bool = False) -> str:
    """Write an outlook as lines of at most `width` letters."""
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, highlight=False, markup=False)
    console.print(report(outlook, every=every))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def report(outlook: Outlook, *, every: bool = False) -> RenderableType:
    """Return the tables of an outlook; with `every`, a row for each task however many they are."""
    parts: list[RenderableType] = [*_head(outlook)]
    if outlook.plan.streams.count > 1:
        parts.append(_streams(outlook))
    parts += [_tasks(outlook, every=every), _path(outlook, every=every), _memory(outlook)]
    parts += [Text(str(unread)) for unread in outlook.dry.unread]
    return Group(*parts)


def _head(outlook: Outlook) -> Iterator[Text]:
    plan, streams = outlook.plan, outlook.plan.streams
    named = f" of {outlook.dry.name}" if outlook.dry.name else ""
    count = len(plan.tasks)
    own = sum(task.mapped for task in plan.tasks)
    whose = _count(streams.learners or 0, "learner")
    each = f", {own:,} of them for each of {whose}" if streams.learners else ""
    yield Text(
        f"a step{named}: {_count(count, 'task')}{each}, on {_count(streams.count, 'stream')}"
    )
    if streams.learners:
        yield Text(f"learners: {streams.learners}, {staleness_of(plan)}")
    chain = duration(outlook.path.cost)
    least = f", of which {chain} lie on the longest chain" if outlook.path.links else ""
    yield Text(f"estimate: {duration(outlook.seconds)} of work{least}")
    flops = quantity(round(next(iter(TYPICAL.flops.values()))), 1000, "flop/s")
    yield Text(f"          ({TYPICAL.by} of a core, {flops} in f32; `fml profile` measures)")


def _streams(outlook: Outlook) -> Table:
    """What each stream has to do in a step; the order between them is what tasks wait for."""
    made = table("stream", "tasks", "estimate", "waits")
    found: dict[str, list[Expected]] = {}
    for expected in outlook.tasks:
        found.setdefault(stream_of(outlook.plan, expected.task), []).append(expected)
    for name, tasks in found.items():
        waits = sum(len(task.task.waits) for task in tasks)
        seconds = sum(task.seconds for task in tasks)
        many = f" (x {outlook.learners})" if tasks[0].task.mapped else ""
        made.add_row(name + many, f"{len(tasks):,}", duration(seconds), f"{waits:,}")
    return made


def _tasks(outlook: Outlook, *, every: bool) -> Table:
    rows = _rows(outlook.plan, outlook.tasks, every=every)
    has_streams = outlook.plan.streams.count > 1
    on_path = {link.task for link in outlook.path.links}
    more = ("stream", "after") if has_streams else ()
    told = [] if len(rows) == len(outlook.tasks) else ["`--all` shows every task"]
    if has_streams:
        told.append("after: tasks of other streams; `all`: of all learners; `-1`: the step before")
    told.append("*: on the longest chain")
    made = table("task", "", *more, "moves", "estimate", "", caption="; ".join(told))
    made.columns[0].no_wrap, made.columns[1].justify = True, "left"
    made.columns[1].no_wrap, made.columns[1].overflow = False, "fold"
    if has_streams:
        made.columns[2].justify = made.columns[3].justify = "left"
    for row in rows:
        cells = [row.stream.removeprefix("each "), _waits(outlook.plan, row)] if has_streams else []
        nbytes = quantity(sum(task.nbytes for task in row.tasks), 1024, "B")
        star = "*" if not on_path.isdisjoint(row.places) else ""
        made.add_row(row.numbers, row.name, *cells, nbytes, duration(row.seconds), star)
    return made


def _rows(plan: Plan, tasks: Sequence[Expected], *, every: bool) -> list[_Row]:
    """Each task, or if they are many, those of one stream, layer and phase.

    Neighbours at first; where layers take too many turns, all that they have in a step.
    """
    alone = [_Row((at,), stream_of(plan, t.task), (t,), _one(t)) for at, t in enumerate(tasks)]
    if every or len(alone) <= _MOST_ROWS:
        return alone
    depths = range(_deepest(tasks), 0, -1)
    rows: list[_Row] = []
    for apart, depth in ((apart, depth) for apart in (False, True) for depth in depths):
        rows = _grouped(alone, depth, apart=apart)
        if len(rows) <= _MOST_ROWS:
            break
    return rows


def _deepest(tasks: Iterable[Expected]) -> int:
    return max((task.layer.count(".") + 1 for task in tasks), default=1)


def _grouped(alone: Iterable[_Row], depth: int, *, apart: bool = False) -> list[_Row]:
    """Join rows of one stream, layer and phase, also those that stand `apart`."""
    groups: dict[object, list[_Row]] = {}
    turn, last = 0, None
    for row in alone:
        (task,) = row.tasks
        key = (row.stream, _shortened(task.layer, depth), task.phase)
        turn, last = turn + (key != last), key
        groups.setdefault(key if apart else (turn, key), []).append(row)
    return [_joined(group, depth) for group in groups.values()]


def _joined(rows: Sequence[_Row], depth: int) -> _Row:
    if len(rows) == 1:
        return rows[0]
    places = [place for row in rows for place in row.places]
    tasks = [task for row in rows for task in row.tasks]
    return _Row(places, rows[0].stream, tasks, _several(_shortened(tasks[0].layer, depth), tasks))


def _shortened(layer: str, depth: int) -> str:
    return ".".join(layer.split(".")[:depth])


def _one(expected: Expected) -> str:
    return expected.name if expected.layer == OUTSIDE else f"{expected.layer}: {expected.name}"


def _several(layer: str, tasks: Sequence[Expected]) -> str:
    words = f"{tasks[0].phase} ({len(tasks)})"
    return words if layer == OUTSIDE else f"{layer}: {words}"


def _waits(plan: Plan, row: _Row) -> str:
    inside = set(row.places)
    waits = dict.fromkeys(
        _wait(plan, expected.task, wait)
        for expected in row.tasks
        for wait in expected.task.waits
        if wait.before or wait.task not in inside
    )
    if len(waits) <= _WAITS:
        return ", ".join(waits)
    return f"{next(iter(waits))}, +{len(waits) - 1}"


def _wait(plan: Plan, task: Task, wait: Wait) -> str:
    """`12`, `12 all`, `12 all -1`: a central task waits for those of all learners."""
    is_of_all = plan.tasks[wait.task].mapped and (wait.all_learners or not task.mapped)
    before = f" -{wait.before}" if wait.before else ""
    return f"{wait.task}{' all' if is_of_all else ''}{before}"


def _path(outlook: Outlook, *, every: bool) -> Table:
    """The longest chain, neighbours of one layer and phase together."""
    plan = outlook.plan
    tasks = [outlook.tasks[link.task] for link in outlook.path.links]
    alone = [
        _Row((link.task,), stream_of(plan, t.task), (t,), _one(t))
        for link, t in zip(outlook.path.links, tasks, strict=True)
    ]
    rows = alone
    for depth in range(_deepest(tasks), 0, -1):
        if len(rows) <= _MOST_OF_PATH or (every and rows is not alone):
            break
        rows = _grouped(alone, depth)
    made = table(
        "longest chain", "tasks", "estimate", "share",
        caption="no number of cores or streams makes a step shorter than its longest chain",
    )  # fmt: skip
    for row in _heaviest(rows, None if every else _MOST_OF_PATH):
        seconds = row.seconds
        made.add_row(
            row.name, f"{len(row.tasks)}", duration(seconds), share(seconds, outlook.path.cost)
        )
    made.add_row("all of it", f"{len(tasks)}", duration(outlook.path.cost), "")
    return made


def _heaviest(rows: Sequence[_Row], most: int | None) -> Sequence[_Row]:
    """The rows that take longest, in their order; the others as one behind them."""
    if most is None or len(rows) <= most:
        return rows
    by_time = sorted(range(len(rows)), key=lambda n: rows[n].seconds, reverse=True)
    shown = sorted(by_time[:most])
    left = [task for n in sorted(by_time[most:]) for task in rows[n].tasks]
    others = _Row((), "", left, f"others, in {len(rows) - most} places")
    return [*(rows[n] for n in shown), others]


def _memory(outlook: Outlook) -> Table:
    """What a step touches, and what a run takes."""
    learners, memory = outlook.learners, outlook.dry.footprint
    headings = ("central", f"each of {_count(learners, 'learner')}") if learners else ()
    made = table("memory", *headings, "in all")

    def row(name: str, room: Room | None, nbytes: int) -> None:
        own = [room.central, room.per_learner] if room else []
        cells = [quantity(n, 1024, "B") if n else "" for n in own] or [""] * 2
        made.add_row(name, *(cells if learners else ()), quantity(nbytes, 1024, "B"))

    arena = outlook.plan.arena
    row("arena of a step: values on their way", outlook.room(Space.ARENA), arena)
    if memory.workspace > arena:
        row("  and for the largest of the other graphs", None, memory.workspace - arena)
    row("variables: parameters, slots, states", outlook.room(Space.VARIABLES), memory.variables)
    row("copies: to go back, the best, checkpoints", None, memory.copies)
    rest = memory.constants + memory.figures + memory.results
    row("constants, figures and results", None, rest)
    least = "at least, " if outlook.dry.unread else ""
    row(f"the run: {least}beyond the data", None, memory.nbytes)
    return made


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
