"""`line(samples = 100, slope = 2, intercept = 1)`: points beside a line, for demonstrations."""

from pathlib import Path

import numpy as np

from fml.engine.sources.table import Argument, Arguments, Source, Table


def make_line(arguments: Arguments, base: Path) -> Table:
    """Make columns a, uniform in -1 .. 1, and b = slope a + intercept + normal noise."""
    samples = int(arguments["samples"])
    noise = float(arguments["noise"])
    random = np.random.Generator(np.random.Philox(int(arguments["seed"])))
    slope, intercept = float(arguments["slope"]), float(arguments["intercept"])
    a = random.uniform(-1, 1, samples)
    b = slope * a + intercept + noise * random.standard_normal(samples)
    return Table({"a": a, "b": b}, "line")


LINE = Source(
    "line",
    "Points beside a line: columns a, b.",
    (
        Argument("samples", int, 100, least=1),
        Argument("slope", float, 2.0),
        Argument("intercept", float, 1.0),
        Argument("noise", float, 0.1, least=0),
        Argument("seed", int, 0, least=0),
    ),
    make_line,
)
