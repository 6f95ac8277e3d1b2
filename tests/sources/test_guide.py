"""Every example of docs/data.md loads, given the files that it speaks of."""

import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.modules import load_module
from fml.dsl.program import lower_dataset
from fml.dsl.values import DataValue
from fml.engine.ir.source import Source
from fml.engine.sources.load import load
from fml.engine.sources.read import SOURCES
from tests.sources.datasets import EXAMPLES

PAGE = (EXAMPLES.parent / "docs" / "data.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```fml\n(.*?)```", PAGE, re.DOTALL)
GIVEN = {"points": {"x": np.zeros((5, 2)), "y": [0, 1, 2, 1, 0]}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of; the shipped tables are found by `$FML_DATA`."""
    monkeypatch.setenv("FML_DATA", str(EXAMPLES))
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 17, (50, 8, 8), np.uint8), np.arange(50) % 10
    np.savez(tmp_path / "digits.npz", image=images, label=labels)
    np.save(tmp_path / "waves.npy", random.normal(size=(20, 16)).astype(np.float32))
    weather = {
        "pressure": random.normal(1013, 8, 30), "humidity": random.integers(20, 100, 30),
        "tomorrow": ["rain", "sun", "rain"] * 10,
    }  # fmt: skip
    parquet.write_table(pyarrow.table(weather), tmp_path / "weather.parquet")
    for kind in ("ash", "oak"):
        (tmp_path / "leaves" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (16, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "leaves" / kind / f"{number:03}.png")
    (tmp_path / "poem.txt").write_text("the rose is red, the violet's blue\n" * 9, encoding="utf-8")
    fashion = tmp_path / "fashion-mnist"
    fashion.mkdir()
    for prefix, count in {"train": 60_000, "t10k": 100}.items():
        size = count.to_bytes(4, "big")
        head = bytes([0, 0, 8, 3]) + size + bytes([0, 0, 0, 28]) * 2
        (fashion / f"{prefix}-images-idx3-ubyte").write_bytes(head + bytes(784 * count))
        (fashion / f"{prefix}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + size + bytes(count)
        )
    return tmp_path


@pytest.mark.parametrize("text", SNIPPETS, ids=lambda text: text.split("\n")[0])
def test_an_example_loads(folder: Path, text: str) -> None:
    module = load_module(Source("data.md", text), folder).module
    for declaration in module.file.declarations:
        assert isinstance(declaration, ast.Data)
        dataset = lower_dataset(Session(module, {}), DataValue(declaration, module))
        data = load(dataset, GIVEN.get(dataset.name), folder)
        assert all(len(next(iter(part.values()))) for part in data.splits.values())


def test_every_source_and_argument_is_in_the_table_and_in_an_example() -> None:
    rows = {row.split("`")[1]: row for row in PAGE.splitlines() if row.startswith("| `")}
    assert rows.keys() == {*SOURCES, "given"}
    for name, source in SOURCES.items():
        assert all(f"`{argument.name}`" in rows[name] for argument in source.arguments)
        assert any(f"= {name}(" in snippet for snippet in SNIPPETS), name
