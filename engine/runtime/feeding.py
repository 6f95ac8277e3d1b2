"""Mini-batches: each epoch's order is a function of seed and epoch, whatever came before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.source import Span
from fml.engine.ir.training import Draws, Feed, Measure, Training
from fml.engine.ops.record import Array


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some rows of an array, which stays as it is, perhaps on disk, until some are asked for."""

    array: Array
    rows: Array

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, which: slice | Array) -> Array:
        """Return some of the rows, in memory."""
        return np.asarray(self.array[self.rows[which]])


Samples: TypeAlias = Array | Selection
# All samples, by data set, split and field.
Data: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Samples]]]


class Batches:
    """The batches of one feed: an epoch is one pass, its last short batch is dropped.

    Learners draw disjoint batches from one order: the samples of a step lie behind each other in
    it, first those of the first learner.

    Attributes:
        samples: how many there are.
        size: samples of a batch, of one learner's where there are learners.
        per_step: samples of a step, those of all learners.
        is_of_learners: whether each learner has batches of its own.
    """

    def __init__(
        self, feed: Feed, fields: Mapping[str, Samples], seed: int, learners: int | None = None
    ) -> None:
        """`fields` are all samples of the split; None is a plan without learners.

        Raises:
            FmlError: E0520, a batch is larger than the split, or the split is empty.
        """
        self.feed = feed
        self.fields = {name: fields[name] for name in feed.fields}
        self.samples = len(next(iter(self.fields.values())))
        if shortage := _shortage(feed, self.samples, learners):
            raise FmlError([shortage])
        self.is_of_learners = learners is not None
        self.size = self.samples // (learners or 1) if feed.batch is None else feed.batch
        self.per_step = self.size * (learners or 1)
        self._shape = (self.size,) if learners is None else (learners, self.size)
        self._seed = seed
        self._epoch = -1
        self._order: Array | None = None

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.samples // self.per_step

    def rows(self, step: int, count: int) -> Array:
        """Return which samples the batches of `count` steps have.

        That is i64[count, size], and with learners i64[count, learners, size].
        """
        made = np.empty((count, *self._shape), np.int64)
        done = 0
        while done < count:
            epoch, place = divmod(step + done, self.per_epoch)
            here = min(count - done, self.per_epoch - place)
            chosen = self._order_of(epoch)[place * self.per_step : (place + here) * self.per_step]
            made[done : done + here] = chosen.reshape(here, *self._shape)
            done += here
        return made

    def own(self, rows: Array, learner: int) -> Array:
        """Return which of the samples that `rows` has are a learner's: i64[count, size]."""
        return rows[:, learner] if self.is_of_learners else rows

    def _order_of(self, epoch: int) -> Array:
        if self._order is None or (self.feed.shuffle and epoch != self._epoch):
            # Philox is counter-based: seed and epoch are its key, so any epoch can be begun anew.
            generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            shuffled = self.feed.shuffle
            self._order = (
                generator.permutation(self.samples) if shuffled else np.arange(self.samples)
            )
            self._epoch = epoch  # last: what is cut short before is done anew
        return self._order


def batches_of(training: Training, data: Data, seed: int, learners: int | None) -> list[Batches]:
    """Return the batches of all feeds of a plan.

    Raises:
        FmlError: E0520 and E0521, there are none.
    """
    made: list[Batches] = []
    for feed in training.feeds:
        samples = samples_in(data, feed.data, feed.split, "train on", feed.span)
        own = learners if feed.is_of_learners else None
        made.append(Batches(feed, samples, seed, own))
    return made


def require_samples(
    name: str, splits: Mapping[str, Mapping[str, Samples]], draws: Iterable[Draws]
) -> None:
    """See to it that a data set has a batch for every feed, and a sample wherever plans measure.

    Learners are counted as one device has them, those of `auto` as one.

    Raises:
        FmlError: E0520 and E0521, all that a run of the plans would be refused for.
    """
    found: list[Diagnostic] = []
    data = {name: splits}
    for drawn in draws:
        learners = 1 if drawn.learners is None else drawn.learners.per_device or 1
        for use in (*drawn.feeds, *drawn.measures):
            if use.data != name or (isinstance(use, Measure) and use.optional):
                continue
            purpose = "train on" if isinstance(use, Feed) else "measure on"
            try:
                samples = samples_in(data, name, use.split, purpose, use.span)
                if isinstance(use, Feed):
                    own = learners if use.is_of_learners else None
                    found += filter(None, [_shortage(use, _count(samples), own)])
            except FmlError as fault:
                found += fault.diagnostics
    if found:
        raise FmlError(found)


def has_samples(data: Data, name: str, split: str) -> bool:
    """Whether a split exists and is not empty."""
    return _count(data.get(name, {}).get(split, {})) > 0


def samples_in(
    data: Data, name: str, split: str, purpose: str, span: Span | None = None
) -> Mapping[str, Samples]:
    """Return all samples of a split, by field.

    Raises:
        FmlError: E0521, the split does not exist or is empty; `purpose` ends the message
            (`measure on`).
    """
    if has_samples(data, name, split):
        return data[name][split]
    counts = {known: _count(fields) for known, fields in data.get(name, {}).items()}
    listed = ", ".join(f"`{known}` has {count}" for known, count in counts.items())
    raise FmlError([Diagnostic(
        "E0521",
        f"`{name}` has no samples in the split `{split}` to {purpose}",
        (Mark(span),) if span else (),
        (f"of its samples, {listed}",) if listed else (),
        "give it a larger share" if split in counts else did_you_mean(split, counts),
    )])  # fmt: skip


def _count(fields: Mapping[str, Samples]) -> int:
    return len(next(iter(fields.values()))) if fields else 0


def _shortage(feed: Feed, samples: int, learners: int | None) -> Diagnostic | None:
    """Say why no batch of a feed can be made of its split; nothing if one can."""
    wanted = (feed.batch or 1) * (learners or 1)
    if samples and wanted <= samples:
        return None
    marks = (Mark(feed.span),) if feed.span else ()
    split = f"the split `{feed.split}` of `{feed.data}`"
    if not samples:
        return Diagnostic("E0520", f"{split} is empty", marks)
    notes = (f"it has {samples} samples",)
    if learners is None or learners == 1:
        message = f"a batch of {feed.batch} is larger than {split}"
        help = f"use `batch({samples})` or less, or leave it out"
    elif feed.batch is None or learners > samples:
        message = f"{learners} learners are more than {split} has samples for"
        help = f"use {samples} learners or fewer"
    else:
        message = f"{learners} batches of {feed.batch}, one a learner, are larger than {split}"
        help = f"use `batch({samples // learners})` or less, or fewer learners"
    return Diagnostic("E0520", message, marks, notes, help)
