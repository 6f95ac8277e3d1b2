"""How a data set is cut: counts and shares, in order, at random, or class by class."""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from fml.engine.ir.diagnostics import error
from fml.engine.ir.training import Part, Split
from fml.engine.ops.record import Array


def cut(split: Split, rows: Array, labels: Array | None, name: str) -> dict[str, Array]:
    """Return the rows of each part, in ascending order; no row is in two parts.

    `labels` are those of the rows, for `stratified`; `name` is the data set's. Counts are
    counts, and shares are rounded down; where there are shares, the rest goes to the first part.

    Raises:
        FmlError: E0506, more samples are asked for than there are.
    """
    counts = _counts(split.parts, len(rows), name)
    names = [part.name for part in split.parts]
    if split.method == "stratified" and labels is not None:
        pieces = _stratified(split.seed, labels, counts)
    else:
        ends = list(accumulate(counts))
        order = (
            _shuffled(split.seed, len(rows)) if split.method == "random" else np.arange(len(rows))
        )
        pieces = [order[end - count : end] for end, count in zip(ends, counts, strict=True)]
    return {name: rows[np.sort(piece)] for name, piece in zip(names, pieces, strict=True)}


def _shuffled(seed: int, count: int) -> Array:
    # Philox is the same everywhere; its key has 128 bits, which negative seeds wrap round to.
    return np.random.Generator(np.random.Philox(key=seed % 2**128)).permutation(count)


def _counts(parts: tuple[Part, ...], total: int, name: str) -> list[int]:
    # 0.29 * 100 is 28.999999999999996: a share of whole percents is meant exactly.
    counts = [
        math.floor(round(p.amount * total, 6)) if p.is_share else int(p.amount) for p in parts
    ]
    if sum(counts) > total:
        listed = ", ".join(f"{p.name} {n}" for p, n in zip(parts, counts, strict=True))
        raise error(
            "E0506", f"the splits of `{name}` ask for {sum(counts)} samples, and there are {total}",
            notes=[f"they are {listed}"], help="use percentages, or smaller counts",
        )  # fmt: skip
    if any(part.is_share for part in parts):
        counts[0] += total - sum(counts)
    return counts


def _stratified(seed: int, labels: Array, counts: list[int]) -> list[Array]:
    """Give every part each class in proportion; its total stays what it is without classes."""
    shuffled = _shuffled(seed, len(labels))
    classes = [shuffled[labels[shuffled] == label] for label in np.unique(labels)]
    left = len(labels) - sum(counts)
    table = _proportional([len(rows) for rows in classes], [*counts, left])
    cuts = [np.split(rows, np.cumsum(row)[:-1]) for rows, row in zip(classes, table, strict=True)]
    none = shuffled[:0]  # there may be no class at all
    return [np.concatenate([none, *(cut[p] for cut in cuts)]) for p in range(len(counts))]


def _proportional(sizes: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """Return how many of each class go to each part, within one of size * count / total.

    Rows add up to the sizes, columns to the counts. Such a rounding of a table always exists
    (Bacharach, "Matrix Rounding Problems", Management Science 12, 1966): every cell is rounded
    down, and what is missing in its row and column is matched along augmenting paths.
    """
    total = max(sum(sizes), 1)
    table = [[size * count // total for count in counts] for size in sizes]
    room = [count - sum(row[part] for row in table) for part, count in enumerate(counts)]
    raised: list[list[int]] = [[] for _ in counts]  # the classes that have one more, by part

    def raise_one(row: int, seen: set[int]) -> bool:
        """Give a class one more in some part, moving others to parts that are not seen yet."""
        rests = [sizes[row] * count % total for count in counts]
        for part in sorted(range(len(counts)), key=lambda part: -rests[part]):
            if not rests[part] or part in seen or row in raised[part]:
                continue
            seen.add(part)
            if len(raised[part]) < room[part]:
                raised[part].append(row)
                return True
            for place, other in enumerate(raised[part]):
                if raise_one(other, seen):
                    raised[part][place] = row
                    return True
        return False

    for row, size in enumerate(sizes):
        for _ in range(size - sum(table[row])):
            raise_one(row, set())
    for part, rows in enumerate(raised):
        for row in rows:
            table[row][part] += 1
    return table
