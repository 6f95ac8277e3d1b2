"""`spirals(samples = 300, classes = 2)`: arms wound into each other, for demonstrations."""

from pathlib import Path

import numpy as np

from fml.engine.sources.table import Argument, Arguments, Source, Table


def make_spirals(arguments: Arguments, base: Path) -> Table:
    """Make columns x1 and x2, points along a class's arm, and label, the class number.

    An arm leads from the middle to radius 1 in `turns` turns; `noise` is the standard deviation
    of each coordinate.
    """
    samples = int(arguments["samples"])
    classes = int(arguments["classes"])
    turns = float(arguments["turns"])
    noise = float(arguments["noise"])
    random = np.random.Generator(np.random.Philox(int(arguments["seed"])))
    label = np.arange(samples) % classes
    radius = random.random(samples)
    angle = 2 * np.pi * (turns * radius + label / classes)
    x1 = radius * np.cos(angle) + noise * random.standard_normal(samples)
    x2 = radius * np.sin(angle) + noise * random.standard_normal(samples)
    return Table({"x1": x1, "x2": x2, "label": label}, "spirals")


SPIRALS = Source(
    "spirals",
    "Spiral arms wound into each other: columns x1, x2, label.",
    (
        Argument("samples", int, 300, least=1),
        Argument("classes", int, 2, least=1),
        Argument("turns", float, 1.0, least=0),
        Argument("noise", float, 0.02, least=0),
        Argument("seed", int, 0, least=0),
    ),
    make_spirals,
)
