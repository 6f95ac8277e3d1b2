"""The tables, in markdown."""

import json
import statistics
from collections.abc import Sequence

from target.settings import RESULTS, TARGETS, Run, Setting, best, next_rate, runs_of


def table(settings: Sequence[Setting]) -> str:
    """Epochs to the targets, and seconds where they have been taken."""
    return "\n".join([*_epochs(settings), "", *_seconds(settings)])


def _epochs(settings: Sequence[Setting]) -> list[str]:
    lines = [
        "| | rates tried, epochs to 91% | best rate | epochs to 90% | to 91% | test accuracy then"
        " | samples a second |",
        "|---|---|---|---|---|---|---|",
    ]
    path = RESULTS / "speed.json"
    speed = json.loads(path.read_text()) if path.exists() else {}
    for setting in settings:
        runs = runs_of("epochs", setting)
        tried = ", ".join(f"{r.rate:g}: {_end(r)}" for r in sorted(runs, key=lambda r: r.rate))
        if runs and next_rate(setting, runs) is not None:
            tried += " (unfinished)"
        first = best(runs)
        cells = [_label(setting), tried or "not measured"]
        if first is None:
            cells += [""] * 4
        else:
            looks = [first.reached(target) for target in TARGETS]
            cells.append(f"{first.rate:g}")
            cells += [f"{look.epoch:.1f}" for look in looks if look]
            cells.append(", ".join(f"{look.test:.4f}" for look in looks if look))
        rates = [statistics.median(turns) for turns in speed.get(setting.name, {}).values()]
        cells.append(f"{max(rates):,.0f}" if rates else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _seconds(settings: Sequence[Setting]) -> list[str]:
    lines = [
        "| | rate | seconds to 90% | test accuracy then | seconds to 91% | test accuracy then"
        " | epochs to 91% |",
        "|---|---|---|---|---|---|---|",
    ]
    fastest: dict[str, list[float]] = {}
    for setting in settings:
        runs = runs_of("seconds", setting)
        if not runs:
            continue
        cells = [_label(setting), f"{runs[0].rate:g}"]
        for target in TARGETS:
            looks = [run.reached(target) for run in runs]
            there = [look for look in looks if look]
            missing = f" ({len(looks) - len(there)} never)" if len(there) < len(looks) else ""
            cells.append(_median([look.seconds for look in there], ".0f") + missing)
            cells.append(_median([look.test for look in there], ".4f"))
            if target == TARGETS[-1] and not missing:
                middle = statistics.median(look.seconds for look in there)
                fastest.setdefault(setting.side, []).append(middle)
        cells.append(" ".join(f"{run.epochs:.1f}" for run in runs))
        lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        return ["Seconds: not measured."]
    if len(fastest) == 2:
        ratio = min(fastest["fml"]) / min(fastest["torch"])
        lines += ["", f"Time to 91% over PyTorch's: {ratio:.2f} (at most 0.5)."]
    return lines


def _median(values: Sequence[float], form: str) -> str:
    """`12 (11 12 14)`: the median, and all."""
    if not values:
        return "-"
    each = " ".join(format(value, form) for value in sorted(values))
    return f"{format(statistics.median(values), form)} ({each})"


def _end(run: Run) -> str:
    if run.reached(TARGETS[-1]):
        return f"{run.epochs:.1f}"
    if run.ended.startswith("not finite"):
        return "not finite"
    return f"over {run.looks[-1].epoch:.1f}"


def _label(setting: Setting) -> str:
    if setting.side == "torch":
        return f"PyTorch, batch {setting.batch}"
    if setting.learners == 1:
        return f"fml, 1 learner of {setting.batch}"
    return f"fml, {setting.learners} learners of {setting.batch}"
