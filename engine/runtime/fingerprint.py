"""Fingerprints of data: whether a run that goes on has the samples that it began with."""

from hashlib import blake2b

import numpy as np

from fml.engine.ops.record import Array
from fml.engine.runtime.feeding import Data, Samples

_ROWS = 1024


def fingerprint(data: Data) -> str:
    """Return a hash of every split: names, shapes, dtypes, and rows spread evenly over it.

    At most 1,024 rows of a field are looked at, so that large files are not read as a whole.
    """
    digest = blake2b(digest_size=16)
    for name, splits in sorted(data.items()):
        for split, fields in sorted(splits.items()):
            for field, samples in sorted(fields.items()):
                rows = _spread(samples)
                shape = (len(samples), *rows.shape[1:])
                digest.update(f"{name}.{split}.{field}:{rows.dtype}{shape};".encode())
                digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _spread(samples: Samples) -> Array:
    count = len(samples)
    if count <= _ROWS:
        return samples[:]
    return samples[np.linspace(0, count - 1, _ROWS).astype(np.int64)]
