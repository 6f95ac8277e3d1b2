"""`blobs(samples = 300, classes = 3)`: clouds of points in the plane, for demonstrations."""

from pathlib import Path

import numpy as np

from fml.engine.sources.table import Argument, Arguments, Source, Table


def make_blobs(arguments: Arguments, base: Path) -> Table:
    """Make columns x1 and x2, normal around a class's centre, and label, the class number.

    The centres stand on a circle of radius 1; `spread` is the standard deviation around them.
    """
    samples = int(arguments["samples"])
    classes = int(arguments["classes"])
    spread = float(arguments["spread"])
    random = np.random.Generator(np.random.Philox(int(arguments["seed"])))
    label = np.arange(samples) % classes
    angle = 2 * np.pi * label / classes
    x1 = np.cos(angle) + spread * random.standard_normal(samples)
    x2 = np.sin(angle) + spread * random.standard_normal(samples)
    return Table({"x1": x1, "x2": x2, "label": label}, "blobs")


BLOBS = Source(
    "blobs",
    "Clouds of points in the plane: columns x1, x2, label.",
    (
        Argument("samples", int, 300, least=1),
        Argument("classes", int, 3, least=1),
        Argument("spread", float, 0.3, least=0),
        Argument("seed", int, 0, least=0),
    ),
    make_blobs,
)
