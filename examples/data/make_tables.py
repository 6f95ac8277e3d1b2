"""Writes the tables beside it: three that ship with scikit-learn, and two made of random numbers.

Run with scikit-learn installed: `python examples/data/make_tables.py [FOLDER]`. The same bytes come
out every time. Sources and licences are in README.md.
"""

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def iris() -> str:
    """Fisher's irises: four measures in centimetres and the species."""
    data = load_iris()
    names = [str(data.target_names[label]) for label in data.target]
    header = ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"]
    return table(header, ([*x.tolist(), name] for x, name in zip(data.data, names, strict=True)))


def breast_cancer() -> str:
    """Thirty measures of cell nuclei and the diagnosis."""
    data = load_breast_cancer()
    header = [str(name).replace(" ", "_") for name in data.feature_names]
    names = [str(data.target_names[label]) for label in data.target]
    rows = ([*x.tolist(), name] for x, name in zip(data.data, names, strict=True))
    return table([*header, "diagnosis"], rows)


def digits() -> bytes:
    """Handwritten digits, 8 x 8 grey values 0 to 16 and the digit; no header, compressed."""
    data = load_digits()
    rows = ([*map(int, x), int(y)] for x, y in zip(data.data, data.target, strict=True))
    return gzip.compress(table([], rows).encode(), mtime=0)


def houses(samples: int = 500) -> str:
    """Made up: living area in square metres, bedrooms, and a price in euros."""
    random = np.random.default_rng(20)
    area = np.clip(random.gamma(9.0, 13.0, samples), 25, 400).round(1)
    bedrooms = np.clip((area / 35 + random.normal(0, 0.7, samples)).round(), 1, 8).astype(int)
    noise = random.normal(0, 24_000, samples)
    price = (40_000 + 2_900 * area - 6_000 * bedrooms + noise).clip(30_000).round(-2).astype(int)
    rows = zip(area.tolist(), bedrooms.tolist(), price.tolist(), strict=True)
    return table(["living_area", "bedrooms", "price"], rows)


def setosa() -> str:
    """Of the irises, petal length and width, and whether the species is setosa: 1 or 0."""
    data = load_iris()
    rows = ([*x[2:].tolist(), int(y == 0)] for x, y in zip(data.data, data.target, strict=True))
    return table(["petal_length", "petal_width", "is_setosa"], rows)


def write(folder: Path) -> None:
    """Write all tables."""
    for name, make in (("iris", iris), ("breast_cancer", breast_cancer), ("houses", houses),
                       ("setosa", setosa)):  # fmt: skip
        (folder / f"{name}.csv").write_text(make(), encoding="utf-8", newline="")
    (folder / "digits.csv.gz").write_bytes(digits())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
