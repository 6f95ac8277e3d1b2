"""How a data set is cut: counts and shares, in order, at random, or class by class."""

import math

import numpy as np

from fml.engine.ir.diagnostics import error
from fml.engine.ir.training import Part, Split
from fml.engine.ops.record import Array


def cut(split: Split, rows: Array, labels: Array | None, name: str) -> dict[str, Array]:
    """Return the rows of each part, each in ascending order.

    `labels` are those of the rows, for `stratified`. Integers count and shares are rounded down;
    the rest goes to the first part.

    Raises:
        FmlError: E0506, more samples are asked for than there are.
    """
    counts = _counts(split.parts, len(rows), name)
    order = rows
    if split.method == "random":
        order = rows[_generator(split.seed).permutation(len(rows))]
    elif split.method == "stratified" and labels is not None:
        return _stratified(split, rows, labels, counts)
    parts: dict[str, Array] = {}
    start = 0
    for part, count in zip(split.parts, counts, strict=True):
        parts[part.name] = np.sort(order[start : start + count])
        start += count
    return parts


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def _counts(parts: tuple[Part, ...], total: int, name: str) -> list[int]:
    # 0.7 * 150 is 104.99999999999999: a share of whole percents is meant exactly.
    counts = [
        math.floor(round(p.amount * total, 6)) if p.is_share else int(p.amount) for p in parts
    ]
    if sum(counts) > total:
        raise error(
            "E0506", f"the splits of `{name}` ask for {sum(counts)} samples, and there are {total}",
            help="use percentages, or smaller counts",
        )  # fmt: skip
    if any(part.is_share for part in parts):
        counts[0] += total - sum(counts)
    return counts


def _stratified(split: Split, rows: Array, labels: Array, counts: list[int]) -> dict[str, Array]:
    """Every part gets each class in proportion; its total stays what it is without classes.

    Samples of a class are spread evenly over a common order by their rank in it, and the order is
    cut: neighbours in rank go to neighbouring places, so each part is within one sample a class.
    """
    generator = _generator(split.seed)
    shuffled = generator.permutation(len(rows))
    rank = np.empty(len(rows), np.float64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    parts: dict[str, Array] = {part.name: rows[:0] for part in split.parts}
    remaining = np.arange(len(rows))
    for part, count in zip(reversed(split.parts), reversed(counts), strict=True):
        taken = _proportional(labels, rank, remaining, count)
        parts[part.name] = np.sort(rows[taken])
        remaining = np.setdiff1d(remaining, taken)
    return parts


def _proportional(labels: Array, rank: Array, remaining: Array, count: int) -> Array:
    """Take `count` of the remaining samples, from each class its share by largest remainders."""
    classes, sizes = np.unique(labels[remaining], return_counts=True)
    exact = sizes * (count / max(len(remaining), 1))
    quota = np.floor(exact).astype(int)
    for place in np.argsort(-(exact - quota), kind="stable")[: count - int(quota.sum())]:
        quota[place] += 1
    taken = [
        sorted(remaining[labels[remaining] == label], key=lambda i: rank[i])[:n]
        for label, n in zip(classes, quota, strict=True)
    ]
    return np.asarray([i for part in taken for i in part], int)
