"""The tables of the examples: as their script writes them, and fit for what they teach."""

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_digits

DATA = Path(__file__).parent.parent.parent / "examples" / "data"
TABLES = sorted(p.name for p in DATA.iterdir() if p.suffix in {".csv", ".gz"})


def test_the_tables_are_what_their_script_writes(tmp_path: Path) -> None:
    runpy.run_path(str(DATA / "make_tables.py"))["write"](tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == TABLES
    for name in TABLES:
        made, shipped = (tmp_path / name).read_bytes(), (DATA / name).read_bytes()
        if name.endswith(".gz"):  # zlib's own output differs from version to version
            made, shipped = gzip.decompress(made), gzip.decompress(shipped)
        assert made == shipped, name


def test_compressed_tables_hold_no_time() -> None:
    assert (DATA / "digits.csv.gz").read_bytes()[4:8] == bytes(4)


def test_every_table_has_its_source_and_licence() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip("` "): cells[2:]
        for line in readme.splitlines()
        if len(cells := line.split("|")) > 4
    }
    for name in TABLES:
        assert all(cell.strip() for cell in rows[name][:3]), name


def test_digits_are_those_of_scikit_learn() -> None:
    with gzip.open(DATA / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=int)
    digits = load_digits()
    assert (table[:, :64] == digits.data).all()
    assert (table[:, 64] == digits.target).all()


def test_a_line_separates_the_setosas() -> None:
    """So the perceptron must converge: a margin of 1 is feasible as a linear program."""
    table = np.loadtxt(DATA / "setosa.csv", delimiter=",", skiprows=1)
    sign = 2 * table[:, 2] - 1
    features = np.column_stack([table[:, :2], np.ones(len(table))])
    found = linprog(
        np.zeros(3), -sign[:, None] * features, -np.ones(len(table)), bounds=(None, None)
    )
    assert found.success


def test_prices_of_houses_follow_their_area() -> None:
    table = np.loadtxt(DATA / "houses.csv", delimiter=",", skiprows=1)
    assert len(table) == 500
    features = np.column_stack([table[:, :2], np.ones(len(table))])
    weights, residual, *_ = np.linalg.lstsq(features, table[:, 2], rcond=None)
    # The made-up law of make_tables.py: 2,900 a square metre, less 6,000 a bedroom, noise 24,000.
    assert weights[0] == pytest.approx(2900, rel=0.1)
    assert weights[1] == pytest.approx(-6000, abs=5000)
    assert np.sqrt(residual[0] / 500) == pytest.approx(24_000, rel=0.1)
