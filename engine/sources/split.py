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
    pieces: list[Array] = []
    # From the last to the first, as the first takes the rest.
    for count in reversed(counts):
        quotas = _proportional([len(rest) for rest in classes], count)
        taken = [rest[:n] for rest, n in zip(classes, quotas, strict=True)]
        classes = [rest[n:] for rest, n in zip(classes, quotas, strict=True)]
        pieces.append(np.concatenate(taken))
    return pieces[::-1]


def _proportional(sizes: Sequence[int], count: int) -> list[int]:
    """Share `count` out in proportion to sizes by the method of largest remainders (Hamilton)."""
    total = max(sum(sizes), 1)
    quotas = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda c: -(sizes[c] * count % total))
    for place in by_remainder[: count - sum(quotas)]:
        quotas[place] += 1
    return quotas
