"""Writes random images of CIFAR-10's shape, to try `resnet.fml` without the data.

`python examples/data/make_images.py examples/cifar10.npz`. There is nothing in them to learn.
"""

import sys
from pathlib import Path

import numpy as np


def write(file: Path, train: int = 50_000, test: int = 1_000) -> None:
    """Write so many images, uint8 [32, 32, 3], and labels 0 to 9, of two splits."""
    random = np.random.default_rng(32)
    arrays: dict[str, np.ndarray] = {}
    for split, samples in (("train", train), ("test", test)):
        arrays[f"{split}_image"] = random.integers(0, 256, (samples, 32, 32, 3), np.uint8)
        arrays[f"{split}_label"] = random.integers(0, 10, samples)
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
