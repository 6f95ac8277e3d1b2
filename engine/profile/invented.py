"""Samples in the place of data that are not there: the types and sizes are those declared."""

import numpy as np

from fml.engine.ir.training import Dataset, Training
from fml.engine.ir.types import Label, TensorType
from fml.engine.ops.record import Array
from fml.engine.runtime.dry_run import used_splits

# A split has at most so many bytes, but at least a batch; and so many batches where nothing says
# how many samples it has: an epoch of one step would have Python shuffle at every step.
_BYTES, _BATCHES = 1 << 26, 64


def invented(training: Training, dataset: Dataset) -> dict[str, dict[str, Array]]:
    """Make up samples of all splits that a plan uses, by split and field.

    There are as many as the file writes, as far as they take little memory.
    """
    per_sample = sum(field.type.nbytes for field in dataset.fields)
    batches = [feed.batch or 1 for feed in training.feeds if feed.data == dataset.name]
    batch = max(batches, default=1)
    most = max(batch, _BYTES // max(per_sample, 1))
    written = dataset.split.counts if dataset.split else {}
    rng = np.random.default_rng(0)
    return {
        split: {
            field.name: _entries(rng, field.type, min(written.get(split, _BATCHES * batch), most))
            for field in dataset.fields
        }
        for split in used_splits(training, dataset)
    }


def _entries(rng: np.random.Generator, type: TensorType, samples: int) -> Array:
    shape = (samples, *type.sizes)
    if type.is_float:
        return rng.standard_normal(shape).astype(type.dtype)
    # Whole numbers may be places in a table, of which nothing tells the length: 0 and 1 are there.
    classes = (type.element.classes.size if isinstance(type.element, Label) else None) or 2
    return rng.integers(0, classes, shape).astype(type.dtype)
